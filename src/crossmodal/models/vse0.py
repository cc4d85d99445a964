"""VSE0: VSE++ with the sum of hinges over all negatives in place of the hardest one (001, reference [3])."""

from __future__ import annotations

from typing import ClassVar

from crossmodal.models import vsepp


class Settings(vsepp.Settings):
    """As VSE++."""


class Model(vsepp.Model):
    hardest: ClassVar[bool] = False
