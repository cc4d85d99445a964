"""ACMR: adversarial cross-modal retrieval (Wang et al., 2017; a row of 003, table 5).

A projector a modality, a classifier of labels, triplets between modalities, and a classifier of modalities that the
projectors are trained against. The document gives the 200 dimensions (section 2.4) and the idea; the rest is of the
authors' paper. The minimax game runs through a gradient reversal, as theirs does.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.adversaries import reversal_strength, reverse_gradient
from crossmodal.models.parts.closed import Modality
from crossmodal.models.parts.encoders import Perceptron, Scaled


class Settings(base.Schedule):
    """The settings of ACMR's paper; it leaves open the margin and the sizes of the hidden layers of text."""

    modalities: tuple[Modality, ...] = Field(("image", "text"), min_length=2, description="those that are read")
    hidden: tuple[int, ...] = Field((2000,), description="units of each projector's hidden layers")
    dim: int = Field(200, ge=4, description="dimensions of the common space")
    batch_size: int = Field(64, ge=2)
    epochs: int = Field(200, ge=1)
    lr: float = Field(1e-4, gt=0)
    lr_drop: int = Field(200, ge=1)
    label_weight: float = Field(0.1, ge=0, description="α of the classes' cross-entropy")
    triplet_weight: float = Field(1.0, ge=0, description="β of the triplets")
    margin: float = Field(1.0, ge=0, description="of the triplets, on squared distances of unit vectors")
    adversarial_weight: float = Field(0.1, ge=0, description="of the modality classifier; 0 leaves it out")
    steepness: float = Field(10.0, ge=0, description="of the growth of the reversal's strength over the training")


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.scaled = nn.ModuleDict({m: Scaled(context, m) for m in settings.modalities})
        self.projectors = nn.ModuleDict(
            {
                m: Perceptron(*context.shapes[m], *settings.hidden, settings.dim, activation=nn.Tanh)
                for m in settings.modalities
            }
        )
        self.labels = nn.Linear(settings.dim, context.n_classes)
        halves = (settings.dim, settings.dim // 2, settings.dim // 4)
        self.modality = Perceptron(*halves, len(settings.modalities))

    def _vectors(self, modality: str, batch: base.Batch) -> Tensor:
        return torch.tanh(self.projectors[modality](self.scaled[modality](batch.inputs[modality])))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        return F.normalize(self._vectors(modality, batch), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        vectors = {m: self._vectors(m, batch) for m in s.modalities}
        together = torch.cat([*vectors.values()])
        of_classes = F.cross_entropy(self.labels(together), batch.labels.repeat(len(vectors)))
        triplets = triplet_loss({m: F.normalize(x, dim=1) for m, x in vectors.items()}, batch.labels, s.margin)
        terms = {"classes": of_classes, "triplets": triplets}
        total = s.label_weight * of_classes + s.triplet_weight * triplets
        if s.adversarial_weight:
            strength = reversal_strength(progress, s.steepness)
            which = torch.arange(len(vectors), device=together.device).repeat_interleave(len(batch.labels))
            told = F.cross_entropy(self.modality(reverse_gradient(together, strength)), which)
            total = total + s.adversarial_weight * told
            terms["modality"] = told
        return {"loss": total, **terms}


def triplet_loss(vectors: Mapping[str, Tensor], labels: Tensor, margin: float) -> Tensor:
    """Hinges of squared distances between modalities, averaged over the anchors of every ordered pair of modalities.

    An anchor's positive is the farthest item of its class in the other modality, its negative the nearest of another
    class. Row i of each modality has the class `labels[i]`; all vectors are of unit length.
    """
    same = labels[:, None] == labels[None, :]
    parts = []
    for a, b in permutations(vectors.values(), 2):
        distances = 2 - 2 * a @ b.T  # squared, of unit vectors
        farthest = distances.masked_fill(~same, -torch.inf).amax(1)
        nearest = distances.masked_fill(same, torch.inf).amin(1)
        hinges = (farthest - nearest + margin).clamp(min=0)  # without a negative: 0
        parts.append(hinges.mean())
    return torch.stack(parts).mean()
