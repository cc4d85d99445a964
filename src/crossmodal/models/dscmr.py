"""DSCMR: deep supervised cross-modal retrieval (Zhen et al., 2019; CVS thesis, section 2.4, eq. 2.4.1 to 2.4.6).

DSCMR has one network per modality with a shared last layer, a linear classifier P in the common space, and three
losses: on the labels, on the similarities within and between modalities, and on the distance of items that belong
together. With more than two modalities, the losses of all pairs are summed and each modality's own losses are counted
once.

The defaults are those of the authors' program, which differs from the equations in two ways. It averages the norms of
the rows (`norms`) where eq. 2.4.1 and 2.4.2 print a Frobenius norm divided by N, which is √N times smaller for rows of
equal norm, so that the weights would depend on the batch size; and P has a bias (`bias`). The program also selects the
best epoch on the test items; here it is selected on the validation items.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.encoders import MLP, standardisers
from crossmodal.models.parts.labelled import Labelled, Standardise, ones, same_class
from crossmodal.models.parts.optimisers import Adam, Betas

Norms = Literal["rows", "frobenius"]


class Settings(Labelled):
    """Networks, weights and schedule are those of the authors' program, since the thesis leaves them open."""

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    standardise: Standardise = False
    hidden: tuple[int, ...] = Field((2048,), min_length=1, description="units of each modality's hidden layers")
    dim: int = Field(1024, ge=1, description="units of the shared last layer: dimensions of the common space")
    batch_size: int = Field(100, ge=2)
    epochs: int = Field(500, ge=1)
    lr: float = Field(1e-4, gt=0)
    lr_drop: int = Field(500, ge=1)
    betas: Betas = (0.5, 0.999)
    clip: float = Field(0.0, ge=0)
    class_weight: float = Field(1.0, ge=0, description="weight of the loss of eq. 2.4.2")
    modal_weight: float = Field(1e-3, ge=0, description="weight of the loss of eq. 2.4.6")
    invariance_weight: float = Field(0.1, ge=0, description="weight of the loss of eq. 2.4.1")
    scale: float = Field(
        0.5, gt=0, description="factor of the cosines in eq. 2.4.3 to 2.4.5, which print them unscaled"
    )
    norms: Norms = Field(
        "rows",
        description="norm of differences: rows: the mean norm of the rows; frobenius: the norm of the whole "
        "matrix over N, as eq. 2.4.1 prints",
    )
    bias: bool = Field(True, description="whether the classifier has a bias; that of eq. 2.4.2 has none")


class Model(Adam):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.scaled = standardisers(context, settings.modalities, wanted=settings.standardise)
        self.networks = nn.ModuleDict({m: MLP(*context.shapes[m], *settings.hidden) for m in settings.modalities})
        self.shared = nn.Linear(settings.hidden[-1], settings.dim)
        self.classifier = nn.Linear(settings.dim, context.n_classes, bias=settings.bias)  # P

    def _vectors(self, modality: str, batch: base.Batch) -> Tensor:
        return self.shared(F.relu(self.networks[modality](self.scaled[modality](batch.inputs[modality]))))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        return F.normalize(self._vectors(modality, batch), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        vectors = {m: self._vectors(m, batch) for m in s.modalities}
        of_batch = ones(batch.labels, self.context.n_classes).to(vectors[s.modalities[0]])
        of_classes = label_loss({m: self.classifier(x) for m, x in vectors.items()}, of_batch, s.norms)
        modal = modal_loss(vectors, batch.labels, s.scale)
        invariance = invariance_loss(vectors, s.norms)
        total = s.class_weight * of_classes + s.modal_weight * modal + s.invariance_weight * invariance
        return {"loss": total, "classes": of_classes, "modal": modal, "invariance": invariance}


def norm_of(rows: Tensor, norms: Norms) -> Tensor:
    """The mean norm of the (N, d) rows, or the Frobenius norm of the matrix divided by N."""
    if norms == "rows":
        return torch.linalg.vector_norm(rows, dim=1).mean()
    return torch.linalg.vector_norm(rows) / len(rows)


def invariance_loss(vectors: Mapping[str, Tensor], norms: Norms = "rows") -> Tensor:
    """The norm of U - V, the (N, d) vectors of two modalities, summed over pairs of modalities (eq. 2.4.1)."""
    return torch.stack([norm_of(u - v, norms) for u, v in combinations(vectors.values(), 2)]).sum()


def label_loss(predicted: Mapping[str, Tensor], ones: Tensor, norms: Norms = "rows") -> Tensor:
    """The norm of PᵀU - Y of (N, C) predictions and labels (`ones`), summed over modalities (eq. 2.4.2)."""
    return torch.stack([norm_of(p - ones, norms) for p in predicted.values()]).sum()


def modal_loss(vectors: Mapping[str, Tensor], labels: Tensor, scale: float = 0.5) -> Tensor:
    """Mean of log(1 + exp Γ) - S Γ over all pairs of items; Γ is `scale` times their cosine, S is 1 for equal classes.

    It is summed over pairs of modalities (eq. 2.4.3) and over modalities (eq. 2.4.4 and 2.4.5), as in eq. 2.4.6.
    """
    same = same_class(labels).to(next(iter(vectors.values())))
    units = {m: F.normalize(x, dim=1) for m, x in vectors.items()}
    pairs = [*combinations(units.values(), 2), *((u, u) for u in units.values())]
    parts = []
    for u, v in pairs:
        gamma = scale * (u @ v.T)
        parts.append((F.softplus(gamma) - same * gamma).mean())
    return torch.stack(parts).sum()
