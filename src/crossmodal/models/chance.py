"""Control: random vectors. Its recall@K must be what K draws out of the gallery give."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from crossmodal.models import base
from crossmodal.models.base import Concepts, Regions, Tokens


class Settings(base.Settings):
    modalities: tuple[str, ...] | None = Field(None, description="those that are read, instead of images and captions")
    dim: int = Field(64, ge=1, description="dimensions of the random vectors")


class Model(base.Model):
    trains: ClassVar[bool] = False

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.generator = torch.Generator().manual_seed(torch.initial_seed() % 2**63)  # the run's own seed

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) standard normal draws: another call gives other vectors."""
        value = batch.inputs[modality]
        first = value[0] if isinstance(value, Tokens | Regions | Concepts) else value
        return torch.randn(len(first), self.settings.dim, generator=self.generator).to(first.device)
