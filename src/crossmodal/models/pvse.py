"""PVSE: polysemous visual-semantic embeddings (Song and Soleymani, 2019; a row of mFSR's table 1).

Each image and each sentence has K vectors. Every one adds to the item's global feature what one head of attention over
the cells of a feature map, or over the word vectors, found, in a residual connection. A pair's score is the highest
cosine of the K x K pairs of vectors. Two regularisers draw the heads of an item apart and the modalities together.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.encoders import mask, mean_of, packed
from crossmodal.models.parts.losses import Hinges, Reduction, batch_hinges
from crossmodal.models.parts.recurrent import GRU
from crossmodal.models.parts.words import WordVectors, embedding

GAMMA = 0.5  # of the kernel of the discrepancy, exp(-γ ‖x - y‖), in which the distance is not squared


class Settings(WordVectors, Hinges):
    """The settings of the authors' program (pvse) for MS-COCO; mFSR's table states batches of 128.

    The program keeps every word; here `min_count` is that of VSE++.

    The program halves the learning rate when its validation score has not *fallen* for ten epochs, since its schedule
    is left in the mode of a loss: about every eleven epochs, whatever happens. The image network is fixed here, as in
    the program by default. Its published weights were trained with a fault (`--legacy`) that reads the backward GRU
    after the last word alone.
    """

    batch_size: int = Field(256, ge=2)
    lr_drop: int = Field(11, ge=1)
    lr_factor: float = Field(0.5, gt=0, le=1)
    dim: int = Field(1024, ge=2, multiple_of=2, description="dimensions of each vector")
    heads: int = Field(2, ge=1, description="K: vectors per item; 1 is the ablation without several meanings")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of word vectors, global features and residuals")
    margin: float = Field(0.1, ge=0, description="margin by which a pair's score must exceed those of its negatives")
    reduction: Reduction = Field("mean", description="reduction of the hinges of a batch")
    diversity: float = Field(0.1, ge=0, description="weight of the loss that draws an item's residuals apart")
    discrepancy: float = Field(0.01, ge=0, description="weight of the discrepancy (MMD) of images and sentences")


class PolysemousEmbedding(nn.Module):
    """PIE-Net: K vectors from an item's global feature and its local ones, each with the residual of one head."""

    def __init__(self, in_dim: int, dim: int, heads: int, dropout: float):
        super().__init__()
        self.into = nn.Linear(in_dim, max(1, in_dim // 2), bias=False)
        self.heads = nn.Linear(max(1, in_dim // 2), heads, bias=False)
        self.fc = nn.Linear(in_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        for layer in (self.into, self.heads, self.fc):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, of_all: Tensor, local: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d) global and (B, M, D) local features, (B, M) bool -> (B, K, d) unit vectors and their residuals."""
        agreement = self.heads(torch.tanh(self.into(local))).masked_fill(~valid[..., None], -torch.inf)
        attended = agreement.softmax(1).transpose(1, 2) @ local  # (B, K, D)
        residuals = self.dropout(torch.sigmoid(self.fc(attended)))
        return F.normalize(self.norm(of_all[:, None] + residuals), dim=2), residuals


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s, in_dim = settings, context.shapes["image"][-1]
        self.words = embedding(context, s)
        if context.word_vectors is None:
            nn.init.xavier_uniform_(self.words.weight)
        self.gru = GRU(s.word_dim, s.dim // 2, bidirectional=True, batch_first=True)
        # The program has a function that would give this layer Xavier's weights, and never calls it.
        self.image = nn.Linear(in_dim, s.dim)
        self.embeddings = nn.ModuleDict(
            {
                "image": PolysemousEmbedding(in_dim, s.dim, s.heads, s.dropout),
                "text": PolysemousEmbedding(s.word_dim, s.dim, s.heads, s.dropout),
            }
        )
        self.dropout = nn.Dropout(s.dropout)

    def vectors(self, modality: str, value: base.Input) -> tuple[Tensor, Tensor]:
        """(B, K, dim) unit vectors of images or sentences, and their (B, K, dim) residuals."""
        if modality == "image":
            local, valid = value.features, mask(value.counts, value.features.shape[1])
            of_all = self.image(mean_of(local, valid))
        else:
            local, valid = self.dropout(self.words(value.ids)), mask(value.lengths, value.ids.shape[1])
            _, last = self.gru(packed(local, value.lengths))  # (2, B, dim / 2): each way's state after its last word
            of_all = last.transpose(0, 1).flatten(1)
        return self.embeddings[modality](self.dropout(of_all), local, valid)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, K, dim) unit vectors; `partner` makes no difference."""
        return self.vectors(modality, batch.inputs[modality])[0]

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) highest cosines of (A, K, dim) and (B, K, dim) vectors over the K x K pairs."""
        cosines = queries.flatten(0, 1) @ gallery.flatten(0, 1).T
        return cosines.view(len(queries), queries.shape[1], len(gallery), gallery.shape[1]).amax((1, 3))

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        parameters = [p for p in self.parameters() if p.requires_grad]
        decay = self.settings.weight_decay
        return {"model": torch.optim.Adam(parameters, lr=stage.lr, weight_decay=decay, amsgrad=True)}

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        (images, of_images), (texts, of_texts) = (self.vectors(m, batch.inputs[m]) for m in ("image", "text"))
        terms = {"hinges": batch_hinges(self.score(images, texts), s, batch.groups, progress)}
        loss = terms["hinges"]
        if s.heads > 1 and s.diversity:
            terms["diversity"] = diversity_loss(of_images) + diversity_loss(of_texts)
            loss = loss + s.diversity * terms["diversity"]
        if s.heads > 1 and s.discrepancy:
            terms["discrepancy"] = discrepancy(images.flatten(0, 1), texts.flatten(0, 1))
            loss = loss + s.discrepancy * terms["discrepancy"]
        return {"loss": loss, **terms}


def diversity_loss(residuals: Tensor) -> Tensor:
    """The Frobenius norm of the cosines of an item's different residuals over K², averaged over the (B, K, d) items."""
    unit = F.normalize(residuals, dim=2)
    k = unit.shape[1]
    cosines = (unit @ unit.transpose(1, 2)).masked_fill(torch.eye(k, dtype=torch.bool, device=unit.device), 0)
    return torch.linalg.matrix_norm(cosines).mean() / k**2


def discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """The mean of k(x, x) - 2 k(x, y) + k(y, y) over all pairs of the (N, d) vectors, with k = exp(-γ ‖· - ·‖)."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-GAMMA * torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")).mean()

    return kernel(x, x) - 2 * kernel(x, y) + kernel(y, y)
