"""The cells of a uniform grid of an image, row by row: float32 (B, R, D) region vectors, all of them valid.

They are the last feature map of the image's network, whose mean is its global feature, apart from the interpolation in
the cells' boxes.
"""

from __future__ import annotations

from crossmodal.corpus.forms import regions


class Form(regions.Form):
    """Cells of a grid, as the extractor `regions` computes them with `boxes: grid`."""

    holds = "the cells of a grid per item"
