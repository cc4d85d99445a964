"""Correspondence autoencoders: one autoencoder per modality, whose codes of a pair are near (Feng et al., 2014)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models.parts.encoders import MLP


class CorrespondenceAutoencoders(nn.Module):
    """An encoder and a decoder per modality, with tanh between layers and logistic units in the code."""

    def __init__(self, dims: dict[str, int], hidden: tuple[int, ...], dim: int):
        super().__init__()
        self.into = nn.ModuleDict({m: MLP(d, *hidden, dim, activation=nn.Tanh) for m, d in dims.items()})
        self.out = nn.ModuleDict({m: MLP(dim, *hidden[::-1], d, activation=nn.Tanh) for m, d in dims.items()})

    def forward(self, modality: str, features: Tensor) -> Tensor:
        """(B, D) -> (B, dim) codes in (0, 1)."""
        return torch.sigmoid(self.into[modality](features))

    def losses(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """`reconstruction`: ‖x - x'‖² / D summed over modalities; `distance`: ‖code - code‖² summed over their pairs.

        Both are means over the rows of the batch.
        """
        codes = {m: self(m, x) for m, x in features.items()}
        back = [F.mse_loss(self.out[m](codes[m]), x) for m, x in features.items()]
        apart = [(a - b).square().sum(1).mean() for a, b in combinations(codes.values(), 2)]
        return {"reconstruction": torch.stack(back).sum(), "distance": torch.stack(apart).sum()}
