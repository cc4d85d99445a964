"""All items of one modality as arrays, which a form (`corpus.forms`) has opened and from which it gathers batches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from crossmodal.features.engine.store import Features
    from crossmodal.models.base import Input

MAPPED = 2**30  # bytes up to which features are memory-mapped; rows of larger files are read, to save resident memory


@dataclass(frozen=True)
class OnDisk:
    """Features in place of a tensor, whose rows are read from their file when they are indexed."""

    features: Features

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array in the file."""
        return self.features.array.shape

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.features.gather(rows.numpy()))


def cached(features: Features) -> torch.Tensor | OnDisk:
    """Features as a memory-mapped tensor, or left on disk where they are larger than `MAPPED`."""
    if features.array.nbytes > MAPPED:
        return OnDisk(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the read-only memory map, to which nothing writes
        return torch.from_numpy(features.array)


class Opened(Protocol):
    """The part of a form's interface (`corpus.forms.base.Form`) that opened inputs use."""

    of_items: bool
    sized: bool
    moments: bool

    def gather(self, inputs: Inputs, index: torch.Tensor) -> Input: ...


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All N items of one modality; row i of the arrays is the item `ids[i]`."""

    form: Opened
    ids: np.ndarray  # (N,) str
    groups: np.ndarray  # (N,) int64
    partition: np.ndarray  # (N,) str
    tensor: torch.Tensor | OnDisk  # (M, ...) features, or (M, L) ids of words or concepts
    rows: torch.Tensor  # (N,) int64 row of `tensor` for each item
    lengths: torch.Tensor | None = None  # (N,) int64 number of words of each sentence, or of regions of each image
    scores: torch.Tensor | None = None  # (M, L) scores of the concepts whose ids are in `tensor`
    boxes: torch.Tensor | None = None  # (M, R, 4) boxes of regions, as shares of their pictures
    names: torch.Tensor | None = None  # (M, R, W) ids of the words of the regions' names
    n_concepts: int = 0  # number of different concepts
    labels: np.ndarray | None = None  # (N,) int64 classes, -1 for none
    sets: np.ndarray | None = None  # (N, C) zeros and ones, where items have several classes
    digest: str | None = None  # SHA-256 of the inputs, where no features' manifest has one

    def gather(self, index: torch.Tensor) -> Input:
        """The items at `index` (B,), as the model reads them; only these are copied."""
        return self.form.gather(self, index)

    def where(self, partition: str) -> np.ndarray:
        """Indices of the items of a partition, in their stored order."""
        return np.flatnonzero(self.partition == partition)
