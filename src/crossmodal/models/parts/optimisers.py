"""Optimisers that several systems choose between."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from crossmodal.models import base

Share = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Share, Share], Field(description="Adam's decay rates")]


class Momentum(base.Model):
    """A system whose paper trains it by gradient descent with momentum; its setting `optimiser` may say Adam."""

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        if self.settings.optimiser == "adam":
            return super().optimisers(stage)
        decay = self.settings.weight_decay
        return {"model": torch.optim.SGD(self.parameters(), lr=stage.lr, momentum=0.9, weight_decay=decay)}


class Adam(base.Model):
    """A system whose authors give Adam other decay rates than its usual ones; its setting `betas`."""

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        s = self.settings
        parameters = [p for p in self.parameters() if p.requires_grad]
        return {"model": torch.optim.Adam(parameters, lr=stage.lr, betas=s.betas, weight_decay=s.weight_decay)}
