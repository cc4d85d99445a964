"""One thumbnail per item, which a model reconstructs: uint8 (B, 3, S, S)."""

from __future__ import annotations

from crossmodal.corpus.forms import base


class Form(base.Form):
    """Thumbnails."""

    axes, holds = 4, "a small picture per item, as the extractor `pixels` makes them"
