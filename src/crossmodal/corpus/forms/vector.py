"""One vector per item: float32 (B, D)."""

from __future__ import annotations

import torch

from crossmodal.corpus.forms import base


class Form(base.Form):
    """Single vectors."""

    axes, holds = 2, "one vector per item"
    moments = True
    outside = "numbers"

    def of_rows(self, rows: torch.Tensor, counts: torch.Tensor | None) -> torch.Tensor:
        return rows.float()
