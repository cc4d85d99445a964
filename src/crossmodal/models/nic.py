"""NIC, or Show and Tell (Vinyals et al., 2015): a network that reads the image as its first word and says the caption.

Eq. 10 to 12 of the paper, which trains with stochastic gradient descent and generates with a beam of 20; the defaults
here are those of public programs that reproduce it (Adam, beam of 5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossmodal.models import base
from crossmodal.models.base import Batch, Tokens
from crossmodal.models.parts import captioner
from crossmodal.models.parts.decoding import State


class Settings(captioner.Settings):
    pass


class Model(captioner.Captioner):
    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.image = nn.Linear(context.shapes["image"][-1], settings.word_dim)
        self.words = nn.Embedding(context.vocabulary_size, settings.word_dim)
        self.network = nn.LSTM(settings.word_dim, settings.dim, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.word = nn.Linear(settings.dim, context.vocabulary_size)

    def first_state(self, batch: Batch) -> dict[str, Tensor]:
        """The states (B, dim) after the image, which is read once (eq. 10)."""
        _, (h, c) = self.network(self.image(batch.inputs["image"])[:, None])
        return {"h": h[0], "c": c[0]}

    def next_word(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 11 and 12: a word is read, and the next one follows from the state."""
        before = (state["h"][None].contiguous(), state["c"][None].contiguous())
        out, (h, c) = self.network(self.words(last)[:, None], before)
        return self.word(self.dropout(out[:, 0])), {"h": h[0], "c": c[0]}

    def logits(self, batch: Batch, tokens: Tokens) -> Tensor:
        """All words at once, after the image: the same as `next_word` one after another."""
        image = self.image(batch.inputs["image"])[:, None]
        out, _ = self.network(torch.cat([image, self.words(tokens.ids[:, :-1])], 1))
        return self.word(self.dropout(out[:, 1:]))
