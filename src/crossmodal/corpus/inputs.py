"""All items of one modality as arrays, which a form has opened and from which it gathers batches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from crossmodal.features.store import Features
    from crossmodal.models.base import Input

MAPPED = 2**30  # bytes up to which features are mapped; rows of larger ones are read, so that they do not stay resident


@dataclass(frozen=True)
class OnDisk:
    """Features in the place of a tensor: `rows` of them are read from their file when they are asked for."""

    features: Features

    @property
    def shape(self) -> tuple[int, ...]:
        return self.features.array.shape

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.features.gather(rows.numpy()))


def cached(features: Features) -> torch.Tensor | OnDisk:
    """Features as a tensor: mapped where they are small, left on the disk where they are large (`MAPPED`)."""
    if features.array.nbytes > MAPPED:
        return OnDisk(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the map is read-only, and nothing writes to it
        return torch.from_numpy(features.array)


class Opened(Protocol):
    """What is asked of the form (`corpus.forms.base.Form`) that inputs were opened in."""

    of_items: bool
    sized: bool
    moments: bool

    def gather(self, inputs: Inputs, index: torch.Tensor) -> Input: ...


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All items of one modality: row i of the arrays is item `ids[i]`."""

    form: Opened
    ids: np.ndarray  # (N,) str
    groups: np.ndarray  # (N,) int64
    partition: np.ndarray  # (N,) str
    tensor: torch.Tensor | OnDisk  # (M, ...) features, or (M, L) ids of words or concepts
    rows: torch.Tensor  # (N,) int64 rows of `tensor`
    lengths: torch.Tensor | None = None  # (N,) int64 words of a sentence, or regions of an image
    scores: torch.Tensor | None = None  # (M, L) of the concepts whose ids are in `tensor`
    n_concepts: int = 0  # names that those ids stand for
    labels: np.ndarray | None = None  # (N,) int64 classes, -1 for none
    sets: np.ndarray | None = None  # (N, C) zeros and ones, where items are of several classes
    digest: str | None = None  # SHA-256 of what is read where no manifest of features has one

    def gather(self, index: torch.Tensor) -> Input:
        """The items at `index` (B,), as the model reads them. No copy is made of anything else."""
        return self.form.gather(self, index)

    def where(self, partition: str) -> np.ndarray:
        """Indices of the items of a partition, in their stored order."""
        return np.flatnonzero(self.partition == partition)
