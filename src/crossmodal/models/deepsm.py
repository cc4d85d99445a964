"""Deep-SM: semantic matching with one network per modality (Wei et al., 2017; a row of the CVS thesis, table 5).

Each network is trained to predict the class of its modality's items, and its class probabilities are the vectors that
are compared. The authors fine-tune the image network; here its features are fixed and read as they are.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.encoders import MLP, standardisers
from crossmodal.models.parts.labelled import Labelled, Standardise, targets


class Settings(Labelled):
    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    standardise: Standardise = False
    hidden: tuple[int, ...] = Field((2048, 1024), description="units of each modality's hidden layers")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout of the hidden layers")
    lr: float = Field(1e-3, gt=0)


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.scaled = standardisers(context, settings.modalities, wanted=settings.standardise)
        self.networks = nn.ModuleDict(
            {
                m: MLP(*context.shapes[m], *settings.hidden, context.n_classes, dropout=settings.dropout)
                for m in settings.modalities
            }
        )

    def _logits(self, modality: str, batch: base.Batch) -> Tensor:
        return self.networks[modality](self.scaled[modality](batch.inputs[modality]))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, C) class probabilities of unit length; `partner` makes no difference."""
        return F.normalize(torch.softmax(self._logits(modality, batch), dim=1), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """The cross-entropy of each modality's items, averaged over the modalities."""
        parts = [F.cross_entropy(self._logits(m, batch), targets(batch.labels)) for m in self.networks]
        return {"loss": torch.stack(parts).mean()}
