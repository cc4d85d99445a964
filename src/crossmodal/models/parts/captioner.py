"""What captioners share: training with the true words, and captions by a beam.

A captioner defines `first_state` and `next_word`, or overrides `logits` where all words can be read at once.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from crossmodal.language.tokens import PAD, START
from crossmodal.models import base
from crossmodal.models.base import Batch, Schedule, Tokens
from crossmodal.models.parts import decoding
from crossmodal.models.parts.decoding import State


class Settings(Schedule):
    """Settings of captioners; those of the training are the ones that public programs share."""

    word_dim: int = Field(512, ge=1, description="dimensions of a word vector")
    dim: int = Field(512, ge=1, description="units of the recurrent network")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of the states that are dropped before a word is chosen")
    beam: int = Field(5, ge=1, description="unfinished captions per image; 1 takes the likeliest word each time")
    longest: int = Field(20, ge=1, description="largest number of words of a caption that is generated")
    lr: float = Field(4e-4, gt=0, description="Adam's learning rate before the first step")
    lr_drop: int = Field(3, ge=1, description="epochs after which the learning rate is multiplied by lr_factor")
    lr_factor: float = Field(0.8, gt=0, le=1)
    clip: float = Field(0.1, ge=0, description="largest size of each element of the gradient; 0 leaves it as it is")
    clip_by: Literal["norm", "value"] = Field("value", description="what `clip` bounds, as in other systems")


class Captioner(base.Model):
    """A system that generates captions; it has no encodings, so that it is not asked to retrieve."""

    def first_state(self, batch: Batch) -> dict[str, Tensor]:
        """The state before the first word, each tensor with one row per image."""
        raise NotImplementedError

    def next_word(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """The (N, V) logits of the words that follow the (N,) last ones, and the next state.

        A captioner with attention leaves the (N, R) weights of the regions in the next state, under `weights`.
        """
        raise NotImplementedError

    def logits(self, batch: Batch, tokens: Tokens) -> Tensor:
        """(B, L - 1, V) logits of each word of the captions from the second on, given the true words before it."""
        state, steps = self.first_state(batch), []
        for place in range(tokens.ids.shape[1] - 1):
            logits, state = self.next_word(tokens.ids[:, place], state)
            steps.append(logits)
        return torch.stack(steps, 1)

    def loss(self, batch: Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """The mean negative log-likelihood of the words of the captions, their end marks included."""
        tokens = batch.inputs["text"]
        words = tokens.ids[:, 1:]
        there = torch.arange(words.shape[1], device=words.device) < (tokens.lengths - 1)[:, None]
        return {"loss": F.cross_entropy(self.logits(batch, tokens)[there], words[there])}

    @torch.no_grad()
    def generate(self, batch: Batch, beam: int) -> Tensor:
        """(B, L) word ids of a caption per image, padded with 0 (`capabilities.Generates`).

        Raises
        ------
        ValueError : a beam below 1.
        """
        state, most = self.first_state(batch), self.settings.longest
        first = next(iter(state.values()))
        if beam == 1:
            return decoding.greedy(self.next_word, state, len(first), most, first.device)
        return decoding.beam(self.next_word, state, len(first), most, beam, first.device)

    @torch.no_grad()
    def attend(self, batch: Batch, captions: Tensor) -> Tensor | None:
        """(B, L, R) weights of each image's regions when the words of (B, L) captions are said; None without attention.

        Those of padding are 0 (`capabilities.Generates`).
        """
        state, steps = self.first_state(batch), []
        last = torch.full((len(captions),), START, device=captions.device)
        for place in range(captions.shape[1]):
            _, state = self.next_word(last, state)
            if "weights" not in state:
                return None
            steps.append(state["weights"])
            last = captions[:, place]
        return torch.stack(steps, 1) * (captions != PAD)[..., None]
