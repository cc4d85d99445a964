"""ACMR: adversarial cross-modal retrieval (Wang et al., 2017; a row of the CVS thesis, table 5).

ACMR has one projector per modality, a classifier of labels, triplets between modalities, and a classifier of modalities
against which the projectors are trained. The thesis gives the idea and the 200 dimensions (section 2.4); the losses and
their weights are those of the authors' program with triplets. That adds 100 times the mean cross-entropy to a hinge on
squared distances summed over the batch. The positive of an anchor is the other item of its pair, its negative the
partner of the most similar item of another class. The minimax game is played through gradient reversal.

Two properties of that program are settings here, since they leave out the paper's idea. It never trains the classifier
of labels (`classifier: fixed`), and it trains the classifier of modalities in a step of its own, without training the
projectors against it (`adversarial_weight: 0`). The default here is the sum of both losses, which the program defines
but does not use.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.adversaries import reversal_strength, reverse_gradient
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.encoders import MLP, standardisers
from crossmodal.models.parts.labelled import Labelled, Standardise, same_class, targets
from crossmodal.models.parts.optimisers import Adam, Betas
from crossmodal.models.parts.triplets import squared_distances, with_squares


class Settings(Labelled):
    """Losses, weights and schedule of the authors' program, whose networks are smaller and differ by data set."""

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    standardise: Standardise = False
    hidden: tuple[int, ...] = Field((2000,), description="units of each projector's hidden layers")
    dim: int = Field(200, ge=4, description="dimensions of the common space")
    unit: bool = Field(
        False,
        description="whether vectors are scaled to unit length, also for the triplet loss; else they are the "
        "outputs of tanh",
    )
    batch_size: int = Field(64, ge=2)
    epochs: int = Field(200, ge=1)
    lr: float = Field(1e-4, gt=0)
    lr_drop: int = Field(200, ge=1)
    betas: Betas = (0.5, 0.999)
    clip: float = Field(0.0, ge=0)
    label_weight: float = Field(
        100.0, ge=0, description="weight of the cross-entropy of the classes, summed over the modalities"
    )
    classifier: Literal["trained", "fixed"] = Field(
        "trained", description="whether the label classifier is trained, or fixed at its initial weights"
    )
    triplet_weight: float = Field(1.0, ge=0, description="weight of the triplet loss")
    triplets: Literal["similar", "random", "hardest"] = Field(
        "similar",
        description="negative of an anchor: similar: the partner of the item of another class whose features are the "
        "most similar to the anchor's (as in the program); random: the partner of a random item of another class; in "
        "both cases the positive is the anchor's partner; hardest: the nearest item of another class in the common "
        "space, with the farthest item of its class as positive (in no program)",
    )
    hinge: Literal["batch", "each"] = Field(
        "batch",
        description="batch: one hinge of the sums over the anchors of a batch (as in the program); each: the "
        "sum of one hinge per anchor",
    )
    margin: float = Field(0.1, ge=0, description="margin of the hinges on halved squared distances")
    positive_weight: float = Field(5.0, ge=0, description="weight of the distance to the positive in the hinges")
    adversarial_weight: float = Field(
        1.0, ge=0, description="weight of the loss of the modality classifier; 0 leaves the classifier out"
    )
    adversary: Literal["linear", "relu"] = Field(
        "linear",
        description="activations between the layers of the modality classifier: linear: none (as in the "
        "program); relu: ReLUs",
    )
    steepness: float = Field(
        10.0, ge=0, description="steepness of the growth of the gradient reversal's strength during training"
    )


class Model(Adam):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.scaled = standardisers(context, settings.modalities, wanted=settings.standardise)
        self.projectors = nn.ModuleDict(
            {
                m: MLP(*context.shapes[m], *settings.hidden, settings.dim, activation=nn.Tanh)
                for m in settings.modalities
            }
        )
        self.labels = nn.Linear(settings.dim, context.n_classes)
        self.labels.requires_grad_(settings.classifier == "trained")
        sizes = (settings.dim, settings.dim // 2, settings.dim // 4, len(settings.modalities))
        self.modality = MLP(*sizes, activation=nn.ReLU if settings.adversary == "relu" else nn.Identity)

    def _vectors(self, modality: str, batch: base.Batch) -> Tensor:
        vectors = torch.tanh(self.projectors[modality](self.scaled[modality](batch.inputs[modality])))
        return F.normalize(vectors, dim=1) if self.settings.unit else vectors

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference.

        Without `unit`, (B, dim + 2) vectors; inner products are minus half the squared distances.
        """
        vectors = self._vectors(modality, batch)
        order = self.settings.modalities.index
        return vectors if self.settings.unit else with_squares(vectors, order(modality) < order(partner))

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        vectors = {m: self._vectors(m, batch) for m in s.modalities}
        entropies = [F.cross_entropy(self.labels(x), targets(batch.labels)) for x in vectors.values()]
        terms = {"classes": torch.stack(entropies).sum(), "triplets": self._triplets(vectors, batch)}
        total = s.label_weight * terms["classes"] + s.triplet_weight * terms["triplets"]
        if s.adversarial_weight:
            terms["modality"] = self._modality_loss(vectors, reversal_strength(progress, s.steepness))
            total = total + s.adversarial_weight * terms["modality"]
        return {"loss": total, **terms}

    def _triplets(self, vectors: Mapping[str, Tensor], batch: base.Batch) -> Tensor:
        """The triplet losses of all ordered pairs of modalities, summed."""
        s = self.settings
        parts = []
        for a, b in permutations(vectors, 2):
            distances = squared_distances(vectors[a], vectors[b]) / 2
            if s.triplets == "hardest":
                positive, negative = hardest(distances.detach(), batch.labels)
            else:
                alike = alikeness(batch.inputs[a]) if s.triplets == "similar" else torch.rand_like(distances)
                negative = alike.masked_fill(same_class(batch.labels), -torch.inf).argmax(1)
                positive = torch.arange(len(negative), device=negative.device)
            parts.append(triplet_loss(distances, batch.labels, positive, negative, s))
        return torch.stack(parts).sum()

    def _modality_loss(self, vectors: Mapping[str, Tensor], strength: float) -> Tensor:
        """The cross-entropy of the classifier of modalities, averaged over items and summed over modalities."""
        logits = [self.modality(reverse_gradient(x, strength)) for x in vectors.values()]
        parts = [F.cross_entropy(x, torch.full((len(x),), k, device=x.device)) for k, x in enumerate(logits)]
        return torch.stack(parts).sum()


def alikeness(features: Tensor) -> Tensor:
    """(B, B) cosines of (B, D) features with each other."""
    units = F.normalize(features, dim=1)
    return units @ units.T


def hardest(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) column of each row's farthest item of the same class, and (B,) of its nearest item of another class."""
    same = same_class(labels)
    return distances.masked_fill(~same, -torch.inf).argmax(1), distances.masked_fill(same, torch.inf).argmin(1)


def triplet_loss(distances: Tensor, labels: Tensor, positive: Tensor, negative: Tensor, settings: Settings) -> Tensor:
    """One hinge on the batch's sums, or the sum of the anchors' hinges (`hinge`), over anchors with a negative.

    Parameters
    ----------
    distances : (B, B) of anchors (rows) and items of the other modality, row and column i both of class `labels[i]`.
    positive, negative : (B,) columns of each anchor's positive and negative.
    """
    s = settings
    has_negative = (~same_class(labels)).any(1)
    near = s.positive_weight * distances.gather(1, positive[:, None])[has_negative, 0]
    far = distances.gather(1, negative[:, None])[has_negative, 0]
    if s.hinge == "batch":
        return (s.margin + near.sum() - far.sum()).clamp(min=0) * has_negative.any()
    return (s.margin + near - far).clamp(min=0).sum()
