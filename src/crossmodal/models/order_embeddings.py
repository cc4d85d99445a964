"""Order embeddings: an image lies below its captions in the order of all coordinates (Vendrov et al., 2016).

The encoders are those of VSE0, whose vectors of unit length are made positive. A pair's score is minus the violation of
the order, Σ max(0, t - i)², which is not symmetric. mFSR, A3VSE and the CVS thesis name the system without a number.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from crossmodal.models import base, vsepp
from crossmodal.models.parts.losses import Negatives, batch_hinges
from crossmodal.models.parts.order import violations


class Settings(vsepp.Settings):
    """The settings of the authors' program (order-embedding).

    Its batches have 128 different images, so that no caption is a negative of its own image: `negatives`. It trains for
    up to 100 epochs at a constant rate and keeps every word (`min_count: 1`); here epochs and words are as in VSE++.
    """

    lr: float = Field(1e-3, gt=0, description="Adam's learning rate before the first step")
    lr_drop: int = Field(30, ge=1)
    clip: float = Field(2.0, ge=0, description="largest norm of the gradient of each parameter; 0 disables clipping")
    margin: float = Field(0.05, ge=0, description="margin by which a pair's score must exceed those of its negatives")
    negatives: Negatives = Field("other_groups", description="which pairs of the batch are negatives")
    warm_up: float = Field(1.0, ge=0, le=1, description="share of the training in which all negatives count")
    absolute: bool = Field(
        True, description="whether the vectors of unit length are made positive, as in the program's best runs"
    )


class Model(vsepp.Model):
    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors without negative coordinates; `partner` makes no difference."""
        vectors = super().encode(modality, batch, partner)
        return vectors.abs() if self.settings.absolute else vectors

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) scores of (A, dim) images with (B, dim) captions."""
        return -violations(queries, gallery)

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """Adam, with a group per parameter, so that the gradient of each is clipped by itself."""
        groups = [{"params": [p], "name": name} for name, p in self.named_parameters() if p.requires_grad]
        return {"model": torch.optim.Adam(groups, lr=stage.lr, weight_decay=self.settings.weight_decay)}

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        scores = self.score(self.encode("image", batch, "text"), self.encode("text", batch, "image"))
        return {"loss": batch_hinges(scores, self.settings, batch.groups, progress)}
