"""Maximum mean discrepancy: how far apart the distributions of two sets of vectors are (Gretton et al., 2012).

In the reproducing kernel Hilbert space of a sum of Gaussian kernels, as transfer networks take it layer by layer (Liu
et al. 2020, section 9.2.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossmodal.models.parts.triplets import squared_distances

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # widths, over the mean squared distance of all vectors


def squared_mmd(x: Tensor, y: Tensor, factors: Sequence[float] = FACTORS) -> Tensor:
    """‖mean φ(x) - mean φ(y)‖² of (A, d) and (B, d) vectors, averaged over kernels exp(-‖u - v‖² / (factor · mean)).

    The mean is that of the squared distances of all different vectors; no gradient flows through it.
    """
    both = torch.cat([x, y])
    distances = squared_distances(both, both)
    n = len(both)
    mean = (distances.detach().sum() / (n * (n - 1))).clamp(min=torch.finfo(both.dtype).tiny)
    kernel = torch.stack([torch.exp(-distances / (factor * mean)) for factor in factors]).mean(0)
    a = len(x)
    return kernel[:a, :a].mean() + kernel[a:, a:].mean() - 2 * kernel[:a, a:].mean()


def layerwise_mmd(x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """The sum of the discrepancies of two networks' activations, layer by layer."""
    return torch.stack([squared_mmd(a, b) for a, b in zip(x, y, strict=True)]).sum()
