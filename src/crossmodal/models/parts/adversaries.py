"""Domain discriminators, trained against encoders by gradient reversal (Ganin and Lempitsky, 2015; A3VSE, eq. 4)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models.parts.encoders import MLP


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """`x` unchanged; its gradient is multiplied by -strength in the backward pass."""
    return _Reversed.apply(x, strength)


def reversal_strength(progress: float, steepness: float = 10.0) -> float:
    """2 / (1 + exp(-steepness · progress)) - 1: from 0 at the start towards 1 (A3VSE, section 4.3)."""
    return 2 / (1 + math.exp(-steepness * progress)) - 1


class Discriminator(nn.Module):
    """An MLP of one hidden layer that classifies vectors by their domain, one of two."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.layers = MLP(in_dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d) -> (B,) logits of the first domain."""
        return self.layers(x).squeeze(1)

    def loss(self, first: Tensor, second: Tensor, strength: float) -> Tensor:
        """Mean cross-entropy of classifying (A, d) and (B, d) vectors by domain: the negative of A3VSE, eq. 4.

        The discriminator minimises it, and the encoders of the vectors maximise it with weight `strength`.
        """
        logits = self(reverse_gradient(first, strength))
        other = self(reverse_gradient(second, strength))
        return F.softplus(-logits).mean() + F.softplus(other).mean()
