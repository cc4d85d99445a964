"""Scores of GSMN and SGM against the bare matrix products that they need, in processor seconds.

The floor makes the products of the systems' own form (inner products of the blocks, Grams, kernels, edges and layers)
in the same blocks of pairs, each once, and nothing else: no attention, cosines, means, activations, weights of regions
or copies into another order, but of the edges of regions. What depends on sentences alone is multiplied once for all
images, linear layers that follow each other without a weight between them are one, and operands lie as a library
multiplies them fastest. So it makes no product that the equations do not need; in blocks of other sizes (3 to 22 MiB of
products, 5 to 20 images) it takes up to a fifth more time, or at most a few per cent less. `--small` shrinks the sizes,
to see that it runs.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

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


class Products(NamedTuple):
    """The products of sentences (B, L, d) alone, and their vectors in blocks of dimensions, which are not copied."""

    columns: Tensor  # (K, d/K, B·L)
    grams: list[Tensor]  # K times (B, L, L)
    edges: Tensor | None  # (B, L, L)


def of_sentences(network: gsmn.Network, sentences: Tensor) -> Products:
    """What the floor takes of sentences (B, L, d) for all images."""
    blocks = sentences.unflatten(2, (network.s.parts, -1))
    grams = [block @ block.transpose(1, 2) for block in blocks.unbind(2)]
    edges = sentences @ sentences.transpose(1, 2) if network.s.propagation == "neighbours" else None
    return Products(blocks.flatten(0, 1).permute(1, 2, 0), grams, edges)


def of_gsmn(network: gsmn.Network, images: Tensor, weights: Tensor, words: Products) -> Tensor:
    """The matrix products of GSMN's scores of images (A, M, d) with sentences."""
    s, (a, m, _), (b, n, _) = network.s, images.shape, words.grams[0].shape
    k, p = s.parts, s.kernels
    regions = images.unflatten(2, (k, -1))
    products = torch.bmm(regions.flatten(0, 1).transpose(0, 1), words.columns)  # (K, A·M, L·B)
    one, other = products[0].view(a, m, n * b), products[0].view(b, n, a * m)
    for region, gram in zip(regions.unbind(2), words.grams, strict=True):  # as they stay in a processor's cache
        torch.bmm(region @ region.transpose(1, 2), one)
        torch.bmm(gram, other)
    of_regions, of_words = (products.flatten()[: k * x * a * b].view(k, -1) for x in (m, n))
    visual, textual = network.visual, network.textual
    outputs = torch.cat([kernel.weight for kernel in visual.kernels]) @ of_regions
    if s.propagation == "neighbours":
        edges = weights.unflatten(2, (m, p)).permute(0, 3, 1, 2).contiguous()
        torch.bmm(edges.flatten(0, 1), outputs.view(a * p, m, -1))
        torch.bmm(words.edges, of_words.view(b, n, k * a))
    visual.out.weight @ (visual.hidden.weight @ outputs.view(-1, a * m * b))
    layer = textual.hidden.weight @ torch.cat([kernel.weight for kernel in textual.kernels])
    textual.out.weight @ (layer @ of_words)
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

        def floor(x: Tensor, words: Products, image_mask: Tensor, _: Tensor, network: gsmn.Network = network) -> Tensor:
            return of_gsmn(network, x[..., :dim], x[..., dim:], words)

        made[f"gsmn {propagation}"] = (
            lambda model=model, joined=joined: model.score(joined, sentences),
            lambda floor=floor, model=model, weighted=weighted, network=network: in_blocks(
                floor,
                weighted,
                sentences,
                valid_mask(images),
                valid_mask(sentences),
                *model._block(weighted),
                prepare=lambda block, _: of_sentences(network, block),
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
