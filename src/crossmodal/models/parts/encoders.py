"""Encoders of global features and captions (001, eq. 1 and 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.models.base import Tokens


class ImageEncoder(nn.Module):
    """One linear map of a global feature, L2-normalised (001, eq. 1)."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.fc = nn.Linear(in_dim, dim)
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) features -> (B, d) unit vectors."""
        return F.normalize(self.fc(features), dim=1)


class CaptionEncoder(nn.Module):
    """Word vectors and a GRU whose state after the last word is the caption, L2-normalised (001, eq. 2)."""

    def __init__(self, vocabulary_size: int, word_dim: int, dim: int, layers: int = 1):
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, word_dim)
        nn.init.uniform_(self.words.weight, -0.1, 0.1)
        self.gru = nn.GRU(word_dim, dim, layers, batch_first=True)

    def forward(self, tokens: Tokens) -> Tensor:
        """(B, L) ids -> (B, d) unit vectors."""
        order = torch.argsort(tokens.lengths, descending=True, stable=True)
        # Packed: no step is spent on padding, and the last state is that of the caption's own last word.
        packed = pack_padded_sequence(self.words(tokens.ids[order]), tokens.lengths[order].cpu(), batch_first=True)
        _, last = self.gru(packed)  # (layers, B, d)
        return F.normalize(last[-1][torch.argsort(order)], dim=1)
