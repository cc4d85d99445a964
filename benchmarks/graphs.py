"""Scores of GSMN and SGM against the bare matrix products that they need, in processor seconds.

The floor makes the products of the systems' own form (inner products of the blocks, Grams, kernels, edges and layers)
in the same blocks of pairs, and nothing else: no attention, cosines, means or activations. `--small` shrinks the sizes,
to see that it runs.
"""

from __future__ import annotations

import sys
import time

import torch
from common import alternate, save
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base, gsmn, sgm
from crossmodal.models.parts.attention import in_blocks
from crossmodal.models.parts.encoders import valid_mask

ROUNDS = 9
DIM, REGIONS, WORDS = 1024, 36, 15


def drawn(count: int, length: int, dim: int, seed: int) -> Tensor:
    """(count, length, dim) unit vectors."""
    return F.normalize(torch.randn(count, length, dim, generator=torch.Generator().manual_seed(seed)), dim=2)


def of_gsmn(network: gsmn.Network, images: Tensor, edges: Tensor, sentences: Tensor) -> Tensor:
    """The matrix products of GSMN's scores of images (A, M, d) with sentences (B, L, d)."""
    s, (a, m, _), (b, n, _) = network.s, images.shape, sentences.shape
    k = s.parts
    regions, words = (x.unflatten(2, (k, -1)) for x in (images, sentences))
    products = regions.flatten(0, 1).transpose(0, 1) @ words.permute(2, 3, 1, 0).flatten(2)  # (K, A·M, L·B)
    one = products[0].view(a, m, n * b)
    for region, word in zip(regions.unbind(2), words.unbind(2), strict=True):  # as they stay in a processor's cache
        (region @ region.transpose(1, 2)) @ one
        (word @ word.transpose(1, 2)) @ products[0].view(b, n, a * m)
    outputs = []
    for convolution, nodes in ((network.visual, a * m * b), (network.textual, a * n * b)):
        vectors = products.flatten()[: nodes * k].view(nodes, k)
        outputs.append(vectors @ torch.cat([kernel.weight for kernel in convolution.kernels]).T)
        convolution.out(convolution.hidden(outputs[-1]))
    if s.propagation == "neighbours":
        p = s.kernels
        of_regions = outputs[0].view(a, p, m, -1)
        edges.unflatten(2, (m, p)).permute(0, 3, 1, 2).contiguous() @ of_regions
        products[0].flatten()[: b * n * n].view(b, n, n) @ outputs[1].view(b, n, -1)
    return products.new_zeros(a, b)


def of_sgm(images: Tensor, sentences: Tensor) -> Tensor:
    """The matrix products of both levels of SGM."""
    for one, other in zip(images.chunk(2, 2), sentences.chunk(2, 2), strict=True):
        one.flatten(0, 1) @ other.flatten(0, 1).T
    return images.new_zeros(len(images), len(sentences))


def cases(small: bool) -> dict:
    """Name to the system's scoring and its floor."""
    n_images, n_sentences, dim = (20, 40, 64) if small else (40, 200, DIM)
    images, sentences = drawn(n_images, REGIONS, dim, 0), drawn(n_sentences, WORDS, dim, 1)
    corners = torch.rand(n_images, REGIONS, 2, 2, generator=torch.Generator().manual_seed(2)).sort(2).values
    made = {}
    for propagation in ("own", "neighbours"):
        torch.manual_seed(0)
        settings = gsmn.Settings(dim=dim, propagation=propagation)
        model = gsmn.Model(settings, base.Context({"image": (REGIONS, dim)}, 10)).eval()
        (network,) = model.networks.values()
        boxes = corners.flatten(2)
        joined = torch.cat([images, boxes], 2)
        weighted = torch.cat([images, network.region_weights(boxes, valid_mask(images))], 2)

        def floor(
            x: Tensor, y: Tensor, image_mask: Tensor, sentence_mask: Tensor, network: gsmn.Network = network
        ) -> Tensor:
            dim = y.shape[2]
            return of_gsmn(network, x[..., :dim], x[..., dim:], y)

        made[f"gsmn {propagation}"] = (
            lambda model=model, joined=joined: model.score(joined, sentences),
            lambda floor=floor, model=model, weighted=weighted: in_blocks(
                floor, weighted, sentences, valid_mask(images), valid_mask(sentences), *model._block(weighted)
            ),
        )
    model = sgm.Model(sgm.Settings(dim=dim, units=64, word_embedding="seeded"), base.Context({"image": (4, 8)}, 10))
    both = [torch.cat([x, x.flip(1)], 2) for x in (images, sentences)]
    made["sgm"] = (
        lambda: model.score(*both),
        lambda: in_blocks(lambda x, y, *_: of_sgm(x, y), *both, valid_mask(both[0]), valid_mask(both[1])),
    )
    return made


def main() -> None:
    torch.set_num_threads(1)
    small = "--small" in sys.argv
    found: dict = {"torch": torch.__version__}
    with torch.inference_mode():
        for name, (scores, floor) in cases(small).items():
            scores()  # what is made once
            seconds = alternate({"products": floor, "scores": scores}, ROUNDS, time.process_time)
            found[name] = {"seconds": seconds, "ratio": seconds["scores"] / seconds["products"]}
            print(f"{name}: {found[name]['ratio']:.2f} x its matrix products ({seconds['scores']:.2f} s)", flush=True)
    if not small:
        save("graphs", found)


if __name__ == "__main__":
    main()
