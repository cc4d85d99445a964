"""Aligned attention between two modalities (CVS thesis, section 3.1, C and 3.3, A) and the layers before it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models.base import Context
from crossmodal.models.parts.encoders import MLP, Standardiser

Term = Literal["i", "s", "is"]


class Branch(nn.Module):
    """Two fully connected layers on a modality's features, which may be standardised."""

    def __init__(self, context: Context, modality: str, dim: int, *, standardise: bool):
        super().__init__()
        self.scaled = Standardiser(context, modality, wanted=standardise)
        self.layers = MLP(*context.shapes[modality], dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, d), g of eq. 3.1.11."""
        return self.layers(self.scaled(features))


class AlignedAttention(nn.Module):
    """Weights the elements of two vectors by attention to both (eq. 3.1.11 to 3.1.14), without biases, as printed."""

    def __init__(self, dim: int, terms: tuple[Term, ...] = ("i", "s", "is")):
        """`terms` are the products of eq. 3.1.11 that are used; figure 25 leaves out each in turn."""
        super().__init__()
        self.weights = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in terms})
        self.out = nn.Linear(dim, dim, bias=False)  # W_e; W_se in the blocks of RVS

    def hidden(self, g_i: Tensor, g_s: Tensor) -> Tensor:
        """(B, d): tanh(g_i W_i + g_s W_s + (g_i g_s) W_is)."""
        inputs = {"i": g_i, "s": g_s, "is": g_i * g_s}
        return torch.tanh(sum(layer(inputs[name]) for name, layer in self.weights.items()))

    def forward(self, g_i: Tensor, g_s: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d) vectors of two modalities -> both, aligned and of unit length."""
        e = self.out(self.hidden(g_i, g_s))
        return attended(g_i, e), attended(g_s, e)


class ReferenceAttention(AlignedAttention):
    """The block of a modality and the reference, whose W_ie all blocks share (eq. 3.3.1 to 3.3.6)."""

    def forward(self, g_i: Tensor, g_s: Tensor, reference: nn.Linear) -> tuple[Tensor, Tensor]:
        """Both vectors, aligned; `g_i` are (B, d) of the reference modality, and `reference` is its W_ie."""
        hidden = self.hidden(g_i, g_s)
        return attended(g_i, reference(hidden)), attended(g_s, self.out(hidden))


def attended(g: Tensor, e: Tensor) -> Tensor:
    """g + softmax(e) g, of unit length: the skip connection of eq. 3.1.13."""
    return F.normalize(g + torch.softmax(e, dim=1) * g, dim=1)
