"""DAN: dual attention over regions and words in steps, each modality with a memory of its own (002's baseline [36]).

The matching network (m-DAN) of Nam, Ha and Kim, CVPR 2017. A pair's score is the sum over steps of the inner products
of what either side attends to, so an item's vector is that of all its steps side by side. The network for questions
(r-DAN), whose two sides share a memory, gives no vectors and is not here.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.encoders import WordEncoder, mask, mean_of
from crossmodal.models.parts.losses import hinge_triplet
from crossmodal.models.parts.optimisers import Momentum


class Settings(base.Schedule):
    """The published settings of m-DAN on Flickr30K.

    It reads ResNet-152's last map there, here regions. Of each pair's negatives it draws one image and one sentence;
    here all others of the batch are.
    """

    epochs: int = Field(60, ge=1)
    lr: float = Field(0.1, gt=0)
    lr_drop: int = Field(30, ge=1)
    weight_decay: float = Field(5e-4, ge=0)
    clip: float = Field(0.1, ge=0)
    optimiser: Literal["sgd", "adam"] = Field("sgd", description="sgd: with a momentum of .9")
    dim: int = Field(512, ge=1, description="dimensions of word states, hidden layers and of a step's vector")
    word_dim: int = Field(512, ge=1, description="dimensions of a word vector")
    steps: int = Field(2, ge=1, description="K: steps of attention after the first, which is a mean")
    margin: float = Field(100.0, ge=0, description="margin of the hinges; vectors are not of unit length")
    dropout: float = Field(0.5, ge=0, lt=1, description="of regions and word states; where is not in the paper")
    negatives: Literal["all", "hardest"] = Field(
        "all", description="of a pair: all others of its batch, or the hardest"
    )


class Attention(nn.Module):
    """One step of one modality: vectors weighted by how they agree with the memory (visual and textual attention)."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.of_each = nn.Linear(in_dim, dim, bias=False)  # W
        self.of_memory = nn.Linear(dim, dim, bias=False)  # W_m
        self.weight = nn.Linear(dim, 1, bias=False)  # W_h

    def forward(self, vectors: Tensor, there: Tensor, memory: Tensor) -> Tensor:
        """(B, N, D) vectors, (B, N) bool and (B, d) memory -> (B, D) weighted sum."""
        hidden = torch.tanh(self.of_each(vectors)) * torch.tanh(self.of_memory(memory))[:, None]
        weights = self.weight(hidden).squeeze(2).masked_fill(~there, -torch.inf).softmax(1)
        return (weights[:, None] @ vectors).squeeze(1)


class Model(Momentum):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s, in_dim = settings, context.shapes["image"][-1]
        self.words = WordEncoder(context.vocabulary_size, s.word_dim, s.dim, cell="lstm", unit=False)
        self.image_attention = nn.ModuleList(Attention(in_dim, s.dim) for _ in range(s.steps))
        self.text_attention = nn.ModuleList(Attention(s.dim, s.dim) for _ in range(s.steps))
        self.project = nn.ModuleList(nn.Linear(in_dim, s.dim, bias=False) for _ in range(s.steps + 1))  # P
        self.dropout = nn.Dropout(s.dropout)

    def image_steps(self, regions: base.Regions) -> list[Tensor]:
        """K + 1 vectors (B, d) of an image: v of each step."""
        there = mask(regions.counts, regions.features.shape[1])
        vectors = self.dropout(regions.features)
        found = [torch.tanh(self.project[0](mean_of(vectors, there)))]
        memory = found[0]
        for attend, project in zip(self.image_attention, self.project[1:], strict=True):
            found.append(torch.tanh(project(attend(vectors, there, memory))))
            memory = memory + found[-1]
        return found

    def text_steps(self, tokens: base.Tokens) -> list[Tensor]:
        """K + 1 vectors (B, d) of a sentence: u of each step."""
        there = mask(tokens.lengths, tokens.ids.shape[1])
        vectors = self.dropout(2 * self.words(tokens))  # the sum of both ways, of which the encoder gives the mean
        found = [mean_of(vectors, there)]
        memory = found[0]
        for attend in self.text_attention:
            found.append(attend(vectors, there, memory))
            memory = memory + found[-1]
        return found

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, (K + 1)·d): their inner product is the sum over steps; not of unit length."""
        steps = {"image": self.image_steps, "text": self.text_steps}[modality]
        return torch.cat(steps(batch.inputs[modality]), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        scores = self.score(self.encode("image", batch, "text"), self.encode("text", batch, "image"))
        hardest = self.settings.negatives == "hardest"
        return {"loss": hinge_triplet(scores, self.settings.margin, hardest=hardest, groups=batch.groups)}
