"""Controls whose rankings have a known quality: random vectors, and vectors made from the ground truth."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch.nn import functional as F

from crossmodal.tasks.ranked.encodings import ENCODE_BATCH, Pair
from crossmodal.tasks.ranked.protocols import Items

DIM = 64  # dimension of the vectors


def random_pairs(items: Items, seed: int) -> list[Pair]:
    """Pairs of modalities with standard normal vectors, drawn anew for each pair."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(count: int) -> torch.Tensor:
        sizes = [min(ENCODE_BATCH, count - start) for start in range(0, count, ENCODE_BATCH)]
        return torch.cat([torch.randn(size, DIM, generator=generator) for size in sizes])

    pairs = combinations(items.ids, 2)
    return [Pair({m: drawn(len(items.ids[m])) for m in pair}, items.relevance) for pair in pairs]


def true_pairs(items: Items) -> list[Pair]:
    """Pairs of modalities with a random unit vector per group or class, shared by all its items.

    Items with several classes have their zeros and ones as vectors, so that a product is the number of shared classes.
    """
    vectors = {m: _known(codes) for m, codes in items.relevance.items()}
    return [Pair({m: vectors[m] for m in pair}, items.relevance) for pair in combinations(items.ids, 2)]


def _known(codes: np.ndarray) -> torch.Tensor:
    if codes.ndim == 2:
        return torch.from_numpy(codes).float()
    distinct, place = np.unique(codes, return_inverse=True)
    generators = (torch.Generator().manual_seed(int(code)) for code in distinct)
    return F.normalize(torch.stack([torch.randn(DIM, generator=generator) for generator in generators]), dim=1)[place]
