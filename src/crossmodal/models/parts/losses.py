"""Losses on the scores of a batch."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

WarmUp = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="share of the training in which all negatives count instead of the hardest; not in the paper, for "
        "small data, where the hardest at first draw everything into one point",
    ),
]
"""A setting of models that train with the hardest negatives."""


def hinge_triplet(scores: Tensor, margin: float, *, hardest: bool, groups: Tensor | None = None) -> Tensor:
    """Hinges of a batch's pairs against its other items, both ways, averaged over the pairs (001, eq. 8 and 9).

    Parameters
    ----------
    scores : (B, B), the pairs on the diagonal.
    margin : by which a pair's score must exceed its negatives'.
    hardest : the largest hinge of each pair ("max of hinges", VSE++) or their sum (VSE0).
    groups : (B,) ids; items of the same group as a pair's are no negatives of it. None: all others are.

    Returns
    -------
    Scalar, a mean over the pairs as eq. 8 prints it: the norm at which gradients are clipped depends on it.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(f"scores: expected (B, B), found {tuple(scores.shape)}")
    own = scores.diagonal()
    if groups is None:
        same = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    else:
        same = groups[:, None] == groups[None, :]
    rows = (margin + scores - own[:, None]).clamp(min=0).masked_fill(same, 0)  # row item against other columns
    columns = (margin + scores - own[None, :]).clamp(min=0).masked_fill(same, 0)
    if hardest:
        return (rows.amax(1).sum() + columns.amax(0).sum()) / len(scores)
    return (rows.sum() + columns.sum()) / len(scores)
