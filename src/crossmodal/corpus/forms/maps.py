"""The last feature map of an image network, one vector per cell: float32 (B, R, D).

The mean over the cells of a network's map is its global feature, apart from the interpolation in the cells' boxes.
"""

from __future__ import annotations

from crossmodal.corpus.forms import regions


class Form(regions.Form):
    """Feature maps; they are regions whose boxes are the cells of a grid."""

    holds = "a feature map per item, as the extractor `regions` makes it with `boxes: grid`"
