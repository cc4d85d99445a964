"""Semantic correlation matching: class probabilities of CCA's projections (Rasiwasia et al., 2010).

This classical baseline combines `cca` and `sm`: it fits one logistic regression per modality in the common space of
each pair.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base, cca
from crossmodal.models.base import Form
from crossmodal.models.parts.classifier import logistic
from crossmodal.models.parts.closed_form import projection


class Settings(cca.Settings):
    regularisation: float = Field(
        0.1, ge=0, description="κ, as a multiple of the mean variance of a modality's dimensions"
    )
    inverse_penalty: float = Field(
        1.0, gt=0, description="C of the logistic regression; smaller values regularise more"
    )
    iterations: int = Field(300, ge=1, description="largest number of iterations of its solver")


class Model(cca.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    settings: Settings

    def fit_pair(self, a: str, x: np.ndarray, b: str, y: np.ndarray, labels: np.ndarray | None) -> None:
        super().fit_pair(a, x, b, y, labels)
        for modality, partner, values in ((a, b, x), (b, a, y)):
            name = projection(modality, partner)
            projected = values @ self.get_buffer(name).double().numpy()
            weight, bias = logistic(projected, labels, self.settings.inverse_penalty, self.settings.iterations)
            self.keep(f"{name}_weight", weight)
            self.keep(f"{name}_bias", bias)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, C) probabilities of the classes, of unit length, in the space of the two modalities."""
        name = projection(modality, partner)
        projected = self.features(modality, batch) @ self.get_buffer(name)
        logits = projected @ self.get_buffer(f"{name}_weight") + self.get_buffer(f"{name}_bias")
        return F.normalize(torch.softmax(logits, dim=1), dim=1)
