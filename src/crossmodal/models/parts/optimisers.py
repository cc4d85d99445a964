"""Optimisers that several systems choose between, and parts of a network that learn at rates of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from crossmodal.models import base

MOMENTUM = 0.9
RHO, EPSILON = 0.95, 1e-8  # of Adadelta as TensorFlow has it, with which DAN was reproduced; PyTorch's are .9 and 1e-6

Share = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Share, Share], Field(description="Adam's decay rates")]


class Chosen(base.Model):
    """A system whose setting `optimiser` names what trains it: `sgd` and `nesterov` with a momentum of .9, or others.

    `parts` tells which of its parameters learn faster or slower than the rest.
    """

    def parts(self) -> list[dict[str, Any]]:
        """Groups of parameters, each with `factor`, by which the learning rate is multiplied, and maybe `weight_decay`.

        What the history calls the learning rate is that of the first.
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
        return {"model": torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=name == "nesterov", **common)}


class Adam(base.Model):
    """A system whose authors give Adam other decay rates than its usual ones; its setting `betas`."""

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        s = self.settings
        parameters = [p for p in self.parameters() if p.requires_grad]
        return {"model": torch.optim.Adam(parameters, lr=stage.lr, betas=s.betas, weight_decay=s.weight_decay)}


def others(parameters: Iterable[Tensor], *taken: dict[str, Any]) -> list[Tensor]:
    """The parameters that are in none of the groups."""
    known = {id(p) for group in taken for p in group["params"]}
    return [p for p in parameters if id(p) not in known]
