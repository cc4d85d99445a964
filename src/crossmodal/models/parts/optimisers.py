"""Optimisers that several systems choose between."""

from __future__ import annotations

import torch

from crossmodal.models import base


class Momentum(base.Model):
    """A system whose paper trains it by gradient descent with momentum; its setting `optimiser` may say Adam."""

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        if self.settings.optimiser == "adam":
            return super().optimisers(stage)
        decay = self.settings.weight_decay
        return {"model": torch.optim.SGD(self.parameters(), lr=stage.lr, momentum=0.9, weight_decay=decay)}
