"""One image per item, as input of an image network: uint8 (B, 3, S, S)."""

from __future__ import annotations

from crossmodal.corpus.forms import base


class Form(base.Form):
    """Images of an image network's input size."""

    axes, holds = 4, "an image per item, as the extractor `pixels` makes them"
