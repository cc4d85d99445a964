"""Top-down attention to the cells of a uniform grid: the baseline of bottom-up attention (Anderson et al., 2018).

It is `updown` in all but what it attends to, as the paper's "ResNet" rows are.
"""

from __future__ import annotations

from typing import ClassVar

from crossmodal.models import updown
from crossmodal.models.base import Form

Settings = updown.Settings


class Model(updown.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}
