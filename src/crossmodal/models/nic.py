"""NIC, or Show and Tell (Vinyals et al., 2015): a network that reads the image as its first word and says the caption.

Eq. 10 to 12 of the paper, which trains with stochastic gradient descent and generates with a beam of 20; the defaults
here are those of public programs that reproduce it (Adam, beam of 5). Features pass batch normalisation first, which
one of them offers for other captioners (`use_bn`): it makes the image as large as a word vector, whatever the length of
its features, and takes away what all images share, which would otherwise soon drown what they differ in. The chapter
(eq. 9.11) sums from t = 0 although its w_0 is the start mark, which is read and not said, and it calls greedy decoding
"sampling".
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from crossmodal.models import base
from crossmodal.models.base import Batch, Tokens
from crossmodal.models.parts import captioner
from crossmodal.models.parts.captioner import Spoken
from crossmodal.models.parts.decoding import State


class Settings(captioner.Settings):
    """Those of all captioners, and a dropout that NeuralTalk, which was made for Flickr8K, sets to 0.5."""

    read_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the image's and of word vectors that are dropped before they are read"
    )


class Model(captioner.Captioner):
    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.even = nn.BatchNorm1d(context.shapes["image"][-1])
        self.image = nn.Linear(context.shapes["image"][-1], settings.word_dim)
        self.words = nn.Embedding(context.vocabulary_size, settings.word_dim)
        self.dropped = nn.Dropout(settings.read_dropout) if settings.read_dropout else nn.Identity()
        self.network = nn.LSTM(settings.word_dim, settings.dim, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.word = nn.Linear(settings.dim, context.vocabulary_size)

    def _image(self, batch: Batch) -> Tensor:
        """(B, word_dim) the images as the network's first word."""
        return self.dropped(self.image(self.even(batch.inputs["image"])))

    def read(self, ids: Tensor) -> Tensor:
        """Word vectors."""
        return self.dropped(self.words(ids))

    def first_state(self, batch: Batch) -> dict[str, Tensor]:
        """The states (B, dim) after the image, which is read once (eq. 10)."""
        _, (h, c) = self.network(self._image(batch)[:, None])
        return {"h": h[0], "c": c[0]}

    def advance(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 11: a word is read."""
        before = (state["h"][None].contiguous(), state["c"][None].contiguous())
        out, (h, c) = self.network(last[:, None], before)
        return out[:, 0], {"h": h[0], "c": c[0]}

    def spoken(self, batch: Batch, tokens: Tokens, drawn: float = 0.0) -> Spoken:
        """All words at once, after the image: the same as one after another, unless some are drawn."""
        if drawn:
            return super().spoken(batch, tokens, drawn)
        image = self._image(batch)[:, None]
        image = image.repeat_interleave(len(tokens.ids) // len(image), 0)
        read = torch.cat([image, self.read(tokens.ids[:, :-1])], 1)
        packed = pack_padded_sequence(read, tokens.lengths.cpu(), batch_first=True, enforce_sorted=False)
        out = self.network(packed)[0].data[len(image) :]  # without the image's own step
        sizes = packed.batch_sizes[1:].tolist()
        caption = torch.cat([packed.sorted_indices[:size] for size in sizes])
        place = torch.cat([caption.new_full((size,), place) for place, size in enumerate(sizes)])
        return Spoken(out, caption, place, tokens.ids[caption, place + 1], None)
