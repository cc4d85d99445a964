"""Bottom-up and top-down attention: one LSTM attends to regions, another one says the words (Anderson et al., 2018).

Eq. 1 to 8 of the paper. The first LSTM reads the second one's state, the mean region and the last word; its state
weighs the regions; the second one reads their weighted mean and says the next word. `projected` adds the layers of a
public reproduction before it, which maps regions and their mean to fewer dimensions.
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
from crossmodal.models.parts.region_attention import RegionAttention


class Settings(captioner.Settings):
    """Widths as published; the training is that of public programs (Adam and dropout, where the paper has SGD on many
    GPUs and none).

    The authors' program also forbids captions to repeat words (but for 19 that are listed), leaves unknown words out of
    the loss, and its self-critical training compares the captions of a beam with their mean.
    """

    word_dim: int = Field(1000, ge=1, description="dimensions of a word vector")
    dim: int = Field(1000, ge=1, description="units of each of the two recurrent networks")
    attention_dim: int = Field(512, ge=1, description="units of the attention")
    projected: int = Field(
        0,
        ge=0,
        description="dimensions to which regions and their mean are each mapped by a layer with ReLU and dropout, "
        "which word vectors pass too; 0: none of these, as published",
    )


class Model(captioner.Attentive):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        width, dim = context.shapes["image"][-1], settings.dim
        self.words = nn.Embedding(context.vocabulary_size, settings.word_dim)
        self.dropout = nn.Dropout(settings.dropout)
        if settings.projected:
            self.region, self.mean = (nn.Linear(width, settings.projected) for _ in range(2))
            width = settings.projected
        self.attention = nn.LSTMCell(dim + width + settings.word_dim, dim)
        self.look = RegionAttention(width, dim, settings.attention_dim)
        self.language = nn.LSTMCell(width + dim, dim)
        self.word = nn.Linear(dim, context.vocabulary_size)

    def read(self, ids: Tensor) -> Tensor:
        """Word vectors."""
        return self._embedded(self.words(ids)) if self.settings.projected else self.words(ids)

    def _embedded(self, x: Tensor) -> Tensor:
        return self.dropout(torch.relu(x))

    def first_state(self, batch: Batch) -> dict[str, Tensor | dict[str, Tensor]]:
        """Zero states; the regions with their mean and the part of the attention that does not change."""
        features, counts = batch.inputs["image"]
        mean = mean_of(features, self.look.valid(batch.inputs["image"]))
        if self.settings.projected:
            mean, features = self._embedded(self.mean(mean)), self._embedded(self.region(features))
        zeros = features.new_zeros(len(features), self.settings.dim)
        states = dict.fromkeys(("h1", "c1", "h2", "c2"), zeros)
        return {**states, "mean": mean, "images": self.look.of_images(Regions(features, counts))}

    def advance(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        read = torch.cat([state["h2"], state["mean"], last], 1)  # eq. 2
        h1, c1 = self.attention(read, (state["h1"], state["c1"]))
        weights, seen = self.look(h1, state["images"])  # eq. 3 to 5
        h2, c2 = self.language(torch.cat([seen, h1], 1), (state["h2"], state["c2"]))  # eq. 6
        return h2, {**state, "h1": h1, "c1": c1, "h2": h2, "c2": c2, "attention": weights}
