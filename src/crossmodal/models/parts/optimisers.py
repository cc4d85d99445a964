"""Optimisers that several systems choose from, and optimiser groups with learning rates of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from crossmodal.models import base

MOMENTUM = 0.9
RHO, EPSILON = 0.95, 1e-8  # Adadelta's in TensorFlow, with which DAN was reproduced; PyTorch has .9 and 1e-6

Share = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Share, Share], Field(description="Adam's decay rates")]


class Chosen(base.Model):
    """A system whose setting `optimiser` is `adam`, `adadelta`, `plain_sgd`, or `sgd` or `nesterov` with momentum.

    `parts` defines its optimiser groups, which may have different learning rates.
    """

    def parts(self) -> list[dict[str, Any]]:
        """Optimiser groups: parameters, the `factor` of their learning rate and, optionally, their `weight_decay`.

        The history records the learning rate of the first group.
        """
        return [{"params": list(self.parameters()), "factor": 1.0}]

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        groups = [{"lr": stage.lr * part.pop("factor"), **part} for part in self.parts()]
        common = {"lr": stage.lr, "weight_decay": self.settings.weight_decay}
        name = self.settings.optimiser
        if name == "adam":
            return {"model": torch.optim.Adam(groups, **common)}
        if name == "adadelta":
            return {"model": torch.optim.Adadelta(groups, rho=RHO, eps=EPSILON, **common)}
        momentum = 0.0 if name == "plain_sgd" else MOMENTUM
        return {"model": torch.optim.SGD(groups, momentum=momentum, nesterov=name == "nesterov", **common)}


class Adam(base.Model):
    """A system that is trained by Adam with the decay rates of its setting `betas`."""

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        s = self.settings
        parameters = [p for p in self.parameters() if p.requires_grad]
        return {"model": torch.optim.Adam(parameters, lr=stage.lr, betas=s.betas, weight_decay=s.weight_decay)}


def others(parameters: Iterable[Tensor], *taken: dict[str, Any]) -> list[Tensor]:
    """The parameters that are in none of the groups."""
    taken_ids = {id(p) for group in taken for p in group["params"]}
    return [p for p in parameters if id(p) not in taken_ids]
