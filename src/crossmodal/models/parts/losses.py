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

    margin: float = Field(0.2, ge=0, description="by which a pair's score must exceed its negatives' scores")
    reduction: Reduction = Field(
        "sum",
        description="of the hinges of a batch. The programs of VSE++ and SCAN take the sum; the papers of mFSR (eq. 8) "
        "and A3VSE (eq. 2) print the mean over the pairs. Adam does not see the difference, but `clip` does: the norm "
        "of a sum's gradient lies above 2 for most of the training, that of a mean's seldom",
    )
    negatives: Negatives = Field(
        "all",
        description="all: every other pair of the batch, another caption of the same image too, as in the programs of "
        "VSE++ and SCAN; other_groups: pairs of other images alone",
    )
    warm_up: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training in which all negatives count instead of the hardest; not in the papers, for "
        "small data, where the hardest at first draw everything into one point",
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
    own = scores.diagonal()
    rows = (margin + scores - own[:, None]).clamp(min=0).masked_fill(same, 0)  # row item against other columns
    columns = (margin + scores - own[None, :]).clamp(min=0).masked_fill(same, 0)
    total = rows.amax(1).sum() + columns.amax(0).sum() if hardest else rows.sum() + columns.sum()
    return total / len(scores) if reduction == "mean" else total


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
