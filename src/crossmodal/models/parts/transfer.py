"""Layers, losses and settings of systems that transfer knowledge from a source data set to a small target one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models.base import Context
from crossmodal.models.parts.encoders import standardisers

Domains = Annotated[
    Literal["none", "together", "apart"],
    Field(
        description="none: source and target features as they are; together: both are centred and divided by the "
        "standard deviation of both domains, with equal weight; apart: each is standardised by its own statistics, "
        "which alone already aligns the two distributions"
    ),
]
"""How a system that transfers knowledge standardises the features of its two domains."""


class Layers(nn.ModuleList):
    """Fully connected layers with ReLUs, which return the activations of every layer."""

    def __init__(self, *dims: int):
        super().__init__(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for layer in self:
            x = F.relu(layer(x))
            outputs.append(x)
        return outputs


def pair_distance(x: list[Tensor], y: list[Tensor]) -> Tensor:
    """Squared differences of paired activations, averaged over items and units and summed over the layers."""
    return torch.stack([F.mse_loss(a, b) for a, b in zip(x, y, strict=True)]).sum()


def scaled(context: Context, other: Context, modalities: Iterable[str], way: Domains) -> nn.ModuleDict:
    """Modules that standardise the features of each modality of one of two domains.

    Raises
    ------
    ValueError : features that are to be standardised together have different shapes.
    """
    second = other if way == "together" else None
    for m in modalities:
        if second is not None and second.shapes.get(m, context.shapes[m]) != context.shapes[m]:
            raise ValueError(
                f"standardise: together: the {m} features of source and target have the shapes {other.shapes[m]} and "
                f"{context.shapes[m]}; read both by one extractor, or set `apart` or `none`"
            )
    return standardisers(context, modalities, wanted=way != "none", second=second)
