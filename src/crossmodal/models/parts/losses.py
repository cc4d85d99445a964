"""Losses on the scores of a batch's pairs (hinges, InfoNCE, pairwise sigmoid), and the settings of hinges."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base

Reduction = Literal["sum", "mean"]
Negatives = Literal["all", "other_groups"]


class Hinges(base.Schedule):
    """The settings of systems that are trained with hinge losses on a batch's pairs: VSE++, SCAN, A3VSE and mFSR."""

    margin: float = Field(
        0.2, ge=0, description="margin by which a pair's score must exceed the scores of its negatives"
    )
    reduction: Reduction = Field(
        "sum",
        description="reduction of the hinges of a batch. The programs of VSE++ and SCAN take the sum; mFSR (eq. 8) "
        "and A3VSE (eq. 2) print the mean over the pairs. Adam is invariant to the difference, but `clip` is not: the "
        "norm of the sum's gradient exceeds 2 during most of the training, that of the mean's gradient seldom",
    )
    negatives: Negatives = Field(
        "all",
        description="which pairs of the batch are negatives: all: every other pair, including other captions of the "
        "same image, as in the programs of VSE++ and SCAN; other_groups: only pairs of other images",
    )
    warm_up: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training, from its start, in which all negatives count instead of the hardest one; "
        "it is not in the papers, and prevents that the hardest negatives of small data sets make all vectors "
        "collapse to one point",
    )


def batch_hinges(scores: Tensor, settings: Hinges, groups: Tensor | None, progress: float) -> Tensor:
    """`hinge_triplet` with a system's settings, after the fraction `progress` of the training."""
    return hinge_triplet(
        scores,
        settings.margin,
        hardest=progress >= settings.warm_up,
        groups=groups if settings.negatives == "other_groups" else None,
        reduction=settings.reduction,
    )


def hinge_triplet(
    scores: Tensor, margin: float, *, hardest: bool, groups: Tensor | None = None, reduction: Reduction
) -> Tensor:
    """Hinges of a batch's pairs against its other items, in both directions (Faghri et al., 2018; mFSR, eq. 8 and 9).

    Parameters
    ----------
    scores : (B, B), with the pairs on the diagonal.
    margin : by which a pair's score must exceed its negatives' scores.
    hardest : whether a pair's loss is its largest hinge ("max of hinges", VSE++), or else the sum of its hinges (VSE0).
    groups : (B,) ids; items of a pair's own group are not its negatives. With None, all other items are.
    reduction : sum or mean over the pairs. It changes the gradient's norm, and so the effect of clipping.

    Returns
    -------
    Scalar.

    Raises
    ------
    ValueError : the scores are not square.
    """
    same = _same(scores, groups)
    matching = scores.diagonal()
    rows = (margin + scores - matching[:, None]).clamp(min=0).masked_fill(same, 0)  # row item against other columns
    columns = (margin + scores - matching[None, :]).clamp(min=0).masked_fill(same, 0)
    total = rows.amax(1).sum() + columns.amax(0).sum() if hardest else rows.sum() + columns.sum()
    return total / len(scores) if reduction == "mean" else total


def top_hinges(matching: Tensor, others: Tensor, excluded: Tensor, margin: float, k: int) -> tuple[Tensor, Tensor]:
    """The k largest hinges of each item against its candidates, and which candidates these are (DSPE, RRF-Net).

    Parameters
    ----------
    matching : (B,) scores of the pairs.
    others : (B, N) scores of each item with the candidates.
    excluded : (B, N) bool; candidates that are not negatives, whose hinges are 0.
    margin : by which a pair's score must exceed those of its negatives.
    k : number of hinges that are kept, zeros included.

    Returns
    -------
    (B, K) hinges in descending order and (B, K) int64 columns of `others`; K is the smaller of k and N.
    """
    hinges = (margin - matching[:, None] + others).clamp(min=0).masked_fill(excluded, 0)
    values, columns = hinges.topk(min(k, hinges.shape[1]), dim=1)
    return values, columns


def info_nce(scores: Tensor, scale: Tensor | float, groups: Tensor | None = None) -> Tensor:
    """The symmetric cross-entropy of CLIP (Radford et al., 2021, section 2.3 and figure 3).

    In either direction each item is classified among the batch's items of the other modality, of which its own partner
    is the right one.

    Parameters
    ----------
    scores : (B, B) cosines, with the pairs on the diagonal.
    scale : by which the cosines are multiplied, the inverse of the temperature.
    groups : (B,) ids; items of a pair's own group are not its negatives. With None, all other items are.

    Returns
    -------
    Scalar, the mean over the pairs and over the two directions.

    Raises
    ------
    ValueError : the scores are not square.
    """
    same = _same(scores, groups)
    targets = torch.arange(len(scores), device=scores.device)
    logits = (scale * scores).masked_fill(same & (targets[:, None] != targets), -torch.inf)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def pairwise_sigmoid(
    scores: Tensor, scale: Tensor | float, bias: Tensor | float, groups: Tensor | None = None
) -> Tensor:
    """The sigmoid loss of SigLIP (Zhai et al., 2023, section 3.2 and algorithm 1).

    Each cell of the scores is a binary decision, whether its image and its text belong together.

    Parameters
    ----------
    scores : (B, B) cosines, with the pairs on the diagonal.
    scale : by which the cosines are multiplied, the inverse of the temperature.
    bias : is added to the scaled cosines.
    groups : (B,) ids; a pair's cells with other items of its own group are left out. With None, all cells count.

    Returns
    -------
    Scalar, the sum over the cells divided by B.

    Raises
    ------
    ValueError : the scores are not square.
    """
    same = _same(scores, groups)
    pairs = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    logits = scale * scores + bias
    terms = F.softplus(torch.where(pairs, -logits, logits))  # -log sigmoid(z x), with z of 1 on the diagonal, else -1
    return terms.masked_fill(same & ~pairs, 0).sum() / len(scores)


def _same(scores: Tensor, groups: Tensor | None) -> Tensor:
    """(B, B) mask of the cells whose two items belong together: the diagonal, or all cells of one group."""
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(f"scores: expected (B, B), found {tuple(scores.shape)}")
    if groups is None:
        return torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return groups[:, None] == groups[None, :]
