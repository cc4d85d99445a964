"""Control: knows which items belong together. Its recall must be 100 %, or the evaluation is wrong."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.models import base


class Settings(base.Settings):
    modalities: tuple[str, ...] | None = Field(None, description="those that are read, instead of images and captions")
    dim: int = 64


class Model(base.Model):
    trains: ClassVar[bool] = False
    knows_pairs: ClassVar[bool] = True

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim): a random unit vector a group (or class), the same for every item of it.

        Of items of several classes (B, C) zeros and ones, whose products are the numbers of classes that two share.
        """
        assert batch.groups is not None
        if batch.groups.ndim == 2:
            return batch.groups.float()
        vectors = [
            torch.randn(self.settings.dim, generator=torch.Generator().manual_seed(int(group)))
            for group in batch.groups
        ]
        return F.normalize(torch.stack(vectors), dim=1).to(batch.groups.device)
