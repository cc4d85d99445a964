"""DVSA: deep visual-semantic alignments of regions and words (Karpathy and Fei-Fei, 2015; a row of mFSR's tables).

Regions are mapped linearly, words are read by a bidirectional recurrent network of plain ReLU units. A pair's score is
the sum over the words of the highest inner product with a region: neither side is normalised, so that long sentences
score more. All other pairs of a batch are negatives.

There is no public program of the alignment; its equations are well known, and the constants below that the paper leaves
to cross-validation are ours.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.attention import in_blocks
from crossmodal.models.parts.encoders import RegionEncoder, mask, valid_mask
from crossmodal.models.parts.losses import Hinges, batch_hinges
from crossmodal.models.parts.optimisers import Chosen
from crossmodal.models.parts.words import WordVectors, embedding


class Settings(WordVectors, Hinges):
    """The paper, from memory: sizes of 1,000 to 1,600, a margin of 1, batches of 100, momentum, clipping at 5.

    It reads 19 detected regions and the whole image, and word2vec's vectors, which stay as they are. Its learning rate
    and weight decay are not printed; those here, Adam included, are this project's choice (`optimiser: sgd` has the
    paper's momentum of .9), as is the size of the first weights, without which the unbounded sums start too large.
    """

    batch_size: int = Field(100, ge=2)
    dim: int = Field(1000, ge=1, description="h: dimensions of regions and words")
    lr: float = Field(1e-3, gt=0)
    optimiser: Literal["adam", "sgd", "nesterov"] = Field(
        "adam", description="optimiser; sgd and nesterov have a momentum of .9"
    )
    clip: float = Field(5.0, ge=0)
    clip_by: Literal["norm", "value"] = Field("value", description="what `clip` bounds")
    margin: float = Field(1.0, ge=0, description="margin by which a pair's score must exceed those of its negatives")
    warm_up: float = Field(1.0, ge=0, le=1, description="share of the training in which all negatives count")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout of all layers but the recurrence")
    scale: float = Field(0.1, gt=0, description="factor of the first weights of the layers that make the two sides")


class Words(nn.Module):
    """Word vectors, a ReLU layer, a ReLU recurrence in either direction, and a ReLU layer of their sum (eq. 2 to 6)."""

    def __init__(self, s: Settings, context: base.Context):
        super().__init__()
        self.words = embedding(context, s)
        self.into = nn.Linear(s.word_dim, s.dim)
        self.ways = nn.ModuleList(nn.Linear(s.dim, s.dim) for _ in range(2))  # forwards, backwards
        for way in self.ways:
            nn.init.orthogonal_(way.weight, 0.5)
        self.out = nn.Linear(s.dim, s.dim)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, tokens: base.Tokens) -> Tensor:
        """(B, L) ids -> (B, L, h); zeros where there is no word."""
        valid = mask(tokens.lengths, tokens.ids.shape[1])[..., None]
        inputs = self.dropout(F.relu(self.into(self.dropout(self.words(tokens.ids)))))
        both = 0
        for way, backwards in zip(self.ways, (False, True), strict=True):
            steps = range(inputs.shape[1])
            state, states = torch.zeros_like(inputs[:, 0]), [None] * inputs.shape[1]
            for step in reversed(steps) if backwards else steps:
                # A caption's backward direction begins at its own last word, whatever padding follows.
                state = F.relu(inputs[:, step] + way(state)) * valid[:, step]
                states[step] = state
            both = both + torch.stack(states, 1)
        return F.relu(self.out(self.dropout(both))) * valid


class Model(Chosen):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        self.image = RegionEncoder(context.shapes["image"][-1], s.dim, unit=False)
        self.text = Words(s, context)
        self.dropout = nn.Dropout(s.dropout)
        with torch.no_grad():
            self.image.fc.weight *= s.scale
            self.text.out.weight *= s.scale

    def parts(self) -> list[dict]:
        return [{"params": [p for p in self.parameters() if p.requires_grad], "factor": 1.0}]

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, M, dim) vectors of regions, or (B, L, dim) of words; zeros for padding."""
        value = batch.inputs[modality]
        if modality == "text":
            return self.text(value)
        return self.image(value._replace(features=self.dropout(value.features)))

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) scores of images (A, M, dim) with sentences (B, L, dim)."""
        return in_blocks(alignment_scores, queries, gallery, reached(queries), reached(gallery))

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        images, words = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        scores = alignment_scores(images, words, reached(images), reached(words))
        return {"loss": batch_hinges(scores, self.settings, batch.groups, progress)}


def reached(encodings: Tensor) -> Tensor:
    """(B, M) bool: the places of (B, M, d) encodings up to the last that is not zeros; a ReLU may make others zeros."""
    return valid_mask(encodings).flip(1).cummax(1).values.flip(1)


def alignment_scores(images: Tensor, words: Tensor, image_mask: Tensor, word_mask: Tensor) -> Tensor:
    """(A, B) sums over the words of the highest inner product with a region (eq. 8).

    Parameters
    ----------
    images, words : (A, M, d) and (B, L, d) vectors.
    image_mask, word_mask : (A, M) and (B, L) bool, false for padding.
    """
    products = torch.einsum("amd,bld->amlb", images, words)
    best = products.masked_fill(~image_mask[:, :, None, None], -torch.inf).amax(1)  # (A, L, B)
    return best.masked_fill(~word_mask.T, 0).sum(1)
