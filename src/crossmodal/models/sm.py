"""Semantic matching: each modality's class probabilities are its vectors (Rasiwasia et al., 2010).

This classical baseline fits one multinomial logistic regression per modality with scikit-learn. The probabilities of
any two modalities are compared by their cosine.
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
from crossmodal.models.parts import closed_form
from crossmodal.models.parts.classifier import logistic
from crossmodal.models.parts.closed_form import ClosedForm


class Settings(closed_form.Settings):
    inverse_penalty: float = Field(
        0.01, gt=0, description="C of the logistic regression; smaller values regularise more"
    )
    iterations: int = Field(300, ge=1, description="largest number of iterations of its solver")


class Model(ClosedForm):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    settings: Settings

    def fit_modality(self, modality: str, x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        weight, bias = logistic(x, labels, self.settings.inverse_penalty, self.settings.iterations)
        self.keep(f"{modality}_weight", weight)
        self.keep(f"{modality}_bias", bias)
        return x

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, C) probabilities of the classes, of unit length; `partner` makes no difference."""
        weight, bias = self.get_buffer(f"{modality}_weight"), self.get_buffer(f"{modality}_bias")
        return F.normalize(torch.softmax(self.features(modality, batch) @ weight + bias, dim=1), dim=1)
