"""Empty inputs (B, 0), for controls, which need only the ids of the items."""

from __future__ import annotations

import torch

from crossmodal.corpus.forms import base
from crossmodal.corpus.inputs import Inputs


class Form(base.Form):
    """Empty inputs."""

    def open(self, source: base.Source) -> Inputs | None:
        count = len(source.items)
        return source.inputs(tensor=torch.empty(count, 0), rows=torch.arange(count))
