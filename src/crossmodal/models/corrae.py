"""Corr-AE: correspondence autoencoders of two modalities (Feng et al., 2014; named in the CVS thesis).

Each modality's code must reconstruct its features, and the codes of a pair must be near: the loss is
(1 - λ) · reconstructions + λ · distance of the codes. No classes are used. The layers that the paper initialises as
restricted Boltzmann machines begin with random weights here.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.correspondence import CorrespondenceAutoencoders
from crossmodal.models.parts.encoders import Standardiser
from crossmodal.models.parts.labelled import Labelled, Standardise


class Settings(Labelled):
    """λ is the paper's, from memory; sizes, rate and schedule are this project's choice.

    Features are standardised by default, so that each counts the same in the squared errors.
    """

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    standardise: Standardise = True
    hidden: tuple[int, ...] = Field((1024,), description="units of the layers between features and codes")
    dim: int = Field(1024, ge=1, description="dimensions of a code")
    distance: float = Field(0.2, ge=0, le=1, description="λ: weight of the distance of a pair's codes")
    lr: float = Field(1e-3, gt=0)


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        dims = {m: context.shapes[m][0] for m in settings.modalities}
        self.scaled = nn.ModuleDict({m: Standardiser(context, m, wanted=settings.standardise) for m in dims})
        self.autoencoders = CorrespondenceAutoencoders(dims, settings.hidden, settings.dim)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) codes of unit length; `partner` makes no difference."""
        return F.normalize(self.autoencoders(modality, self.scaled[modality](batch.inputs[modality])), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        terms = self.autoencoders.losses({m: self.scaled[m](batch.inputs[m]) for m in self.settings.modalities})
        weight = self.settings.distance
        return {"loss": (1 - weight) * terms["reconstruction"] + weight * terms["distance"], **terms}
