"""Bottom-up and top-down attention: one LSTM attends to regions, another one says the words (Anderson et al., 2018).

Eq. 1 to 8 of the paper. The first LSTM reads the second one's state, the mean region and the last word; its state
weighs the regions; the second one reads their weighted mean and says the next word.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base
from crossmodal.models.base import Batch, Form
from crossmodal.models.parts import captioner
from crossmodal.models.parts.decoding import State
from crossmodal.models.parts.encoders import mask, mean_of


class Settings(captioner.Settings):
    """Widths as published; the training is that of public programs (Adam), where the paper has SGD on many GPUs."""

    word_dim: int = Field(1000, ge=1, description="dimensions of a word vector")
    dim: int = Field(512, ge=1, description="units of each of the two recurrent networks")
    attention_dim: int = Field(512, ge=1, description="units of the attention")


class Model(captioner.Captioner):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        width, dim = context.shapes["image"][-1], settings.dim
        self.words = nn.Embedding(context.vocabulary_size, settings.word_dim)
        self.attention = nn.LSTMCell(dim + width + settings.word_dim, dim)
        self.of_region = nn.Linear(width, settings.attention_dim, bias=False)
        self.of_state = nn.Linear(dim, settings.attention_dim, bias=False)
        self.weight = nn.Linear(settings.attention_dim, 1, bias=False)
        self.language = nn.LSTMCell(width + dim, dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.word = nn.Linear(dim, context.vocabulary_size)

    def first_state(self, batch: Batch) -> dict[str, Tensor]:
        """Zero states, and the regions with their mean and the part of the attention that does not change."""
        regions, counts = batch.inputs["image"]
        valid = mask(counts, regions.shape[1])
        zeros = regions.new_zeros(len(regions), self.settings.dim)
        return {
            **dict.fromkeys(("h1", "c1", "h2", "c2"), zeros),
            "regions": regions,
            "mean": mean_of(regions, valid),
            "keys": self.of_region(regions),
            "valid": valid,
        }

    def next_word(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        read = torch.cat([state["h2"], state["mean"], self.words(last)], 1)  # eq. 2
        h1, c1 = self.attention(read, (state["h1"], state["c1"]))
        scores = self.weight(torch.tanh(state["keys"] + self.of_state(h1)[:, None]))[..., 0]  # eq. 3
        weights = torch.softmax(scores.masked_fill(~state["valid"], -torch.inf), 1)  # eq. 4
        seen = (weights[:, None] @ state["regions"])[:, 0]  # eq. 5
        h2, c2 = self.language(torch.cat([seen, h1], 1), (state["h2"], state["c2"]))  # eq. 6
        logits = self.word(self.dropout(h2))  # eq. 7
        return logits, {**state, "h1": h1, "c1": c1, "h2": h2, "c2": c2, "weights": weights}
