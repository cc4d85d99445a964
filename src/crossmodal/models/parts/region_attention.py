"""Additive attention of a recurrent state to the regions of an image, which captioners share (Xu et al., 2015, eq. 4).

The tensors of images have one row per image, the states may have several consecutive rows for each image (beams, or
several captions of one image), so that regions are never copied for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crossmodal.models.base import Regions
from crossmodal.models.parts.encoders import mask


class RegionAttention(nn.Module):
    """wᵀ tanh(W_v v_i + W_h h) for each region v_i and a state h, and the softmax over the regions."""

    def __init__(self, width: int, dim: int, attention_dim: int, *, bias: bool = False):
        super().__init__()
        self.of_region = nn.Linear(width, attention_dim, bias=bias)
        self.of_state = nn.Linear(dim, attention_dim, bias=bias)
        self.weight = nn.Linear(attention_dim, 1, bias=bias)

    @staticmethod
    def valid(regions: Regions) -> Tensor:
        """(B, R) whether there is a region."""
        return mask(regions.counts, regions.features.shape[1])

    def of_images(self, regions: Regions) -> dict[str, Tensor]:
        """What the attention needs of B images: `regions` (B, R, D), their `keys` (B, R, A), and which are `valid`."""
        features = regions.features
        return {"regions": features, "keys": self.of_region(features), "valid": self.valid(regions)}

    def scores(self, state: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        """(N, R) scores of the regions for the (N, d) states of B images, -inf where there is no region."""
        keys, valid = images["keys"], images["valid"]
        query = self.of_state(state).unflatten(0, (len(keys), -1))  # (B, N / B, A)
        scores = self.weight(torch.tanh(keys[:, None] + query[:, :, None]))[..., 0]  # (B, N / B, R)
        return scores.masked_fill(~valid[:, None], -torch.inf).flatten(0, 1)

    def forward(self, state: Tensor, images: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(N, R) weights of the regions and their (N, D) weighted means."""
        weights = torch.softmax(self.scores(state, images), 1)
        return weights, weighted(weights, images["regions"])


def weighted(weights: Tensor, regions: Tensor) -> Tensor:
    """(N, D) sums of the regions (B, R, D) with the (N, R) weights; consecutive rows belong to one image."""
    return (weights.unflatten(0, (len(regions), -1)) @ regions).flatten(0, 1)
