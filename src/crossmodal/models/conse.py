"""ConSE: an image is a convex combination of its likeliest seen classes' vectors (Norouzi et al., 2014).

It is described in section 9.2.2.2 of Liu et al. (2020).

In zero-shot recognition without a trained map, a softmax classifier of the seen classes weights their vectors (eq. 9.6
and 9.7), and an image is assigned the class whose vector has the largest cosine with the weighted sum.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.classifier import logistic
from crossmodal.models.parts.closed_form import ClosedForm
from crossmodal.models.parts.zero_shot import ClassSettings, vectors_of


class Settings(ClassSettings):
    standardise: bool = Field(True, description="divide features by their s.d. over the training items")
    top: int = Field(10, ge=1, description="T: number of the most probable seen classes that are combined")
    inverse_penalty: float = Field(
        0.01, gt=0, description="C of the softmax classifier; smaller values regularise more"
    )
    iterations: int = Field(300, ge=1, description="largest number of iterations of its solver")


class Model(ClosedForm):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "class": "classes"}

    settings: Settings

    def fit_all(self, values: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
        x = self.scaled("image", values["image"])
        weight, bias = logistic(x, labels, self.settings.inverse_penalty, self.settings.iterations)
        self.keep("weight", weight)
        self.keep("bias", bias)
        self.keep("classes", vectors_of(values["class"], labels))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, K) unit vectors: f(I) of images (eq. 9.6), and w of classes."""
        if modality == "class":
            return F.normalize(batch.inputs["class"], dim=1)
        logits = self.features("image", batch) @ self.get_buffer("weight") + self.get_buffer("bias")
        classes = F.normalize(self.get_buffer("classes"), dim=1)
        return F.normalize(convex(torch.softmax(logits, dim=1), classes, self.settings.top), dim=1)


def convex(probabilities: Tensor, classes: Tensor, top: int) -> Tensor:
    """(B, K) sums of the (C, K) vectors of the `top` likeliest classes, weighted by their (B, C) probabilities / Z."""
    best, places = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
    return torch.einsum("bt,btk->bk", best / best.sum(1, keepdim=True), classes[places])  # the sum is Z of eq. 9.7
