"""What closed forms that project all modalities to the classes in rounds share (JRL, S2UPG)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts import closed_form
from crossmodal.models.parts.closed_form import ClosedForm

Arrays = dict[str, np.ndarray]
"""An array per modality."""
BLOCK = 1024  # items whose distances to all others are computed at a time


class Settings(closed_form.Settings):
    """Settings of the rounds and of the graph; their defaults are those of each system."""

    sparsity: float = Field(ge=0, description="weight of the ℓ2,1 norm of the projections")
    graph: float = Field(ge=0, description="weight of the graph's regularisation")
    neighbours: int = Field(ge=1, description="k: nearest items of an item in the graph")
    rounds: int = Field(ge=1, description="updates of the projections")
    seed: int = Field(0, ge=0, description="seed of the first projections, which are uniformly random")


class ClassProjections(ClosedForm):
    """A linear projection (D, C) of each modality to the classes, which is updated in rounds."""

    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    settings: Settings

    def update_of(self, x: Arrays, y: np.ndarray) -> Callable[[Arrays], Arrays]:
        """The function that makes the next projections (D, C) of the present ones.

        Parameters
        ----------
        x : modality to (N, D) scaled features, centred.
        y : (N, C) zeros and ones.
        """
        raise NotImplementedError

    def fit_all(self, values: Arrays, labels: np.ndarray | None) -> None:
        x = {m: self.scaled(m, value) for m, value in values.items()}
        y = indicators(labels)
        update, rng = self.update_of(x, y), np.random.default_rng(self.settings.seed)
        p = {m: rng.random((value.shape[1], y.shape[1])) for m, value in x.items()}
        for _ in range(self.settings.rounds):
            p = update(p)
        for m, value in p.items():
            self.keep(f"{m}_projection", value)
        self.fitted(x, y, p)

    def fitted(self, x: Arrays, y: np.ndarray, p: Arrays) -> None:
        """Keep what encoding needs besides the projections."""

    def projected(self, modality: str, batch: base.Batch) -> Tensor:
        """(B, C) projections of a modality's items."""
        return self.features(modality, batch) @ self.get_buffer(f"{modality}_projection")


def sparsity(p: np.ndarray) -> np.ndarray:
    """(D, D) the diagonal matrix of 1 / (2 ‖row of P‖), by which the ℓ2,1 norm enters a solution."""
    return np.diag(1 / (2 * np.maximum(np.linalg.norm(p, axis=1), closed_form.NEGLIGIBLE)))


def indicators(labels: np.ndarray) -> np.ndarray:
    """(N, C) zeros and ones of (N,) classes, or of (N, C) ones, as they are."""
    return labels.astype(np.float64) if labels.ndim == 2 else np.eye(int(labels.max()) + 1)[labels]


def hyperedges(projected: np.ndarray, k: int):
    """(N, N) sparse incidence of the items (rows) in the hyperedges (columns) of each item's k nearest others."""
    from scipy.sparse import csr_matrix
    from scipy.spatial.distance import cdist

    n = len(projected)
    k = min(k, n - 1)
    columns = []
    for start in range(0, n, BLOCK):
        part = projected[start : start + BLOCK]
        far = cdist(part, projected)
        far[np.arange(len(part)), np.arange(start, start + len(part))] = np.inf
        columns.append(np.argpartition(far, k - 1, axis=1)[:, :k])
    members = np.concatenate(columns)
    owners = np.repeat(np.arange(n), k)
    return csr_matrix((np.ones(n * k), (members.ravel(), owners)), shape=(n, n))
