"""DCGAN's generator and discriminator for square images, and the losses of two discriminators (mFSR, eq. 11 to 13).

D1 tells real images from made ones; D2 tells pairs of an image made from another's parts from pairs of one and its own.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 8


def check_size(size: int) -> int:
    """`size`, if images of that side can be made by doubling 4 pixels.

    Raises
    ------
    ValueError : another.
    """
    if size < SMALLEST or size & (size - 1):
        raise ValueError(f"image_size: {size} is no power of two from {SMALLEST} on (64 is DCGAN's)")
    return size


def doublings(size: int) -> int:
    """How often 4 pixels are doubled to make `size`."""
    return size.bit_length() - 3


def as_pixels(images: Tensor) -> Tensor:
    """(B, 3, S, S) made images in [-1, 1] -> uint8."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def as_images(pixels: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, 3, S', S') uint8 -> (B, 3, size, size) in [-1, 1], the range of what is made; larger ones are averaged."""
    images = pixels.to(dtype) / 127.5 - 1
    return images if images.shape[-1] == size else F.adaptive_avg_pool2d(images, size)


class Generator(nn.Module):
    """Vectors to images: transposed convolutions that double 4 pixels up to `size`.

    Parameters
    ----------
    in_dim : of a vector. size : side of an image in pixels, a power of two. channels : before the last convolution,
        twice as many at each step before it.
    """

    def __init__(self, in_dim: int, size: int, channels: int):
        super().__init__()
        widths = [channels * 2**n for n in reversed(range(doublings(check_size(size))))]
        layers: list[nn.Module] = [nn.ConvTranspose2d(in_dim, widths[0], 4, bias=False)]
        for width, narrower in zip(widths, [*widths[1:], None], strict=True):
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            layers.append(nn.ConvTranspose2d(width, narrower or 3, 4, 2, 1, bias=narrower is None))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.apply(initialise)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, in_dim) -> (B, 3, size, size) in [-1, 1]."""
        return self.layers(vectors[:, :, None, None])


class Discriminator(nn.Module):
    """Images, or several of them one behind the other, to a logit: convolutions that halve `size` down to 4 pixels."""

    def __init__(self, size: int, channels: int, images: int = 1):
        super().__init__()
        widths = [channels * 2**n for n in range(doublings(check_size(size)))]
        layers: list[nn.Module] = [nn.Conv2d(3 * images, channels, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for width, wider in pairwise(widths):
            layers += [nn.Conv2d(width, wider, 4, 2, 1, bias=False), nn.BatchNorm2d(wider)]
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4))
        self.apply(initialise)

    def forward(self, *images: Tensor) -> Tensor:
        """(B, 3, size, size) each -> (B,) logits."""
        return self.layers(torch.cat(images, 1)).flatten()


def initialise(module: nn.Module) -> None:
    """DCGAN's start: N(0, 0.02), scales of batch norms N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def others(groups: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of a batch another one of another group: (B,) its place, (B,) bool whether there is one.

    Parameters
    ----------
    groups : (B,) ids of what belongs together. The next row of another group is taken, around the end.
    """
    n = len(groups)
    places = (torch.arange(n, device=groups.device)[:, None] + torch.arange(n, device=groups.device)) % n
    differs = groups[places] != groups[:, None]  # (B, B), the own row first
    first = differs.int().argmax(1)
    return places.gather(1, first[:, None])[:, 0], differs.any(1)


def mean_where(values: Tensor, there: Tensor) -> Tensor:
    """Mean of the (B,) values that are `there`; 0 where none is."""
    return (values * there).sum() / there.sum().clamp(min=1)


def discriminator_losses(real: Tensor, made: Tensor, own: Tensor, other: Tensor, there: Tensor) -> dict[str, Tensor]:
    """What D1 and D2 minimise: the cross-entropies of what they are to tell.

    Eq. 11 and 12 print log(1 - D) for each -log(D): the same aims, but without a lower bound; see
    `printed_discriminator_losses`.

    Parameters
    ----------
    real, made : (B,) logits of D1 for images x and for those made of them x'.
    own, other : (B,) logits of D2 for [x'; x] and for [x''; x] with x'' made of another; `there` says where one is.
    """
    return {
        "real": F.softplus(-real).mean() + F.softplus(made).mean(),
        "content": F.softplus(-own).mean() + mean_where(F.softplus(other), there),
    }


def generator_loss(made: Tensor, own: Tensor, other: Tensor, there: Tensor) -> Tensor:
    """What the generator minimises: D1 is to take x' for real, and D2 to see that x' shows what x does and x'' not.

    So the text has it. Eq. 13 prints the terms of D2 the other way round, so that the generator would hide from D2
    whose image it made (`printed_generator_loss`).
    """
    return (F.softplus(-made).mean() + F.softplus(-own).mean() + mean_where(F.softplus(other), there)) / 2


def printed_discriminator_losses(
    real: Tensor, made: Tensor, own: Tensor, other: Tensor, there: Tensor
) -> dict[str, Tensor]:
    """Eq. 11 and 12 to the letter, unbounded below."""
    return {
        "real": F.logsigmoid(-real).mean() + F.logsigmoid(made).mean(),
        "content": F.logsigmoid(-own).mean() + mean_where(F.logsigmoid(other), there),
    }


def printed_generator_loss(made: Tensor, own: Tensor, other: Tensor, there: Tensor) -> Tensor:
    """Eq. 13 to the letter, unbounded below."""
    return (F.logsigmoid(-made).mean() + F.logsigmoid(own).mean() + mean_where(F.logsigmoid(-other), there)) / 2
