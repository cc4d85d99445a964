"""DSVE: deep semantic-visual embedding with localisation (Engilberge et al., 2018; a row of mFSR's table 1).

The cells of a feature map are mapped linearly and pooled per channel by WELDON: the mean of the largest values plus the
mean of the smallest. Sentences are read by four layers of simple recurrent units (SRU; Lei et al., 2018) over word
vectors that stay as they are. The loss takes the hardest negatives of a batch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.encoders import mask
from crossmodal.models.parts.losses import Hinges, batch_hinges
from crossmodal.models.parts.words import WordVectors, embedding


class Settings(WordVectors, Hinges):
    """The settings of the authors' program (dsve-loc), whose image network is fine-tuned from the eighth epoch on.

    Here it is fixed, and the map's linear layer, which the program loads with weights of its own image classification,
    is trained from random ones. The three parts of the training are stages, each with a new optimiser: the captions'
    network is fixed in the first, the learning rate is halved after each epoch of the second and stays in the third.
    """

    batch_size: int = Field(160, ge=2)
    epochs: int = Field(60, ge=1, description="epochs of all stages together")
    fixed_epochs: int = Field(2, ge=0, description="epochs of the first stage, in which the captions' network is fixed")
    halvings: int = Field(
        5, ge=0, description="epochs of the second stage, after each of which the learning rate is halved"
    )
    lr: float = Field(1e-3, gt=0)
    lr_drop: int = Field(1, ge=1, description="epochs of the second stage after which the learning rate is multiplied")
    lr_factor: float = Field(0.5, gt=0, le=1)
    clip: float = Field(0.0, ge=0)
    word_dim: int = Field(620, ge=1, description="dimensions of a word vector; the published ones are Skip-Thoughts'")
    dim: int = Field(2400, ge=1, description="dimensions of the common space")
    units: int = Field(2400, ge=1, description="channels of the map that is pooled")
    extremes: int = Field(15, ge=1, description="cells with the largest and with the smallest values that are pooled")
    cell: Literal["sru", "gru", "lstm"] = Field("sru", description="recurrent units of the captions' network")
    layers: int = Field(4, ge=1, description="layers of the captions' network")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout of the pooled channels")
    text_dropout: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="dropout of what each layer but the first reads; the program has two, in its recurrent units too",
    )
    own: Literal["lowered", "left_out"] = Field(
        "lowered",
        description="how a pair is kept from being its own negative: lowered: its score is lowered by twice itself, as "
        "in the program, where a pair with a negative score may still be its own negative; left_out: it is none",
    )

    @model_validator(mode="after")
    def _stages(self) -> Settings:
        if self.fixed_epochs + self.halvings >= self.epochs:
            raise ValueError(
                f"epochs: {self.epochs} leave none for the last stage after fixed_epochs ({self.fixed_epochs}) and "
                f"halvings ({self.halvings})"
            )
        return self


class SRU(nn.Module):
    """One layer of simple recurrent units with tanh and a skip connection (Lei et al., 2018, version 1).

    x̃ = W x, f = σ(W_f x + b_f), r = σ(W_r x + b_r), c_t = f c_{t-1} + (1 - f) x̃, h = r tanh(c) + (1 - r) x; where the
    input has other dimensions than the state, the skip connection maps it linearly.
    """

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.skips = in_dim == dim
        self.maps = nn.Linear(in_dim, dim * (3 if self.skips else 4), bias=False)
        self.biases = nn.Parameter(torch.zeros(2, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, d)."""
        parts = self.maps(x).chunk(3 if self.skips else 4, 2)
        shortcut = x if self.skips else parts[3]
        forget, reset = (torch.sigmoid(part + b) for part, b in zip(parts[1:3], self.biases, strict=True))
        state, states = torch.zeros_like(parts[0][:, 0]), []
        for step in range(x.shape[1]):
            state = forget[:, step] * state + (1 - forget[:, step]) * parts[0][:, step]
            states.append(state)
        return reset * torch.tanh(torch.stack(states, 1)) + (1 - reset) * shortcut


class Text(nn.Module):
    """Word vectors that stay as they are, recurrent layers, and the state at the last word."""

    def __init__(self, s: Settings, context: base.Context):
        super().__init__()
        self.words = embedding(context, s)
        sizes = [s.word_dim, *([s.dim] * s.layers)]
        layer = {"sru": SRU, "gru": nn.GRU, "lstm": nn.LSTM}[s.cell]
        options = {} if s.cell == "sru" else {"batch_first": True}
        self.layers = nn.ModuleList(layer(a, b, **options) for a, b in pairwise(sizes))
        self.dropout = nn.Dropout(s.text_dropout)

    def forward(self, tokens: base.Tokens) -> Tensor:
        """(B, L) ids -> (B, d)."""
        x = self.words(tokens.ids)
        for number, layer in enumerate(self.layers):
            out = layer(self.dropout(x) if number else x)
            x = out[0] if isinstance(out, tuple) else out
        return x[torch.arange(len(x), device=x.device), tokens.lengths - 1]  # what follows the last word is not read


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        self.map = nn.Linear(context.shapes["image"][-1], s.units)
        self.dropout = nn.Dropout(s.dropout)
        self.image = nn.Linear(s.units, s.dim)
        self.text = Text(s, context)

    def stages(self) -> list[base.Stage]:
        s = self.settings
        least = s.lr * s.lr_factor ** (s.halvings // s.lr_drop)
        rest = s.epochs - s.fixed_epochs - s.halvings
        stages = [
            base.Stage("images", s.fixed_epochs, s.lr, s.epochs),
            base.Stage("falling", s.halvings, s.lr, s.lr_drop, s.lr_factor),
            base.Stage("train", rest, least, s.epochs),
        ]
        return [stage for stage in stages if stage.epochs]

    def begin(self, stage: base.Stage) -> None:
        self.text.layers.requires_grad_(stage.name != "images")

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        if modality == "text":
            return F.normalize(self.text(batch.inputs["text"]), dim=1)
        regions = batch.inputs["image"]
        pooled = weldon(self.map(regions.features), regions.counts, self.settings.extremes)
        return F.normalize(self.image(self.dropout(pooled)), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        scores = self.encode("image", batch, "text") @ self.encode("text", batch, "image").T
        if s.own == "left_out" or progress < s.warm_up:
            return {"loss": batch_hinges(scores, s, batch.groups, progress)}
        same = batch.groups[:, None] == batch.groups[None, :] if s.negatives == "other_groups" else None
        loss = lowered_hinges(scores, s.margin, same)
        return {"loss": loss / len(scores) if s.reduction == "mean" else loss}


def weldon(cells: Tensor, counts: Tensor, extremes: int) -> Tensor:
    """(B, M, C) values of cells -> (B, C): the mean of each channel's largest values plus that of its smallest.

    Parameters
    ----------
    counts : (B,) cells of each map; further ones are padding.
    extremes : number of values of either kind; all cells of a smaller map.
    """
    valid = mask(counts, cells.shape[1])[..., None]
    k = min(extremes, cells.shape[1])
    kept = (torch.arange(k, device=cells.device) < counts[:, None])[..., None]  # (B, k, 1)
    largest = cells.masked_fill(~valid, -torch.inf).topk(k, dim=1).values
    smallest = (-cells).masked_fill(~valid, -torch.inf).topk(k, dim=1).values
    return (largest.masked_fill(~kept, 0) - smallest.masked_fill(~kept, 0)).sum(1) / kept.sum(1)


def lowered_hinges(scores: Tensor, margin: float, same: Tensor | None = None) -> Tensor:
    """The sum of the hardest negatives' hinges in both directions, where the diagonal counts as minus itself.

    Parameters
    ----------
    scores : (B, B), with the pairs on the diagonal.
    same : (B, B) bool; other cells of the same group, which are no negatives either. With None, all of them are.
    """
    matching = scores.diagonal()
    pairs = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    others = scores - 2 * torch.diag(matching)
    if same is not None:
        others = others.masked_fill(same & ~pairs, -torch.inf)
    rows = (margin - matching + others.amax(1)).clamp(min=0)
    columns = (margin - matching + others.amax(0)).clamp(min=0)
    return rows.sum() + columns.sum()
