"""Settings of systems that learn from classes, and functions of labels, one or several per item.

Labels are (B,) classes, or (B, C) zeros and ones where items are of several classes. Two items are then of the same
class if they share one, and the classes of an item have equal weights in its cross-entropy.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base

Sampling = Literal["shuffled", "balanced"]
"""How an epoch's rows are sampled (`corpus.by_class`)."""

Standardise = Annotated[
    bool,
    Field(description="whether features are centred and divided by their standard deviation over the training items"),
]


class Labelled(base.Schedule):
    """Training settings for data whose items are relevant to each other by class.

    `shuffled` is the default but of systems whose program draws as many items of each class (CM-GANs). (The programs of
    DSCMR and ACMR take the items in the order of their files, unshuffled.)
    """

    sampling: Sampling = Field(
        "shuffled",
        description="shuffled: an epoch contains every training item; balanced: every class occurs equally often, so "
        "that items of large classes are left out and items of small classes are repeated",
    )


def same_class(labels: Tensor) -> Tensor:
    """(B, B) bool: whether two items have the same class, or share one of several."""
    if labels.ndim == 2:
        return labels @ labels.T > 0
    return labels[:, None] == labels[None, :]


def targets(labels: Tensor) -> Tensor:
    """Targets of `cross_entropy`: (B,) classes as they are, or (B, C) equal shares that sum to 1 for each item."""
    return labels / labels.sum(1, keepdim=True) if labels.ndim == 2 else labels


def ones(labels: Tensor, count: int) -> Tensor:
    """The labels as (B, `count`) zeros and ones."""
    return labels[:, :count] if labels.ndim == 2 else F.one_hot(labels, count)


def places(labels: Tensor, trained: Tensor) -> Tensor:
    """(B,) indices of the classes among the K ascending `trained` ones; of (B, C) labels the (B, K) columns."""
    return labels[:, trained] if labels.ndim == 2 else torch.searchsorted(trained, labels)


def of_another_class(labels: Tensor) -> tuple[Tensor, Tensor]:
    """A random row of another class for each row of a batch: (B,) indices, and (B,) bool whether there is one."""
    other = ~same_class(labels)
    ranks = torch.rand(other.shape, device=other.device).masked_fill(~other, -1)
    return ranks.argmax(1), other.any(1)
