"""Show, attend and tell: a recurrent network that looks at a part of the image for each word (Xu et al., 2015).

Eq. 1 to 7 of the paper with soft attention, and section 4.2.1: the gate β and the doubly stochastic penalty. The states
begin with tanh layers as in the authors' program. The chapter (section 9.3.3.2) describes only z = Σ α_i I_i, and says
that the network also reads its output of the last step, which is the last word.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Batch, Form
from crossmodal.models.parts import captioner
from crossmodal.models.parts.decoding import State
from crossmodal.models.parts.encoders import mean_of
from crossmodal.models.parts.region_attention import RegionAttention, weighted


class Settings(captioner.Settings):
    """The defaults are those of a public reproduction (sgrvinod), as the paper names none: widths of 512, Adam, λ = 1.

    It trains for up to 120 epochs, until BLEU-4 on validation has not risen for 20, and lowers the rate after eight
    such epochs alone. The authors' program has 1,800 units, batches of 64, two layers of attention and a rate of 2e-4.
    """

    attention_dim: int = Field(512, ge=1, description="units of the attention")
    attends: bool = Field(True, description="whether it attends; otherwise all regions have the same weight")
    stochastic: float = Field(1.0, ge=0, description="λ: weight of the penalty on 1 - Σ_t α_ti of regions i")
    penalty: Literal["sum", "mean"] = Field(
        "sum",
        description="the penalty of a caption: the sum over regions of (1 - Σ_t α_ti)² beside the sum over its words, "
        "as in the paper, or the mean over regions beside the mean over words, as in the reproduction",
    )
    batch_size: int = Field(32, ge=2, description="number of pairs per batch")
    clip: float = Field(5.0, ge=0, description="largest size of each element of the gradient; 0 leaves it as it is")


class Model(captioner.Attentive):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        width, dim, word_dim = context.shapes["image"][-1], settings.dim, settings.word_dim
        self.words = nn.Embedding(context.vocabulary_size, word_dim)
        self.first_h, self.first_c = nn.Linear(width, dim), nn.Linear(width, dim)
        self.look = RegionAttention(width, dim, settings.attention_dim, bias=True)
        self.gate = nn.Linear(dim, 1)
        self.network = nn.LSTMCell(word_dim + width, dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.of_state, self.of_seen = nn.Linear(dim, word_dim, bias=False), nn.Linear(width, word_dim, bias=False)
        self.word = nn.Linear(word_dim, context.vocabulary_size)

    def first_state(self, batch: Batch) -> dict[str, Tensor | dict[str, Tensor]]:
        """States from the mean region, and what the attention needs of the regions."""
        images = self.look.of_images(batch.inputs["image"])
        mean = mean_of(images["regions"], images["valid"])
        h, c = torch.tanh(self.first_h(mean)), torch.tanh(self.first_c(mean))
        return {"h": h, "c": c, "images": images}

    def advance(self, last: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        if self.settings.attends:
            weights, seen = self.look(state["h"], state["images"])  # eq. 4 to 6
        else:
            valid = state["images"]["valid"]
            weights = (valid / valid.sum(1, keepdim=True)).to(last).repeat_interleave(len(last) // len(valid), 0)
            seen = weighted(weights, state["images"]["regions"])
        seen = torch.sigmoid(self.gate(state["h"])) * seen  # section 4.2.1
        h, c = self.network(torch.cat([last, seen], 1), (state["h"], state["c"]))  # eq. 1 to 3
        out = last + self.of_state(self.dropout(h)) + self.of_seen(seen)  # eq. 7
        return out, {**state, "h": h, "c": c, "attention": weights}

    def logits_of(self, out: Tensor) -> Tensor:
        """L_o of eq. 7, behind tanh and dropout as in the authors' program."""
        return self.word(self.dropout(torch.tanh(out)))

    def likelihood(self, batch: Batch, drawn: float = 0.0) -> dict[str, Tensor]:
        """The negative log-likelihood of the words with the penalty of section 4.2.1, per word."""
        spoken = self.spoken(batch, batch.inputs["text"], drawn)
        loss = F.cross_entropy(self.logits_of(spoken.out), spoken.word)
        if not (self.settings.attends and self.settings.stochastic):
            return {"loss": loss}
        count = len(batch.inputs["text"].ids)
        total = spoken.attention.new_zeros(count, spoken.attention.shape[1])
        total = total.index_add(0, spoken.caption, spoken.attention)
        missing = (1 - total).square() * self.look.valid(batch.inputs["image"])
        if self.settings.penalty == "sum":
            penalty = missing.sum() / len(spoken.word)
        else:
            penalty = (missing.sum(1) / self.look.valid(batch.inputs["image"]).sum(1)).mean()
        return {"loss": loss + self.settings.stochastic * penalty, "penalty": penalty}
