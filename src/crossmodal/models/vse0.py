"""VSE0: VSE++ with the sum of hinges over all negatives in place of the hardest one (Faghri et al., 2018)."""

from __future__ import annotations

from pydantic import Field

from crossmodal.models import vsepp
from crossmodal.models.vsepp import Model

__all__ = ["Model", "Settings"]


class Settings(vsepp.Settings):
    """Settings of VSE++ with a warm-up that never ends."""

    warm_up: float = Field(1.0, ge=1, le=1, description="share of the training in which all negatives count: all of it")
