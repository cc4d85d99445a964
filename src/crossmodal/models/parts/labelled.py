"""What the systems which learn from classes share: settings, and labels of one class or of several in their losses.

Labels are (B,) classes, or (B, C) zeros and ones where items are of several classes. Two items are then of the same
class where they share one, and an item's classes have equal parts of its cross-entropy.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base

Sampling = Literal["shuffled", "balanced"]
"""How an epoch's rows are drawn (`training.balanced`)."""

Standardise = Annotated[
    bool, Field(description="centre features and divide them by their s.d. over the training items; else as they are")
]


class Labelled(base.Schedule):
    """Training on data whose items answer each other by class.

    None of the programs and papers that are followed here balances its classes, so that `shuffled` is the default of
    all systems. (DSCMR's and ACMR's programs do not even shuffle: they take the items in the order of their files.)
    """

    sampling: Sampling = Field(
        "shuffled",
        description="shuffled: an epoch passes every training item; balanced: each class as often as any other, so "
        "that items of large classes are left out and those of small ones come again",
    )


def same_class(labels: Tensor) -> Tensor:
    """(B, B) bool: whether two items are of one class, or share one of several."""
    if labels.ndim == 2:
        return labels @ labels.T > 0
    return labels[:, None] == labels[None, :]


def targets(labels: Tensor) -> Tensor:
    """What `cross_entropy` is to be told: the classes themselves, or of several equal shares of one."""
    return labels / labels.sum(1, keepdim=True) if labels.ndim == 2 else labels


def ones(labels: Tensor, count: int) -> Tensor:
    """(B, `count`) zeros and ones."""
    return labels[:, :count] if labels.ndim == 2 else F.one_hot(labels, count)


def places(labels: Tensor, trained: Tensor) -> Tensor:
    """(B,) places of the classes among the ascending `trained` ones; of several the (B, K) columns of these."""
    return labels[:, trained] if labels.ndim == 2 else torch.searchsorted(trained, labels)
