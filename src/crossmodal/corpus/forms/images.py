"""One image per item, as input of an image network: uint8 (B, 3, S, S)."""

from __future__ import annotations

from crossmodal.corpus.forms import base


class Form(base.Form):
    axes, holds = 4, "an image per item, as the extractor `pixels` makes them"
