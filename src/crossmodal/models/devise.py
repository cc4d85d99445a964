"""DeViSE: images mapped linearly to the vectors of their classes by a ranking loss (Frome et al., 2013).

The loss is eq. 9.5 of Liu et al. (2020).

In zero-shot recognition, an image is assigned the class whose vector has the largest inner product with the mapped
image, whether the class was seen in training or not. The authors fine-tune the image network in the end; here its
features are fixed.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.encoders import Standardiser
from crossmodal.models.parts.labelled import Labelled, Standardise
from crossmodal.models.parts.zero_shot import ClassSettings


class Settings(ClassSettings, Labelled):
    """Liu et al. (2020) leave open the schedule and the margin, which is that of Frome et al. (2013)."""

    standardise: Standardise = False
    margin: float = Field(0.1, ge=0, description="γ of the hinges")
    lr: float = Field(1e-3, gt=0)


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "class": "classes"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.scaled = Standardiser(context, "image", wanted=settings.standardise)
        self.map = nn.Linear(*context.shapes["image"], *context.shapes["class"], bias=False)  # M

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, K) vectors: M I of images, and unit vectors of classes."""
        if modality == "class":
            return F.normalize(batch.inputs["class"], dim=1)
        return self.map(self.scaled(batch.inputs["image"]))

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Eq. 9.5, averaged over the images; the negatives are the other classes of the batch."""
        labels, first = distinct(batch.labels)
        classes = self.encode("class", batch, "image")[first]
        scores = self.encode("image", batch, "class") @ classes.T
        return {"loss": ranking_loss(scores, labels, self.settings.margin)}


def ranking_loss(scores: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Σ_{j≠y} max(0, γ - s_y + s_j) of each image, averaged over the images (eq. 9.5).

    Parameters
    ----------
    scores : (B, C) scores of each image with each class.
    labels : (B,) columns of the images' own classes.
    """
    true_scores = scores.gather(1, labels[:, None])
    hinges = (margin - true_scores + scores).clamp(min=0).scatter(1, labels[:, None], 0.0)
    return hinges.sum(1).mean()


def distinct(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) index of each row's label among the C distinct ones, and (C,) first row of each distinct label."""
    classes, places = torch.unique(labels, return_inverse=True)
    rows = torch.arange(len(labels), device=labels.device)
    first = torch.full((len(classes),), len(labels), device=labels.device).scatter_reduce(0, places, rows, "amin")
    return places, first
