"""UNCSM: a similarity metric learned with unified deep networks (Qi et al., 2017; the row `UNSCM` of the CVS thesis).

Two pathways are trained by a contrastive loss, then by triplets in both directions; a third network then learns the
similarity of two shared vectors from pairs of the same and of different classes.

Only the paper's abstract could be read, which names these parts and no constant: every size, margin, rate and number of
epochs here is this project's choice. The thesis misspells the name.
"""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.encoders import MLP, Standardiser
from crossmodal.models.parts.labelled import Labelled, Standardise, same_class
from crossmodal.models.parts.triplets import squared_distances

SMALLEST = 1e-12  # of a squared distance, whose root then has a finite gradient
CELLS = 2**22  # numbers of a block of pairs


class Settings(Labelled):
    """Every constant is ours."""

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    standardise: Standardise = True
    hidden: tuple[int, ...] = Field((1024,), description="units of the pathways' hidden layers")
    dim: int = Field(512, ge=1, description="dimensions of the shared vectors")
    metric_units: int = Field(512, ge=1, description="units of the network of similarities")
    contrastive_epochs: int = Field(10, ge=0, description="epochs of the first stage, with the contrastive loss")
    triplet_epochs: int = Field(20, ge=0, description="epochs of the second stage, with triplets")
    epochs: int = Field(20, ge=1, description="epochs of the third stage, of the network of similarities")
    lr: float = Field(1e-3, gt=0)
    clip: float = Field(0.0, ge=0)
    margin: float = Field(1.0, ge=0, description="margin of distances in the contrastive loss")
    triplet_margin: float = Field(0.2, ge=0, description="margin of cosines in the triplets")


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        self.scaled = nn.ModuleDict({m: Standardiser(context, m, wanted=s.standardise) for m in s.modalities})
        self.pathways = nn.ModuleDict({m: MLP(*context.shapes[m], *s.hidden, s.dim) for m in s.modalities})
        # The first layer of the metric reads [x; y; x ⊙ y], whose parts are multiplied separately.
        self.of_sides = nn.ModuleDict({m: nn.Linear(s.dim, s.metric_units) for m in s.modalities})
        self.of_product = nn.Linear(s.dim, s.metric_units, bias=False)
        self.out = nn.Linear(s.metric_units, 1)
        self.stage = "train"  # as a trained run is opened; `begin` sets that of a training

    def stages(self) -> list[base.Stage]:
        s = self.settings
        epochs = {"contrastive": s.contrastive_epochs, "triplets": s.triplet_epochs, "train": s.epochs}
        return [base.Stage(name, n, s.lr, s.lr_drop, s.lr_factor) for name, n in epochs.items() if n]

    def begin(self, stage: base.Stage) -> None:
        self.stage = stage.name
        self.pathways.requires_grad_(stage.name != "train")

    def vectors(self, modality: str, batch: base.Batch) -> Tensor:
        """(B, dim) shared vectors of unit length."""
        return F.normalize(self.pathways[modality](self.scaled[modality](batch.inputs[modality])), dim=1)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim + metric_units) shared vectors, and what the network of similarities makes of each by itself."""
        vectors = self.vectors(modality, batch)
        return torch.cat([vectors, self.of_sides[modality](vectors)], 1)

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) logits that two items are of the same class; before the last stage the cosines of their vectors."""
        dim = self.settings.dim
        if self.stage != "train":
            return queries[:, :dim] @ gallery[:, :dim].T
        step = max(1, CELLS // (len(gallery) * self.settings.metric_units))
        return torch.cat([self._similar(part, gallery) for part in queries.split(step)])

    def _similar(self, x: Tensor, y: Tensor) -> Tensor:
        dim = self.settings.dim
        # W (x ⊙ y) of all pairs: for each x, the columns of W are weighted by it.
        product = torch.einsum("ad,ud,bd->abu", x[:, :dim], self.of_product.weight, y[:, :dim])
        return self.out(F.relu(product + x[:, None, dim:] + y[None, :, dim:])).squeeze(2)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """The loss of the stage, summed over the pairs of modalities."""
        s, same = self.settings, same_class(batch.labels)
        vectors = {m: self.vectors(m, batch) for m in s.modalities}
        parts = []
        for a, b in combinations(vectors, 2):
            if self.stage == "contrastive":
                parts.append(contrastive_loss(vectors[a], vectors[b], same, s.margin))
            elif self.stage == "triplets":
                scores = vectors[a] @ vectors[b].T
                parts.append(double_triplets(scores, same, s.triplet_margin))
            else:
                sides = (torch.cat([vectors[m], self.of_sides[m](vectors[m])], 1) for m in (a, b))
                parts.append(balanced_entropy(self._similar(*sides), same))
        return {"loss": torch.stack(parts).sum()}


def contrastive_loss(x: Tensor, y: Tensor, same: Tensor, margin: float) -> Tensor:
    """The mean of d² over pairs of the same class, plus that of max(0, m - d)² over others, of (B, d) vectors."""
    squares = squared_distances(x, y)
    others = (margin - squares.clamp(min=SMALLEST).sqrt()).clamp(min=0).square()
    return (squares * same).sum() / same.sum() + (others * ~same).sum() / (~same).sum().clamp(min=1)


def double_triplets(scores: Tensor, same: Tensor, margin: float) -> Tensor:
    """The mean of max(0, m - s(x, y⁺) + s(x, y⁻)) over all triplets of each direction, of which both are summed."""
    total = scores.new_zeros(())
    for of, alike in ((scores, same), (scores.T, same.T)):
        hinges = (margin - of[:, :, None] + of[:, None, :]).clamp(min=0)
        triplets = alike[:, :, None] & ~alike[:, None, :]
        total = total + (hinges * triplets).sum() / triplets.sum().clamp(min=1)
    return total


def balanced_entropy(logits: Tensor, same: Tensor) -> Tensor:
    """Binary cross-entropy of (A, B) logits, in which the pairs of the same and of different classes weigh the same."""
    positive = (F.softplus(-logits) * same).sum() / same.sum()
    return (positive + (F.softplus(logits) * ~same).sum() / (~same).sum().clamp(min=1)) / 2
