"""Random negatives, the hardest of several candidates, and the hinges of pairs against them.

DAN and DPC compare each pair with one sentence and one image, where other systems use all items of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def drawn(possible: Tensor, count: int) -> Tensor:
    """(B, N) bool: at most `count` random ones of each row's `possible` columns, without repetition."""
    ranks = torch.rand(possible.shape, device=possible.device).masked_fill(~possible, -1)
    places = ranks.topk(min(count, possible.shape[1]), dim=1).indices
    return torch.zeros_like(possible).scatter(1, places, True) & possible


def hardest(scores: Tensor, possible: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) column of each row's highest score among the `possible` ones, and (B,) bool: whether there is any."""
    return scores.masked_fill(~possible, -torch.inf).argmax(1), possible.any(1)


def hinges(matching: Tensor, others: Tensor, available: Tensor, margin: float) -> Tensor:
    """(B,) hinges of the pairs' scores against those of their negatives; 0 where there is none."""
    return (margin - matching + others).clamp(min=0) * available
