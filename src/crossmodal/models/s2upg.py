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

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from crossmodal.models import base
from crossmodal.models.parts import class_projections
from crossmodal.models.parts.class_projections import Arrays, ClassProjections, hyperedges, sparsity


class Settings(class_projections.Settings):
    """The weights of the authors' program, which returns the projections of the round before the last."""

    classes_weight: float = Field(10.0, gt=0, description="μ: weight of the squared errors of the classes")
    sparsity: float = Field(1000.0, ge=0, description="γ: weight of the ℓ2,1 norm of the projections")
    graph: float = Field(0.1, ge=0, description="σ: weight of the hypergraph's regularisation")
    neighbours: int = Field(100, ge=1, description="k: nearest items in a hyperedge, and in an item's description")
    rounds: int = Field(2, ge=1, description="updates of the projections")


class Model(ClassProjections):
    settings: Settings

    def update_of(self, x: Arrays, y: np.ndarray) -> Callable[[Arrays], Arrays]:
        return lambda p: updated(x, y, p, self.settings)

    def fitted(self, x: Arrays, y: np.ndarray, p: Arrays) -> None:
        self.keep("items", np.concatenate([x[m] @ p[m] for m in x]))
        self.keep("classes", np.concatenate([y for _ in x]))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, C) shares of the classes among the nearest training items of all modalities; `partner` is not read.

        A neighbour at distance d weighs σ(-d), and an item's weights sum to 1.
        """
        projected = self.projected(modality, batch)
        items, classes = self.get_buffer("items"), self.get_buffer("classes")
        k = min(self.settings.neighbours, len(items))
        near = torch.cdist(projected, items).topk(k, dim=1, largest=False)
        # σ(-d) underflows far from all items; its ratios, which alone matter, are then those of exp(-d).
        logs = torch.nn.functional.logsigmoid(-near.values)
        return (logs.softmax(1)[:, None] @ classes[near.indices]).squeeze(1)


def updated(x: Arrays, y: np.ndarray, p: Arrays, s: Settings) -> Arrays:
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
        left = s.classes_weight * (value - value.mean(0)).T @ (value - value.mean(0))
        left += s.sparsity * sparsity(p[m]) + s.graph * within
        found[m] = np.linalg.solve(left, s.classes_weight * value.T @ centred - s.graph * others)
    return found
