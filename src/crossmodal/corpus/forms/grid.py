"""The cells of a uniform grid of an image, row by row: float32 (B, R, D) region vectors, all of them valid."""

from __future__ import annotations

from crossmodal.corpus.forms import regions


class Form(regions.Form):
    """Cells of a grid, as the extractor `regions` computes them with `boxes: grid`."""

    holds = "the cells of a grid per item"
