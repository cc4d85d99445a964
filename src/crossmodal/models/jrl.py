"""JRL: joint representation learning with sparse and semi-supervised regularisation (Zhai et al., 2014).

A closed form in a few rounds, which the CVS thesis names: linear projections of all modalities to the classes, whose
projections of a pair are drawn together, with a graph of nearest neighbours within each modality and the ℓ2,1 norm.
Projections of any two modalities are compared by their cosine. The form of the objective is from memory, its weights
are this project's choice, and its graph holds the training items alone.

The authors' program (JRL_TCSVT2014) has weights of 1000 for the norm and for its graph, whose Laplacian is normalised,
and of 1 for pairs, takes 100 neighbours, stops after at most five rounds where the loss falls by less than 2 %, and
compares items by the shares of the classes among their 100 nearest training items.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.parts import class_projections
from crossmodal.models.parts.class_projections import Arrays, ClassProjections, hyperedges, sparsity


class Settings(class_projections.Settings):
    """All weights are ours; the module's text has those of the program."""

    sparsity: float = Field(1.0, ge=0, description="weight of the ℓ2,1 norm of the projections")
    pairs: float = Field(0.1, ge=0, description="weight of the squared distance of a pair's projections")
    graph: float = Field(0.1, ge=0, description="weight of the graph's regularisation")
    neighbours: int = Field(10, ge=1, description="nearest items of an item in its modality's graph")
    rounds: int = Field(5, ge=1, description="updates of the projections")


class Model(ClassProjections):
    settings: Settings

    def update_of(self, x: Arrays, y: np.ndarray) -> Callable[[Arrays], Arrays]:
        smooth = {m: smoothness(value, self.settings.neighbours) for m, value in x.items()}
        return lambda p: {m: self._updated(m, x, y, p, smooth[m]) for m in x}

    def _updated(self, m: str, x: Arrays, y: np.ndarray, p: Arrays, smooth: np.ndarray) -> np.ndarray:
        """(XᵀX (1 + λ n) + γ D + σ XᵀL X)⁻¹ (XᵀY + λ Σ XᵀX_n P_n) of the n other modalities."""
        s, others = self.settings, [n for n in x if n != m]
        left = (1 + s.pairs * len(others)) * x[m].T @ x[m] + s.sparsity * sparsity(p[m]) + s.graph * smooth
        right = x[m].T @ y + s.pairs * sum(x[m].T @ (x[n] @ p[n]) for n in others)
        return np.linalg.solve(left, right)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, C) projections of unit length; `partner` makes no difference."""
        return F.normalize(self.projected(modality, batch), dim=1)


def smoothness(x: np.ndarray, k: int) -> np.ndarray:
    """(D, D) XᵀL X with the Laplacian of the symmetric graph of the k nearest of the (N, D) rows."""
    near = hyperedges(x, k)
    near = near.maximum(near.T)
    degrees = np.asarray(near.sum(1)).ravel()
    return x.T @ (x * degrees[:, None]) - x.T @ (near @ x)
