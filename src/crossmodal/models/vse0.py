"""VSE0: VSE++ with the sum of hinges over all negatives in place of the hardest one (Faghri et al., 2018)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from crossmodal.models import base, vsepp


class Settings(vsepp.Settings):
    """Settings of VSE++ with a warm-up that never ends."""

    warm_up: float = Field(1.0, ge=1, le=1, description="share of the training in which all negatives count: all of it")
    unit_images: bool = Field(
        True,
        description="whether images have vectors of unit length, as captions always have. The paper scales both "
        "(section 3.1); the README of its program trains VSE0 with `--no_imgnorm`",
    )


class Model(vsepp.Model):
    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.image.unit = settings.unit_images

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) vectors, of unit length but for images without `unit_images`; `partner` makes no difference."""
        return super().encode(modality, batch, partner)
