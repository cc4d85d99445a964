"""The order of coordinates: an image lies below its captions (order embeddings, Vendrov et al., 2016, eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

BUDGET = 2**25  # coordinates of a block of differences


def violations(images: Tensor, texts: Tensor) -> Tensor:
    """(A, B) order violations Σ max(0, t - i)² of (A, d) images and (B, d) captions, in blocks of images."""
    step = max(1, BUDGET // max(1, texts.numel()))
    return torch.cat([(texts[None] - part[:, None]).clamp(min=0).square().sum(2) for part in images.split(step)])
