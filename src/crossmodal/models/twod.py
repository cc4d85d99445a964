"""Captions from states that are maps: convolutions in place of matrix products (Dai, Ye and Lin, 2018).

The recurrent networks with 2-D states of the paper, RNN-2DS, GRU-2DS and LSTM-2DS, with the layers of the authors'
program: a word is a small map which two convolutions enlarge in channels, the image is the grid of its features, and
the mean over a state's places chooses the next word. `flat` is the twin with 1-D states: one place with three times the
channels, whose convolutions of 1 x 1 have as many weights as those of 3 x 3, with tanh and word vectors as they are
(the authors' one has 512 units).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base
from crossmodal.models.base import Batch, Form
from crossmodal.models.parts import captioner
from crossmodal.models.parts.decoding import State

HIDDEN = 32  # channels between the two convolutions of a word's map
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


class Settings(captioner.Settings):
    """As the authors' program: 256 channels, 7 x 7 places, words of 4 x 15 x 15, batches of 100 pairs, β₁ of 0.8.

    From the 21st epoch on the program also trains the image's network and lets the learning rate fall ever faster, to
    half of it in epoch 30; here the rate is constant. It draws dropout for each word that is read, we for each
    different word of a batch.
    """

    cell: Literal["rnn", "gru", "lstm"] = Field("rnn", description="form of the recurrent network")
    dim: int = Field(256, ge=1, description="channels of the states; three times as many if `flat`")
    word_dim: int = Field(4, ge=1, description="channels of a word's map; `flat` words have those of the states")
    kernel: Literal[1, 3, 5] = Field(3, description="places per side of the convolutions of states, words and images")
    flat: bool = Field(False, description="whether states have one place: the twin with 1-D states")
    first_moment: float = Field(0.8, ge=0, lt=1, description="Adam's β₁")
    batch_size: int = Field(100, ge=2, description="number of pairs per batch")
    epochs: int = Field(50, ge=1)
    lr_drop: int = Field(50, ge=1, description="epochs after which the learning rate is multiplied by lr_factor")


class Model(captioner.Captioner):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        cells, width = context.shapes["image"]
        self.side = 1 if settings.flat else math.isqrt(cells)
        if not settings.flat and self.side**2 != cells:
            raise ValueError(f"its states are square maps, and images have {cells} cells; give a grid of n x n cells")
        channels, kernel = (3 * settings.dim, 1) if settings.flat else (settings.dim, settings.kernel)
        self.channels, size = channels, context.vocabulary_size
        if settings.flat:
            self.words = nn.Embedding(size, channels)  # of variance 1, as torch begins
        else:
            # Two convolutions of 5 x 5 without padding leave a map of the states' size.
            self.words = nn.Embedding(size, settings.word_dim * (self.side + 8) ** 2)
            self.enlarge = nn.ModuleList([nn.Conv2d(settings.word_dim, HIDDEN, 5), nn.Conv2d(HIDDEN, channels, 5)])
            bound = self.words.embedding_dim**-0.5
            nn.init.uniform_(self.words.weight, -bound, bound)
        self.squash = torch.tanh if settings.flat else torch.relu
        self.image = nn.Linear(width, channels)
        gates = GATES[settings.cell] * channels
        self.of_word, self.of_image, self.of_state = (
            nn.Conv2d(channels, gates, kernel, padding=kernel // 2) for _ in range(3)
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.word = nn.Linear(channels, size)

    def read(self, ids: Tensor) -> Tensor:
        """(..., gates, H, W): K_x * X of each word, computed once for each different one, as its dropout is drawn."""
        different, place = ids.unique(return_inverse=True)
        maps = self.words(different)
        if self.settings.flat:
            maps = maps[..., None, None]
        else:
            maps = maps.unflatten(1, (self.settings.word_dim, self.side + 8, self.side + 8))
            for layer in self.enlarge:
                maps = self.dropout(torch.relu(layer(maps)))
        return self.of_word(maps)[place]

    def first_state(self, batch: Batch) -> dict[str, Tensor | dict[str, Tensor]]:
        """Zero states (B, C, H, W), and K_v * V of the image, which does not change."""
        features, counts = batch.inputs["image"]
        if self.settings.flat:
            features = features.sum(1, keepdim=True) / counts[:, None, None]
        image = self.dropout(torch.relu(self.image(features))).transpose(1, 2).unflatten(2, (self.side, self.side))
        zeros = features.new_zeros(len(features), self.channels, self.side, self.side)
        memory = {"c": zeros} if self.settings.cell == "lstm" else {}
        return {"h": zeros, **memory, "images": {"seen": self.of_image(image)}}

    def advance(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of the network, with ReLU where the twin with 1-D states has tanh."""
        h, seen = state["h"], state["images"]["seen"]
        given = (last.unflatten(0, (len(seen), -1)) + seen[:, None]).flatten(0, 1)
        before = self.of_state(h)
        if self.settings.cell == "rnn":
            h = self.squash(before + given)
            state = {**state, "h": h}
        elif self.settings.cell == "gru":
            (z, r, new), (own_z, own_r, own) = given.chunk(3, 1), before.chunk(3, 1)
            z, r = torch.sigmoid(z + own_z), torch.sigmoid(r + own_r)
            h = (1 - z) * self.squash(new + r * own) + z * h
            state = {**state, "h": h}
        else:
            i, f, o, new = (given + before).chunk(4, 1)
            c = torch.sigmoid(f) * state["c"] + torch.sigmoid(i) * self.squash(new)
            h = torch.sigmoid(o) * self.squash(c)
            state = {**state, "h": h, "c": c}
        # The program drops places of the map, whose mean keeps more than a dropped mean would.
        return self.dropout(h).mean((2, 3)), state

    def logits_of(self, out: Tensor) -> Tensor:
        """(T, V) logits of the words that follow from (T, C) means, of which `advance` has dropped parts."""
        return self.word(out)
