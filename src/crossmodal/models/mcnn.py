"""m-CNN: multimodal convolutional networks that match images and sentences (Ma et al., 2015; a row of mFSR's tables).

A sentence is read by three blocks of convolutions over three words and pooling, whose outputs a gate sets to zero where
all words are padding. The image's vector is joined at one of four levels: to every window of the first, second or third
convolution, which see words, short and long phrases, or to the whole sentence. A last network makes a score of the
joint representation. Each level is a network of its own, and the published rows are those of the four scores' sum.

No program could be found: the architecture is known from the paper and from memory, and the optimiser, its rate and
the dropout are this project's choice.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.parts.encoders import MLP
from crossmodal.models.parts.negatives import drawn, hardest, hinges
from crossmodal.models.parts.words import WordVectors, embedding

Level = Literal["word", "short", "long", "sentence"]
LEVELS: tuple[Level, ...] = ("word", "short", "long", "sentence")
CELLS = 2**23  # numbers of a block of pairs' largest layer


class Settings(WordVectors):
    """Sizes, margin and random negatives of the paper; mFSR's tables state batches of 150."""

    batch_size: int = Field(150, ge=2)
    levels: tuple[Level, ...] = Field(LEVELS, min_length=1, description="networks whose scores are added")
    word_dim: int = Field(50, ge=1, description="dimensions of a word vector")
    train_words: bool = Field(True, description="whether the word vectors are trained with the other parameters")
    dim: int = Field(256, ge=1, description="dimensions of the image's vector that is joined")
    maps: tuple[int, int, int] = Field((200, 300, 300), description="channels of the three convolutions")
    joint: int = Field(400, ge=1, description="units of the network that makes the score")
    length: int = Field(30, ge=8, description="words that are read; longer sentences are cut, shorter ones padded")
    margin: float = Field(0.5, ge=0, description="margin by which a pair's score must exceed those of its negatives")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the last network")
    lr: float = Field(1e-3, gt=0, description="Adam's learning rate")
    clip: float = Field(0.0, ge=0)

    @field_validator("levels")
    @classmethod
    def _different(cls, value: tuple[Level, ...]) -> tuple[Level, ...]:
        if len({*value}) < len(value):
            raise ValueError("levels: name each level once")
        return value


class Network(nn.Module):
    """One level's network, which scores sentences with images."""

    def __init__(self, s: Settings, context: base.Context, level: Level):
        super().__init__()
        self.level = LEVELS.index(level)
        self.words = embedding(context, s)
        self.image = nn.Linear(context.shapes["image"][0], s.dim)
        sizes = (s.word_dim, *s.maps)
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, 3, padding=1) for a, b in zip(sizes, s.maps, strict=False))
        width = s.length
        for _ in s.maps:
            width //= 2
        inputs = s.maps[-1] * width
        # A layer that reads both is the sum of a layer of each, so that a pair costs only what follows it.
        joined = s.maps[self.level] if self.level < 3 else s.joint
        self.join = nn.Linear(s.dim, joined, bias=False)
        self.out = MLP(inputs, s.joint, 1)
        self.dropout = nn.Dropout(s.dropout)

    def before(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the first layers make of (B, length) sentences alone, up to that which reads the image, and the gate."""
        valid = (ids > 0)[:, None].to(self.words.weight.dtype)
        x = self.words(ids).transpose(1, 2)
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x)
            gate = F.max_pool1d(valid, 3, 1, 1)  # a window has a word
            if number == self.level:
                return x, gate
            x, valid = F.max_pool1d(F.relu(x) * gate, 2), F.max_pool1d(gate, 2)
        return self.out[0](self.dropout(x.flatten(1))), valid

    def after(self, x: Tensor, gate: Tensor, images: Tensor) -> Tensor:
        """(P,) scores of P pairs: what `before` made of their sentences, and the (P, joined) outputs of `join`."""
        if self.level == 3:
            return self.out[2](F.relu(x + images)).squeeze(1)
        x = x + images[:, :, None]
        for convolution in (*self.convolutions[self.level + 1 :], None):
            x, gate = F.max_pool1d(F.relu(x) * gate, 2), F.max_pool1d(gate, 2)
            if convolution is not None:
                x, gate = convolution(x), F.max_pool1d(gate, 3, 1, 1)
        return self.out(self.dropout(x.flatten(1))).squeeze(1)

    def pairs(self, images: Tensor, ids: Tensor) -> Tensor:
        """(P,) scores of (P, D) images and (P, length) sentences, row by row."""
        return self.after(*self.before(ids), self.join(F.relu(self.image(images))))

    def scores(self, images: Tensor, ids: Tensor) -> Tensor:
        """(A, B) scores of all pairs of (A, D) images and (B, length) sentences, in blocks."""
        x, gate = self.before(ids.long())  # encodings that were kept may be numbers of another type
        joined = self.join(F.relu(self.image(images)))
        step = max(1, CELLS // max(1, len(images) * x[0].numel()))
        parts = []
        for first in range(0, len(ids), step):
            part = slice(first, first + step)
            count, n = len(x[part]), len(images)
            each = (value[part].repeat(n, *([1] * (value.ndim - 1))) for value in (x, gate))
            parts.append(self.after(*each, joined.repeat_interleave(count, 0)).view(n, count))
        return torch.cat(parts, 1)


class Model(base.Model):
    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.networks = nn.ModuleDict({level: Network(settings, context, level) for level in settings.levels})

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, D) images as they are read, or (B, length) word ids: a pair's score follows from both sides together."""
        value = batch.inputs[modality]
        if modality == "image":
            return value
        length = self.settings.length
        return F.pad(value.ids[:, :length], (0, max(0, length - value.ids.shape[1])))

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) sums of the networks' scores of (A, D) images with (B, length) sentences."""
        return sum(network.scores(queries, gallery) for network in self.networks.values())

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """One per network: each is trained as if it were alone."""
        decay = self.settings.weight_decay
        return {
            level: torch.optim.Adam([p for p in n.parameters() if p.requires_grad], lr=stage.lr, weight_decay=decay)
            for level, n in self.networks.items()
        }

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Hinges against one random sentence and one random image of another group, averaged over the pairs."""
        network, margin = self.networks[turn], self.settings.margin
        images, ids = batch.inputs["image"], self.encode("text", batch, "image")
        possible = batch.groups[:, None] != batch.groups[None, :]
        (text, text_there), (image, image_there) = (hardest(possible.float(), drawn(possible, 1)) for _ in range(2))
        # One call for all three, which read the same number of words.
        matching, against_text, against_image = network.pairs(
            torch.cat([images, images, images[image]]), torch.cat([ids, ids[text], ids])
        ).chunk(3)
        parts = hinges(matching, against_text, text_there, margin), hinges(matching, against_image, image_there, margin)
        return {"loss": torch.stack(parts).sum(0).mean()}
