"""SCO: semantic concepts and order for image and sentence matching (Huang et al., 2018; a row of mFSR's tables).

An image's concepts are predicted from its regions, each of which is classified; a gate fuses them with the image's
global feature to one vector. That vector is matched with a sentence's, and a decoder must generate the sentence from
it, whose words then teach the order of the concepts.

No program could be found. From the abstract: the parts named above and that they are learned jointly. From memory: 256
concepts that are frequent words, their prediction by a logistic loss beforehand, the form of the gate, sizes, and the
weight of the generation. The margin is this project's choice. The paper keeps nouns, verbs and adjectives; here the
commonest words but the very commonest stand in. The regions are the cells of a feature map, whose mean is the global
feature.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.language.tokens import SPECIAL
from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.decoder import CaptionDecoder
from crossmodal.models.parts.encoders import mask, mean_of, packed
from crossmodal.models.parts.losses import Hinges, Negatives, batch_hinges
from crossmodal.models.parts.recurrent import LSTM


class Settings(Hinges):
    dim: int = Field(1024, ge=1, description="dimensions of the common space, of the LSTM and of the decoder")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    concepts: int = Field(256, ge=1, description="K: number of concepts")
    stop_words: int = Field(30, ge=0, description="number of the commonest words that are no concepts")
    concept_epochs: int = Field(10, ge=0, description="epochs of the first stage, which predicts concepts alone")
    margin: float = Field(0.2, ge=0, description="margin by which a pair's score must exceed those of its negatives")
    warm_up: float = Field(1.0, ge=0, le=1, description="share of the training in which all negatives count")
    negatives: Negatives = Field("other_groups", description="which pairs of the batch are negatives")
    generation: float = Field(1.0, ge=0, description="λ: weight of the negative log-likelihood of the sentences")


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s, in_dim = settings, context.shapes["image"][-1]
        # Words are numbered by their frequency.
        self.first = min(len(SPECIAL) + s.stop_words, max(len(SPECIAL), context.vocabulary_size - s.concepts))
        self.count = max(1, min(s.concepts, context.vocabulary_size - self.first))
        self.concepts = nn.Linear(in_dim, self.count)
        self.of_concepts, self.of_all = nn.Linear(self.count, s.dim), nn.Linear(in_dim, s.dim)  # W_p, W_x
        self.gates = nn.ModuleList([nn.Linear(self.count, s.dim), nn.Linear(in_dim, s.dim, bias=False)])  # U_p, U_x
        self.words = nn.Embedding(context.vocabulary_size, s.word_dim)
        nn.init.uniform_(self.words.weight, -0.1, 0.1)
        self.lstm = LSTM(s.word_dim, s.dim, batch_first=True)
        self.decoder = CaptionDecoder(context.vocabulary_size, s.word_dim, s.dim)
        self.stage = "train"  # as a trained run is opened; `begin` sets that of a training

    def stages(self) -> list[base.Stage]:
        s = self.settings
        first = base.Stage("concepts", s.concept_epochs, s.lr, s.concept_epochs or 1, selects=False)
        return [*([first] if s.concept_epochs else []), base.Stage("train", s.epochs, s.lr, s.lr_drop, s.lr_factor)]

    def begin(self, stage: base.Stage) -> None:
        self.stage = stage.name
        self.concepts.requires_grad_(stage.name == "concepts")

    def concept_logits(self, regions: base.Regions) -> Tensor:
        """(B, K) logits of the concepts: the highest of those of the regions."""
        valid = mask(regions.counts, regions.features.shape[1])[..., None]
        return self.concepts(regions.features).masked_fill(~valid, -torch.inf).amax(1)

    def concepts_of(self, tokens: base.Tokens) -> Tensor:
        """(B, K) zeros and ones: the concepts that the words of the captions name."""
        places = tokens.ids - self.first
        inside = (places >= 0) & (places < self.count)
        found = self.words.weight.new_zeros(len(places), self.count + 1)
        return found.scatter(1, torch.where(inside, places, self.count), 1.0)[:, :-1]

    def fused(self, regions: base.Regions) -> Tensor:
        """(B, dim) vectors v = t ⊙ p̂ + (1 - t) ⊙ x̂ of concepts p and global features x, with t = σ(U_p p + U_x x)."""
        x = mean_of(regions.features, mask(regions.counts, regions.features.shape[1]))
        p = torch.sigmoid(self.concept_logits(regions))
        gate = torch.sigmoid(self.gates[0](p) + self.gates[1](x))
        return gate * F.normalize(self.of_concepts(p), dim=1) + (1 - gate) * F.normalize(self.of_all(x), dim=1)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        value = batch.inputs[modality]
        if modality == "image":
            return F.normalize(self.fused(value), dim=1)
        _, (last, _) = self.lstm(packed(self.words(value.ids), value.lengths))
        return F.normalize(last[-1], dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s, tokens = self.settings, batch.inputs["text"]
        if self.stage == "concepts":
            logits = self.concept_logits(batch.inputs["image"])
            return {"loss": F.binary_cross_entropy_with_logits(logits, self.concepts_of(tokens))}
        vectors = self.fused(batch.inputs["image"])
        scores = F.normalize(vectors, dim=1) @ self.encode("text", batch, "image").T
        terms = {"hinges": batch_hinges(scores, s, batch.groups, progress)}
        loss = terms["hinges"]
        if s.generation:
            terms["generation"] = self.decoder.loss(self.words, tokens, vectors)
            pairs = 1 if s.reduction == "mean" else len(scores)
            loss = loss + s.generation * terms["generation"] * pairs
        return {"loss": loss, **terms}
