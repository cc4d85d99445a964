"""One set of region vectors per item: float32 (B, R, D), of which the first `counts` of each item are valid."""

from __future__ import annotations

import torch

from crossmodal.corpus.forms import base
from crossmodal.models.base import Regions


class Form(base.Form):
    """Sets of region vectors."""

    axes, holds = 3, "a set of regions per item"
    counted = True
    outside = "numbers"

    def of_rows(self, rows: torch.Tensor, counts: torch.Tensor | None) -> Regions:
        return Regions(rows.float(), counts)
