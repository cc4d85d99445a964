"""Self-critical sequence training's own captioner, Att2in: attention enters the cell's input (Rennie et al., 2017).

Section 2 of the paper: an LSTM whose input is the maximum of two linear maps, to which the attended region is added,
and not to the gates. Regions pass a layer with ReLU and dropout, word vectors ReLU and dropout, as in a public
reproduction. It is first trained by likelihood; a second run with `objective: self-critical` continues it (`after`),
as it can continue a run of any other captioner. The chapter says that CIDEr "reflects the diversity" of captions; the
reward is CIDEr-D of each caption by itself.
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
from crossmodal.models.parts.region_attention import RegionAttention


class Settings(captioner.Settings):
    """Widths of the paper, and its scheduled sampling; the training of the public reproduction.

    The self-critical run of that has a constant `lr` of 5e-5, and batches of ten images with five captions drawn of
    each, where a batch here has as many pairs as it says and `samples` captions are drawn for each.
    """

    attention_dim: int = Field(512, ge=1, description="units of the attention")
    lr: float = Field(5e-4, gt=0, description="Adam's learning rate before the first step")
    scheduled_every: int = Field(
        5, ge=0, description="epochs after which 5 % more of the words are drawn; 0: never (as in other captioners)"
    )


class Model(captioner.Attentive):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        dim = settings.dim
        self.words = nn.Embedding(context.vocabulary_size, settings.word_dim)
        self.region = nn.Linear(context.shapes["image"][-1], dim)
        self.look = RegionAttention(dim, dim, settings.attention_dim, bias=True)
        self.of_read, self.of_state = nn.Linear(settings.word_dim, 5 * dim), nn.Linear(dim, 5 * dim)
        self.of_seen = nn.Linear(dim, 2 * dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.word = nn.Linear(dim, context.vocabulary_size)

    def read(self, ids: Tensor) -> Tensor:
        """Word vectors behind ReLU."""
        return self.dropout(torch.relu(self.words(ids)))

    def first_state(self, batch: Batch) -> dict[str, Tensor | dict[str, Tensor]]:
        """Zero states and the regions."""
        features, counts = batch.inputs["image"]
        regions = Regions(self.dropout(torch.relu(self.region(features))), counts)
        zeros = features.new_zeros(len(features), self.settings.dim)
        return {"h": zeros, "c": zeros, "images": self.look.of_images(regions)}

    def advance(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        dim = self.settings.dim
        weights, seen = self.look(state["h"], state["images"])
        gates, inputs = (self.of_read(last) + self.of_state(state["h"])).split([3 * dim, 2 * dim], 1)
        i, f, o = torch.sigmoid(gates).chunk(3, 1)
        one, other = (inputs + self.of_seen(seen)).chunk(2, 1)
        c = f * state["c"] + i * torch.maximum(one, other)
        h = o * torch.tanh(c)
        return h, {**state, "h": h, "c": c, "attention": weights}
