"""Triplets of anchors, positives and semi-hard negatives in whole batches (CVS thesis, sections 2.5 and 2.6)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crossmodal.models.parts.labelled import same_class


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(..., A, d) and (..., B, d) -> (..., A, B) squared Euclidean distances (CVS thesis, eq. 3.1.2)."""
    squares = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
    return (squares - 2 * x @ y.transpose(-1, -2)).clamp(min=0)


def with_squares(x: Tensor, first: bool) -> Tensor:
    """(B, d) -> (B, d + 2), whose inner products with those of the other side (`first` differs) are -|x - y|² / 2."""
    half = -x.square().sum(1, keepdim=True) / 2
    ones = torch.ones_like(half)
    return torch.cat([x, half, ones] if first else [x, ones, half], 1)


def semi_hard_triplets(
    distances: Tensor, labels: Tensor, margin: float, *, own: bool, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Mean (or sum) of the hinges over all (anchor, positive) pairs of a batch, each with its semi-hard negative.

    The semi-hard negative is the nearest one that is farther from the anchor than the positive; if there is none, the
    farthest of all, as in the common implementation of FaceNet, since a harder one would collapse the space.

    Parameters
    ----------
    distances : (..., B, B) of anchors (rows) and others, row and column i both of class `labels[i]`.
    labels : (B,) classes, or (B, C) zeros and ones.
    own : true if the others are the anchors themselves, where an item is not its own positive.

    Returns
    -------
    (...) means or sums; 0 if no pair has a negative.
    """
    same = same_class(labels)
    n_negatives = (~same).sum(1, keepdim=True)
    positive = same & (n_negatives > 0)
    if own:
        positive = positive & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    most = int(positive.sum(1).max())
    if most == 0:
        return distances.sum((-1, -2)) * 0
    table = positive.long().argsort(dim=1, descending=True, stable=True)[:, :most]  # (B, M): each anchor's positives
    valid = positive.gather(1, table)
    of_positive = distances.gather(-1, table.expand(*distances.shape[:-1], most))
    with torch.no_grad():
        ordered, order = _ascending(distances.detach().masked_fill(same, float("inf")))
        farther = torch.searchsorted(ordered, of_positive.contiguous(), right=True)  # the first that is farther
        chosen = order.gather(-1, torch.minimum(farther, n_negatives - 1).clamp(min=0))
    hinges = (of_positive - distances.gather(-1, chosen) + margin).clamp(min=0) * valid
    total = hinges.sum((-1, -2))
    return total if reduction == "sum" else total / valid.sum()


def _ascending(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and indices along the last axis, ascending."""
    if x.device.type != "cpu":
        return x.sort(-1)
    order = torch.from_numpy(np.argsort(x.numpy(), axis=-1))  # several times as quick as torch's on short rows
    return x.gather(-1, order), order
