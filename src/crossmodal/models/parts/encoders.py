"""Encoders of global features, captions, region sets and word sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from crossmodal.models.base import Context, Regions, Tokens
from crossmodal.models.parts.recurrent import GRU, LSTM


class ImageEncoder(nn.Module):
    """One linear map of a global feature (mFSR, eq. 1); L2-normalised unless `unit` is false."""

    def __init__(self, in_dim: int, dim: int, *, unit: bool = True):
        super().__init__()
        self.fc = nn.Linear(in_dim, dim)
        self.unit = unit
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) features -> (..., d)."""
        out = self.fc(features)
        return F.normalize(out, dim=-1) if self.unit else out


class CaptionEncoder(nn.Module):
    """Word vectors and a GRU, whose state after the last word is the caption's vector (mFSR, eq. 2).

    L2-normalised unless `unit` is false.
    """

    def __init__(self, vocabulary_size: int, word_dim: int, dim: int, layers: int = 1, *, unit: bool = True):
        super().__init__()
        self.unit = unit
        self.words = nn.Embedding(vocabulary_size, word_dim)
        nn.init.uniform_(self.words.weight, -0.1, 0.1)
        self.gru = GRU(word_dim, dim, layers, batch_first=True)

    def forward(self, tokens: Tokens) -> Tensor:
        """(B, L) ids -> (B, d)."""
        _, last = self.gru(packed(self.words(tokens.ids), tokens.lengths))  # (layers, B, d)
        return F.normalize(last[-1], dim=1) if self.unit else last[-1]


class RegionEncoder(ImageEncoder):
    """One linear map of each region's feature; L2-normalised (SCAN, section 3.2) or as it is (A3VSE, section 4.3)."""

    def forward(self, regions: Regions) -> Tensor:
        """(B, M, D) features -> (B, M, d); zeros where there is no region."""
        out = super().forward(regions.features)
        return out * mask(regions.counts, out.shape[1])[..., None]


class WordEncoder(nn.Module):
    """Word vectors and a recurrent network, whose state at each word is the vector of that word.

    SCAN (section 3.2) has a GRU in both directions, whose states are averaged and L2-normalised; A3VSE (section 3.2)
    has an LSTM in one direction, without normalisation. With `joined` the states of both directions are concatenated
    instead of averaged, to twice the dimensions. `dropout` is applied to word vectors in training.
    """

    def __init__(
        self,
        vocabulary_size: int,
        word_dim: int,
        dim: int,
        *,
        cell: Literal["gru", "lstm"] = "gru",
        bidirectional: bool = True,
        unit: bool = True,
        dropout: float = 0.0,
        joined: bool = False,
    ):
        super().__init__()
        self.joined = joined
        self.words = nn.Embedding(vocabulary_size, word_dim)
        nn.init.uniform_(self.words.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        network = {"gru": GRU, "lstm": LSTM}[cell]
        self.network = network(word_dim, dim, batch_first=True, bidirectional=bidirectional)
        self.unit = unit

    def forward(self, tokens: Tokens) -> Tensor:
        """(B, L) ids -> (B, L, d), or (B, L, 2·d) if `joined`; zeros where there is no word."""
        out, _ = self.network(packed(self.dropout(self.words(tokens.ids)), tokens.lengths))
        if isinstance(out, PackedSequence):
            out, _ = pad_packed_sequence(out, batch_first=True, total_length=tokens.ids.shape[1])
        if self.network.bidirectional and not self.joined:
            out = out.unflatten(2, (2, -1)).mean(2)
        return F.normalize(out, dim=2) if self.unit else out


class Standardiser(nn.Module):
    """Centres a modality's features and divides them by their s.d. over the training items; no change if not `wanted`.

    With `second`, mean and s.d. are those of the items of both contexts, each with half the weight.
    """

    def __init__(self, context: Context, modality: str, *, wanted: bool = True, second: Context | None = None):
        super().__init__()
        (dim,) = context.shapes[modality]
        statistics = [c.moments.get(modality) for c in (context, second) if wanted and c is not None]
        moments = [pair for pair in statistics if pair is not None]
        mean, deviation = pooled(moments) if moments else (torch.zeros(dim), torch.ones(dim))
        self.register_buffer("mean", mean)
        # A feature that is constant in training has no information: it is centred but not divided.
        self.register_buffer("scale", torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


def standardisers(
    context: Context, modalities: Iterable[str], *, wanted: bool = True, second: Context | None = None
) -> nn.ModuleDict:
    """{modality: its `Standardiser`}."""
    return nn.ModuleDict({m: Standardiser(context, m, wanted=wanted, second=second) for m in modalities})


def pooled(moments: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The (D,) mean and standard deviation over several sets of vectors, from those of each set, equally weighted."""
    means, deviations = (torch.stack([*parts]).double() for parts in zip(*moments, strict=True))
    variance = deviations.square().mean(0) + means.var(0, correction=0)
    return means.mean(0).float(), variance.sqrt().float()


class MLP(nn.Sequential):
    """Fully connected layers with an activation (and dropout) between them, and none after the last layer."""

    def __init__(self, *dims: int, activation: type[nn.Module] = nn.ReLU, dropout: float = 0.0):
        layers: list[nn.Module] = []
        for number, (in_dim, dim) in enumerate(pairwise(dims)):
            if number:
                layers += [activation(), *([nn.Dropout(dropout)] if dropout else [])]
            layers.append(nn.Linear(in_dim, dim))
        super().__init__(*layers)


def packed(vectors: Tensor, lengths: Tensor) -> PackedSequence | Tensor:
    """(B, L, d) word vectors of captions as packed sequences, so that recurrent networks take no steps on padding.

    The last state is then that of a caption's own last word, where the backward direction begins. ONNX has no packed
    sequences and needs none: an exported model takes one caption at a time.
    """
    if torch.onnx.is_in_onnx_export():
        return vectors
    return pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)


def mask(counts: Tensor, width: int) -> Tensor:
    """(B, width) bool: true at the first `counts` positions of each row."""
    return torch.arange(width, device=counts.device) < counts[:, None]


def mean_of(vectors: Tensor, mask: Tensor) -> Tensor:
    """(B, M, d) vectors -> (B, d) means of those for which the (B, M) bool `mask` is true."""
    return (vectors * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def valid_mask(encodings: Tensor) -> Tensor:
    """(B, M) bool: which vectors of (B, M, d) encodings are not padding, that is, not zeros."""
    return (encodings != 0).any(2)
