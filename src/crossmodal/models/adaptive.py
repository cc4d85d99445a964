"""Adaptive attention: each word is chosen by regions of the image or by a visual sentinel (Lu et al., 2017).

Eq. 6 to 13 of the paper. After the LSTM has read a word, its state weighs the regions and the sentinel, which is what
the memory holds without the image; β is the sentinel's weight. The released program has further layers around the
sentinel and the state, ReLU and dropout on word vectors, dropout in the attention, and a layer with tanh before the one
that chooses words. The chapter (eq. 9.15) names the sentinel x_t, which is also the network's input, and its sum lacks
the first index.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base
from crossmodal.models.base import Batch, Form, Regions
from crossmodal.models.parts import captioner
from crossmodal.models.parts.decoding import State
from crossmodal.models.parts.encoders import mean_of
from crossmodal.models.parts.region_attention import RegionAttention, weighted


class Settings(captioner.Settings):
    """As the released program: batches of 100 pairs (20 images), 20 epochs; its Adam has β₁ = 0.8."""

    attention_dim: int = Field(512, ge=1, description="units of the attention")
    sentinel: bool = Field(True, description="whether there is a sentinel; otherwise only the regions are weighed")
    reads_image: bool = Field(
        True,
        description="whether the network reads the whole image with each word, as published; otherwise it knows of the "
        "image by attention alone",
    )
    first_moment: float = Field(0.8, ge=0, lt=1, description="Adam's β₁")
    batch_size: int = Field(100, ge=2, description="number of pairs per batch")
    epochs: int = Field(20, ge=1)
    lr_drop: int = Field(20, ge=1, description="epochs after which the learning rate is multiplied by lr_factor")


class Model(captioner.Attentive):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        width, dim = context.shapes["image"][-1], settings.dim
        read = settings.word_dim + dim * settings.reads_image
        self.words = nn.Embedding(context.vocabulary_size, settings.word_dim)
        self.region = nn.Linear(width, dim)
        if settings.reads_image:
            self.whole = nn.Linear(width, dim)
        self.network = nn.LSTMCell(read, dim)
        self.look = RegionAttention(dim, dim, settings.attention_dim)
        if settings.sentinel:
            self.of_read, self.of_before = nn.Linear(read, dim, bias=False), nn.Linear(dim, dim, bias=False)
            self.of_sentinel = nn.Linear(dim, settings.attention_dim, bias=False)
        self.dropout = nn.Dropout(settings.dropout)
        self.word = nn.Linear(dim, context.vocabulary_size)

    def first_state(self, batch: Batch) -> dict[str, Tensor | dict[str, Tensor]]:
        """Zero states, the image's regions and, if words are read with it, the whole image."""
        features, counts = batch.inputs["image"]
        regions = Regions(self.dropout(torch.relu(self.region(features))), counts)
        zeros = features.new_zeros(len(features), self.settings.dim)
        state = {"h": zeros, "c": zeros, "images": self.look.of_images(regions)}
        if self.settings.reads_image:
            mean = mean_of(features, self.look.valid(batch.inputs["image"]))
            state["whole"] = self.dropout(torch.relu(self.whole(mean)))
        return state

    def image_share(self, batch: Batch, ids: Tensor) -> Tensor:
        """1 - β for each word of captions (`capabilities.Grounds`)."""
        return self.attend(batch, ids).sum(2)

    def advance(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        images = state["images"]
        read = torch.cat([last, state["whole"]], 1) if self.settings.reads_image else last
        h, c = self.network(read, (state["h"], state["c"]))
        scores = self.look.scores(h, images)  # eq. 6
        if not self.settings.sentinel:
            weights = torch.softmax(scores, 1)  # eq. 7
            seen = weighted(weights, images["regions"])  # eq. 8
        else:
            gate = torch.sigmoid(self.of_read(read) + self.of_before(state["h"]))  # eq. 9
            sentinel = gate * torch.tanh(c)  # eq. 10
            own = self.look.weight(torch.tanh(self.of_sentinel(sentinel) + self.look.of_state(h)))
            every = torch.softmax(torch.cat([scores, own], 1), 1)  # eq. 12
            weights, beta = every[:, :-1], every[:, -1:]
            seen = weighted(weights, images["regions"]) + beta * sentinel  # eq. 11; in the chapter 9.15
        return seen + h, {**state, "h": h, "c": c, "attention": weights}  # eq. 13; in the chapter 9.16
