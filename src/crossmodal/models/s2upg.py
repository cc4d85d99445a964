"""S2UPG: feature learning with unified patch graph regularisation (Peng et al., 2016; a row of the CVS thesis).

A closed form in a few rounds: linear projections of all modalities to the classes, which are regularised by a
hypergraph over the projected items of all modalities, in which each item is a hyperedge over its nearest neighbours,
and by the ℓ2,1 norm. An item is then described by the classes of its nearest training items of all modalities.

The authors' program (S2UPG_TCSVT2016) is transductive: its graph holds the test items, and an item is the mean of
itself and its patches. Here the graph holds the training items alone, and there are no patches. The program means to
take cube roots of features, but divides them by three where it learns, which makes no difference after scaling; here
features are taken as they are.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts import closed_form
from crossmodal.models.parts.closed_form import ClosedForm

BLOCK = 1024  # items whose distances to all others are computed at a time


class Settings(closed_form.Settings):
    """The weights of the authors' program, which returns the projections of the round before the last."""

    classes_weight: float = Field(10.0, gt=0, description="μ: weight of the squared errors of the classes")
    sparsity: float = Field(1000.0, ge=0, description="γ: weight of the ℓ2,1 norm of the projections")
    graph: float = Field(0.1, ge=0, description="σ: weight of the hypergraph's regularisation")
    neighbours: int = Field(100, ge=1, description="k: nearest items in a hyperedge, and in an item's description")
    rounds: int = Field(2, ge=1, description="updates of the projections")
    seed: int = Field(0, ge=0, description="seed of the first projections, which are uniformly random")


class Model(ClosedForm):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    settings: Settings

    def fit_all(self, values: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
        s = self.settings
        x = {m: self.scaled(m, value) for m, value in values.items()}
        y = indicators(labels)
        rng = np.random.default_rng(s.seed)
        p = {m: rng.random((value.shape[1], y.shape[1])) for m, value in x.items()}
        for _ in range(s.rounds):
            p = updated(x, y, p, s)
        for m, value in p.items():
            self.keep(f"{m}_projection", value)
        self.keep("items", np.concatenate([x[m] @ p[m] for m in x]))
        self.keep("classes", np.concatenate([y for _ in x]))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, C) shares of the classes among the nearest training items of all modalities; `partner` is not read.

        A neighbour at distance d weighs σ(-d), and an item's weights sum to 1.
        """
        projected = self.features(modality, batch) @ self.get_buffer(f"{modality}_projection")
        items, classes = self.get_buffer("items"), self.get_buffer("classes")
        k = min(self.settings.neighbours, len(items))
        near = torch.cdist(projected, items).topk(k, dim=1, largest=False)
        # σ(-d) underflows far from all items; its ratios, which alone matter, are then those of exp(-d).
        logs = torch.nn.functional.logsigmoid(-near.values)
        return (logs.softmax(1)[:, None] @ classes[near.indices]).squeeze(1)


def indicators(labels: np.ndarray) -> np.ndarray:
    """(N, C) zeros and ones of (N,) classes, or of (N, C) ones, as they are."""
    return labels.astype(np.float64) if labels.ndim == 2 else np.eye(int(labels.max()) + 1)[labels]


def updated(x: dict[str, np.ndarray], y: np.ndarray, p: dict[str, np.ndarray], s: Settings) -> dict[str, np.ndarray]:
    """One update of the projections (D, C) of each modality.

    P_m = (μ XᵀH X + γ D + σ Xᵀ L_mm X)⁻¹ (μ XᵀH Y - σ Σ_n Xᵀ L_mn X_n P_n), where H centres, D is diagonal with
    1 / (2 ‖row of P‖), and L_mn are blocks of the hypergraph's Laplacian I - D_v⁻¹ H D_e⁻¹ Hᵀ D_v⁻¹.

    Parameters
    ----------
    x : modality to (N, D) scaled features, centred.
    y : (N, C) zeros and ones.
    """
    projected = np.concatenate([x[m] @ p[m] for m in x])
    edges = hyperedges(projected, s.neighbours)
    degrees = np.asarray(edges.sum(1)).ravel() + 1  # as in the program, whose degrees begin at 1
    spread = {}
    for place, m in enumerate(x):
        rows = slice(place * len(y), (place + 1) * len(y))
        # Hᵀ D_v⁻¹ X, by which all blocks of the second part of the Laplacian are products.
        spread[m] = edges[rows].T @ (x[m] / degrees[rows, None])
    size = s.neighbours if s.neighbours < len(projected) else len(projected) - 1
    centred = y - y.mean(0)
    found = {}
    for m, value in x.items():
        others = -sum((spread[m].T @ (spread[n] @ p[n]) / size for n in x if n != m), np.zeros_like(p[m]))
        within = value.T @ value - spread[m].T @ spread[m] / size
        rows = np.maximum(np.linalg.norm(p[m], axis=1), closed_form.NEGLIGIBLE)
        left = s.classes_weight * (value - value.mean(0)).T @ (value - value.mean(0))
        left += s.sparsity * np.diag(1 / (2 * rows)) + s.graph * within
        found[m] = np.linalg.solve(left, s.classes_weight * value.T @ centred - s.graph * others)
    return found


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
