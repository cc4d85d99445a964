"""Maximum mean discrepancy: how far apart the distributions of two sets of vectors are (Gretton et al., 2012).

The distance is taken in the reproducing kernel Hilbert space of a mean of Gaussian kernels; transfer networks minimise
it layer by layer (Liu et al. 2020, section 9.2.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossmodal.models.parts.triplets import squared_distances

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # widths of the kernels, in mean squared distances of all vectors


def squared_mmd(x: Tensor, y: Tensor, factors: Sequence[float] = FACTORS) -> Tensor:
    """‖mean φ(x) - mean φ(y)‖² of (A, d) and (B, d) vectors, averaged over kernels exp(-‖u - v‖² / (factor · mean)).

    Here `mean` is the mean squared distance of different vectors, through which no gradient flows.
    """
    both = torch.cat([x, y])
    distances = squared_distances(both, both)
    n = len(both)
    mean = (distances.detach().sum() / (n * (n - 1))).clamp(min=torch.finfo(both.dtype).tiny)
    kernel = torch.stack([torch.exp(-distances / (factor * mean)) for factor in factors]).mean(0)
    a = len(x)
    return kernel[:a, :a].mean() + kernel[a:, a:].mean() - 2 * kernel[:a, a:].mean()


def layerwise_mmd(x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """The squared MMD of two networks' activations, summed over the layers."""
    return torch.stack([squared_mmd(a, b) for a, b in zip(x, y, strict=True)]).sum()
