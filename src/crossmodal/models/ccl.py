"""CCL: cross-modal correlation learning by a hierarchical network (Peng et al., 2018; a row of the CVS thesis).

Correspondence autoencoders are trained first. A second network on their codes is then trained by two tasks at once: a
contrastive loss between the modalities over all pairs of a batch, and a classification within each modality.

This is a shortened form of the authors' program (CCL_TMM2018), whose first part is made of restricted Boltzmann
machines and a separate classifier, for whole items and for their patches. Here the codes of whole items are read by the
second network directly, and all layers are trained in the second stage. The program standardises its outputs by the
test set; here running statistics of the training do.
"""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.correspondence import CorrespondenceAutoencoders
from crossmodal.models.parts.encoders import Standardiser
from crossmodal.models.parts.labelled import Labelled, Standardise, same_class, targets
from crossmodal.models.parts.optimisers import Chosen
from crossmodal.models.parts.triplets import squared_distances

SMALLEST = 1e-12  # of a squared distance, whose root then has a finite gradient


class Settings(Labelled):
    """Weights and second stage of the authors' program; its 20,000 steps of 80 are 736 epochs of Wikipedia's items.

    The program trains the second stage by stochastic gradient descent (`optimiser: sgd`, `lr: .0001`,
    `weight_decay: .004`) on fixed codes, so that Adam for all layers together is this project's choice, as is the first
    stage's length.
    """

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    standardise: Standardise = True
    hidden: tuple[int, ...] = Field((2048,), description="units of the layers between features and codes")
    dim: int = Field(1024, ge=1, description="dimensions of the codes and of both layers of the second network")
    batch_size: int = Field(80, ge=2)
    pretrain_epochs: int = Field(50, ge=0, description="epochs of the first stage, the correspondence autoencoders")
    epochs: int = Field(200, ge=1, description="epochs of the second stage")
    optimiser: Literal["adam", "sgd", "nesterov"] = Field(
        "adam", description="optimiser; sgd and nesterov have a momentum of .9"
    )
    lr: float = Field(1e-4, gt=0)
    lr_drop: int = Field(200, ge=1)
    clip: float = Field(0.0, ge=0)
    reconstruction: float = Field(0.3, ge=0, description="weight of the reconstructions in the first stage")
    distance: float = Field(0.7, ge=0, description="weight of the distance of a pair's codes in the first stage")
    margin: float = Field(1.0, ge=0, description="distance from which on items of different classes cost nothing")


class Model(Chosen):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        dims = {m: context.shapes[m][0] for m in s.modalities}
        self.scaled = nn.ModuleDict({m: Standardiser(context, m, wanted=s.standardise) for m in dims})
        self.autoencoders = CorrespondenceAutoencoders(dims, s.hidden, s.dim)
        self.networks = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(s.dim, s.dim), nn.Sigmoid(), nn.Linear(s.dim, s.dim)) for m in dims}
        )
        self.classifiers = nn.ModuleDict({m: nn.Linear(s.dim, context.n_classes) for m in dims})
        self.norms = nn.ModuleDict({m: nn.BatchNorm1d(s.dim, affine=False) for m in dims})
        self.pretraining = False

    def stages(self) -> list[base.Stage]:
        s = self.settings
        first = base.Stage("correspondence", s.pretrain_epochs, s.lr, s.pretrain_epochs or 1, selects=False)
        return [*([first] if s.pretrain_epochs else []), base.Stage("train", s.epochs, s.lr, s.lr_drop, s.lr_factor)]

    def begin(self, stage: base.Stage) -> None:
        self.pretraining = stage.name == "correspondence"

    def _logits(self, modality: str, batch: base.Batch) -> Tensor:
        """(B, dim) outputs of the second network, before its logistic units."""
        codes = self.autoencoders(modality, self.scaled[modality](batch.inputs[modality]))
        return self.networks[modality](codes)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) outputs, standardised by their running statistics, of unit length; `partner` is not read."""
        return F.normalize(self.norms[modality](torch.sigmoid(self._logits(modality, batch))), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        if self.pretraining:
            terms = self.autoencoders.losses({m: self.scaled[m](batch.inputs[m]) for m in s.modalities})
            return {"loss": s.reconstruction * terms["reconstruction"] + s.distance * terms["distance"], **terms}
        logits = {m: self._logits(m, batch) for m in s.modalities}
        outputs = {m: torch.sigmoid(x) for m, x in logits.items()}
        for m, x in outputs.items():
            self.norms[m](x.detach())  # keeps the statistics
        same = same_class(batch.labels)
        pairs = combinations(outputs.values(), 2)
        terms = {
            "contrastive": torch.stack([contrastive_loss(a, b, same, s.margin) for a, b in pairs]).sum(),
            "classes": torch.stack(
                [F.cross_entropy(self.classifiers[m](x), targets(batch.labels)) for m, x in logits.items()]
            ).sum(),
        }
        return {"loss": terms["contrastive"] + terms["classes"], **terms}


def contrastive_loss(x: Tensor, y: Tensor, same: Tensor, margin: float) -> Tensor:
    """Σ d² of pairs of the same class and Σ max(0, m - d)² of others, over 2 B, for all pairs of (B, d) vectors.

    The program's own gradient is twice that of this value, which it prints.
    """
    squares = squared_distances(x, y)
    others = (margin - squares.clamp(min=SMALLEST).sqrt()).clamp(min=0).square()
    return torch.where(same, squares, others).sum() / (2 * len(x))
