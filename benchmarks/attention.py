"""SCAN's scores against the bare matrix products that they need, both directions; peak memory at Flickr30K's 1K test.

Two floors: the products that any form must make for its cosines and attended vectors, written out as SCAN's equations
have them (d numbers for each word of each pair), and those that are left when only inner products of regions are used.
Then the forward and backward pass of a batch's hinges, with hardest negatives and with all, against all pairs at once.
`--small` shrinks the sizes tenfold, to see that it runs.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import torch
from common import alternate, peak, save
from torch import Tensor

from crossmodal.models import base, scan
from crossmodal.models.parts.attention import checkpointed_scores
from crossmodal.models.parts.encoders import valid_mask
from crossmodal.models.parts.losses import hinge_triplet

ROUNDS = 5
DIM, REGIONS = 1024, 36


def drawn(n_images: int, n_captions: int, dim: int) -> tuple[Tensor, Tensor]:
    """(A, 36, d) regions and (B, L, d) words of unit length; sentences of 8 to 21 words."""
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(n_images, REGIONS, dim, generator=generator), dim=2)
    lengths = torch.randint(8, 22, (n_captions,), generator=generator)
    words = torch.nn.functional.normalize(torch.randn(n_captions, int(lengths.max()), dim, generator=generator), dim=2)
    return images, words * (torch.arange(words.shape[1]) < lengths[:, None])[..., None]


def system(attention: str, dim: int) -> scan.Model:
    settings = {"text-to-image": {}, "image-to-text": {"smooth": 4.0, "sharpness": 5.0}}[attention]
    context = base.Context({"image": (REGIONS, dim)}, 10)
    return scan.Model(scan.Settings(dim=dim, attention=attention, **settings), context).eval()


def products(images: Tensor, sentences: Tensor, attention: str, *, literal: bool) -> None:
    """The matrix products alone, of the words that are there."""
    words = sentences[(sentences != 0).any(2)]
    cosines = (images.flatten(0, 1) @ words.T).view(len(images), REGIONS, -1)  # (A, M, BN)
    if literal:
        # (A, BN, M) x (A, M, d); the other way round there are as many products in all.
        for regions, weights in zip(images, cosines, strict=True):
            weights.T @ regions
    elif attention == "text-to-image":
        torch.bmm(cosines.transpose(1, 2), images @ images.transpose(1, 2))
    else:
        padded = cosines.new_zeros(len(sentences), len(images) * REGIONS, sentences.shape[1])  # made once in a program
        torch.bmm(padded, sentences @ sentences.transpose(1, 2))


def learned(images: Tensor, sentences: Tensor, attention: str, *, hardest: bool, at_once: bool) -> None:
    """A batch's loss and its gradients to regions and words."""
    network = system(attention, DIM).networks[attention]
    sides = images.requires_grad_(), sentences.requires_grad_()
    masks = (valid_mask(side) for side in sides)
    scores = network.attend(*sides, *masks) if at_once else checkpointed_scores(network.attend, *sides, *masks)
    torch.autograd.grad(hinge_triplet(scores, 0.2, hardest=hardest, reduction="sum"), sides)


def main() -> None:
    torch.set_num_threads(2)
    shrink = 10 if "--small" in sys.argv else 1
    if "--peak" in sys.argv:
        count = int(sys.argv[sys.argv.index("--peak") + 1])
        with torch.inference_mode():
            system("text-to-image", DIM).score(*drawn(count, 5 * count, DIM))
        return
    images, sentences = drawn(100 // shrink, 500 // shrink, DIM)
    found: dict = {"images": len(images), "sentences": len(sentences), "torch": torch.__version__}
    with torch.inference_mode():
        for attention in ("text-to-image", "image-to-text"):
            model = system(attention, DIM)
            cases = {
                "equations": lambda a=attention: products(images, sentences, a, literal=True),
                "products": lambda a=attention: products(images, sentences, a, literal=False),
                "scores": lambda m=model: m.score(images, sentences),
            }
            seconds = alternate(cases, ROUNDS)
            ratio = seconds["scores"] / seconds["equations"]
            over = seconds["scores"] / seconds["products"]
            found[attention] = {"seconds": seconds, "ratio": ratio, "over_own_products": over}
            print(
                f"SCAN {attention}: {ratio:.2f} x the products of its equations, {over:.2f} x those of inner products"
            )
    torch.set_num_threads(1)  # as a run is trained
    batch = drawn(128 // shrink, 128 // shrink, DIM)
    for attention in ("text-to-image", "image-to-text"):
        cases = {
            f"{kind}, {way}": partial(learned, *batch, attention, hardest=kind == "hardest", at_once=way == "at once")
            for kind in ("hardest", "all")
            for way in ("at once", "checkpointed")
        }
        seconds = alternate(cases, ROUNDS, time.process_time)
        found[attention]["training"] = {"seconds": seconds}
        for kind in ("hardest", "all"):
            times = seconds[f"{kind}, at once"] / seconds[f"{kind}, checkpointed"]
            found[attention]["training"][kind] = times
            print(f"SCAN {attention}, trained with {kind} negatives: all pairs at once take {times:.1f} times as long")
    count = 1000 // shrink
    found["peak_mib"] = {str(n): peak(__file__, n) for n in (count // 10, count)}
    told = ", ".join(f"{n} x {5 * int(n)}: {mib:.0f} MiB" for n, mib in found["peak_mib"].items())
    inputs = 4 * DIM * (count * REGIONS + 5 * count * 21) / 2**20
    print(f"peak memory of the process: {told} (encodings of the larger one: {inputs:.0f} MiB)")
    if shrink == 1:
        save("attention", found)


if __name__ == "__main__":
    main()
