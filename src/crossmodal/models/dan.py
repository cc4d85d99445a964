"""DAN: dual attention over regions and words in steps, each modality with a memory of its own (Nam et al., 2017).

This is the matching network (m-DAN), a baseline of A3VSE. A pair's score is the sum over the steps of the inner
products of the two sides' attended vectors, so that an item's encoding is the concatenation of its vectors of all
steps. The network for question answering (r-DAN), whose two sides share a memory, has no such encodings and is not
implemented.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.encoders import WordEncoder, mask, mean_of
from crossmodal.models.parts.losses import hinge_triplet
from crossmodal.models.parts.negatives import drawn, hardest, hinges
from crossmodal.models.parts.optimisers import Chosen, others

WEIGHTS, WORDS = 0.1, 1.0  # s.d. of initial weights and word vectors, from normal distributions cut at two s.d.


class Settings(base.Schedule):
    """The settings of the one public program that reproduces the paper's numbers (J. Liang, DualAttentionNetwork).

    Its R@1 on Flickr30K are 54.4 and 39.8 where the paper has 55.0 and 39.4. Its notes name Adadelta and the later
    epochs, which the command beside them does not use. The paper prints momentum (`optimiser: sgd`, `word_lr: 1`),
    a learning rate that falls to a tenth after 30 of 60 epochs (`lr_drop: 30`, `lr_factor: .1`, `later_epochs: 0`),
    batches of 128, and one random image and sentence as a pair's negatives (`negatives: drawn`); with these and the
    gradient's norm clipped at .1 the model does not learn, and the program's notes too state that only Adadelta works.

    This module differs from the program in four ways. The program reads ResNet-152's last feature map of 448 x 448
    pixels (nearly that of `boxes: grid` with `grid: 14`) without normalising it to unit length. It divides the first
    vector of a sentence by the length of the longest sentence of the batch, not by its own. The two directions of its
    LSTM are one cell, whose weights they may share. It takes the candidates of `negatives: mined` from a second batch;
    here they are the other pairs of the same batch.
    """

    batch_size: int = Field(256, ge=2)
    epochs: int = Field(60, ge=1)
    lr: float = Field(0.1, gt=0, description="learning rate of all parameters except the word vectors")
    lr_drop: int = Field(3, ge=1)
    lr_factor: float = Field(
        0.956,
        gt=0,
        le=1,
        description="factor of the learning rate; the program multiplies by .95 after every "
        "500,000 pairs, which are 3.4 epochs of Flickr30K",
    )
    word_lr: float = Field(100.0, gt=0, description="learning rate of the word vectors, as a multiple of `lr`")
    later_epochs: int = Field(
        60,
        ge=0,
        description="number of epochs of the second stage, which begins with a new optimiser, as the program is "
        "started a second time",
    )
    later_lr: float = Field(0.05, gt=0, description="learning rate of the second stage")
    later_dropout: float = Field(0.2, ge=0, lt=1, description="dropout of the second stage")
    optimiser: Literal["adadelta", "sgd", "nesterov", "adam"] = Field(
        "adadelta", description="optimiser; sgd and nesterov have a momentum of .9"
    )
    weight_decay: float = Field(
        5e-4, ge=0, description="weight decay of all parameters except the word vectors and the first projection"
    )
    clip: float = Field(0.1, ge=0)
    clip_by: Literal["norm", "value"] = Field(
        "value", description="what `clip` bounds; the paper only states that gradients are clipped at .1"
    )
    min_count: int = Field(2, ge=1)
    max_words: int = Field(200, ge=1)
    dim: int = Field(512, ge=1, description="dimensions of word states, hidden layers and of the vector of each step")
    word_dim: int = Field(512, ge=1, description="dimensions of a word vector")
    steps: int = Field(2, ge=1, description="K: number of attention steps after the first step, which is a mean")
    margin: float = Field(100.0, ge=0, description="margin of the hinges; vectors are not of unit length")
    dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="dropout of word vectors, of the first vector of both modalities, and before each attention",
    )
    negatives: Literal["mined", "drawn", "all", "hardest"] = Field(
        "mined",
        description="negatives of a pair: mined: the hardest of `candidates` other pairs; drawn: the image of one "
        "random other pair and the sentence of another; all: all others of the batch; hardest: the hardest of the "
        "batch",
    )
    candidates: int = Field(
        32, ge=1, description="number of random other pairs of the batch among which negatives are mined"
    )
    mined_image: Literal["image", "sentence"] = Field(
        "image",
        description="item to which a mined image is nearest: the image of the pair, as in the program, or its "
        "sentence, as was probably intended",
    )


class Attention(nn.Module):
    """One step of visual or textual attention, which weights vectors by their agreement with the memory."""

    def __init__(self, in_dim: int, dim: int, dropout: float):
        super().__init__()
        self.of_each = nn.Linear(in_dim, dim, bias=False)  # W
        self.of_memory = nn.Linear(dim, dim, bias=False)  # W_m
        self.weight = nn.Linear(dim, 1, bias=False)  # W_h
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, valid: Tensor, memory: Tensor) -> Tensor:
        """(B, N, D) vectors, (B, N) bool and (B, d) memory -> (B, D) weighted sum."""
        vectors = self.dropout(vectors)
        hidden = torch.tanh(self.of_each(vectors)) * torch.tanh(self.of_memory(self.dropout(memory)))[:, None]
        weights = self.weight(hidden).squeeze(2).masked_fill(~valid, -torch.inf).softmax(1)
        return (weights[:, None] @ vectors).squeeze(1)


class Model(Chosen):
    reads: ClassVar[dict[str, Form]] = {"image": "regions", "text": "tokens"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s, in_dim = settings, context.shapes["image"][-1]
        self.words = WordEncoder(context.vocabulary_size, s.word_dim, s.dim, cell="lstm", unit=False, dropout=s.dropout)
        self.image_attention = nn.ModuleList(Attention(in_dim, s.dim, s.dropout) for _ in range(s.steps))
        self.text_attention = nn.ModuleList(Attention(s.dim, s.dim, s.dropout) for _ in range(s.steps))
        first = nn.Linear(in_dim, s.dim)
        self.project = nn.ModuleList([first, *(nn.Linear(in_dim, s.dim, bias=False) for _ in range(s.steps))])  # P
        self.dropout = nn.Dropout(s.dropout)
        self._first_weights()

    def _first_weights(self) -> None:
        """Initialise as the program does: TensorFlow's LSTM in the word encoder, normal distributions elsewhere."""
        _normal(self.words.words.weight, WORDS)
        for layer in [*self.image_attention.modules(), *self.text_attention.modules(), *self.project]:
            if isinstance(layer, nn.Linear):
                _normal(layer.weight, WEIGHTS)
        nn.init.zeros_(self.project[0].bias)
        dim = self.settings.dim
        for name, value in self.words.network.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(value)
            else:  # TensorFlow has one matrix for words and states, hence a common bound
                bound = (6 / (self.settings.word_dim + dim + 4 * dim)) ** 0.5
                nn.init.uniform_(value, -bound, bound)
            if name.startswith("bias_ih"):
                nn.init.ones_(value.data[dim : 2 * dim])  # the forget gates begin open

    def stages(self) -> list[base.Stage]:
        s = self.settings
        stages = [base.Stage("train", s.epochs, s.lr, s.lr_drop, s.lr_factor)]
        if s.later_epochs:
            stages.append(base.Stage("later", s.later_epochs, s.later_lr, s.lr_drop, s.lr_factor))
        return stages

    def begin(self, stage: base.Stage) -> None:
        rate = self.settings.later_dropout if stage.name == "later" else self.settings.dropout
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate

    def parts(self) -> list[dict[str, Any]]:
        words = {"params": [self.words.words.weight], "factor": self.settings.word_lr, "weight_decay": 0.0}
        first = {"params": [*self.project[0].parameters()], "factor": 1.0, "weight_decay": 0.0}
        return [{"params": others(self.parameters(), words, first), "factor": 1.0}, first, words]

    def image_steps(self, regions: base.Regions) -> list[Tensor]:
        """K + 1 tensors (B, d): v of each step for each image."""
        vectors, valid = regions.features, mask(regions.counts, regions.features.shape[1])
        steps = [self.dropout(torch.tanh(self.project[0](mean_of(vectors, valid))))]
        memory = steps[0]
        for attend, project in zip(self.image_attention, self.project[1:], strict=True):
            steps.append(torch.tanh(project(attend(vectors, valid, memory))))
            memory = memory + steps[-1]
        return steps

    def text_steps(self, tokens: base.Tokens) -> list[Tensor]:
        """K + 1 tensors (B, d): u of each step for each sentence."""
        valid = mask(tokens.lengths, tokens.ids.shape[1])
        vectors = 2 * self.words(tokens)  # the sum of both directions, of which the encoder returns the mean
        steps = [self.dropout(mean_of(vectors, valid))]
        memory = steps[0]
        for attend in self.text_attention:
            steps.append(attend(vectors, valid, memory))
            memory = memory + steps[-1]
        return steps

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, (K + 1)·d) vectors, not of unit length, whose inner products are the sums over the steps."""
        steps = {"image": self.image_steps, "text": self.text_steps}[modality]
        return torch.cat(steps(batch.inputs[modality]), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s, groups = self.settings, batch.groups
        if s.negatives in ("all", "hardest"):
            scores = self.score(self.encode("image", batch, "text"), self.encode("text", batch, "image"))
            return {
                "loss": hinge_triplet(
                    scores, s.margin, hardest=s.negatives == "hardest", groups=groups, reduction="mean"
                )
            }
        (sentence, sentence_there), (image, image_there) = self.negatives(batch)
        images, sentences = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        matching = (images * sentences).sum(1)
        against_sentence = hinges(matching, (images * sentences[sentence]).sum(1), sentence_there, s.margin)
        against_image = hinges(matching, (images[image] * sentences).sum(1), image_there, s.margin)
        return {"loss": (against_sentence + against_image).mean()}

    @torch.no_grad()
    def negatives(self, batch: base.Batch) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(B,) rows in the batch of each pair's negative sentence and image, each with (B,) bool whether it exists."""
        s, groups = self.settings, batch.groups
        possible = groups[:, None] != groups[None, :]
        if s.negatives == "drawn":
            equal = possible.float()
            return hardest(equal, drawn(possible, 1)), hardest(equal, drawn(possible, 1))
        training = self.training
        self.eval()  # as in the program, mining uses no dropout
        images, sentences = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        self.train(training)
        candidates = drawn(possible, s.candidates)  # the same for sentences and images
        nearest = images if s.mined_image == "image" else sentences
        return hardest(images @ sentences.T, candidates), hardest(nearest @ images.T, candidates)


def _normal(weight: Tensor, deviation: float) -> None:
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
