"""DPC: two convolutional paths, trained to tell every image and its captions from all others, then by ranking too.

Zheng, Zheng, Garrett, Yang and Shen, Dual-path convolutional image-text embeddings with instance loss (002's baseline
[52]): each image with its captions is a class of its own, and one classifier is shared by both paths. Image features
are read; the fine-tuning of their network in the second stage is not done.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.parts.encoders import mask
from crossmodal.models.parts.losses import hinge_triplet
from crossmodal.models.parts.optimisers import Momentum
from crossmodal.text import RareWords


class Settings(base.Schedule):
    """The published settings, and those of the authors' program where the paper has none."""

    batch_size: int = Field(32, ge=2)
    epochs: int = Field(60, ge=1, description="of the first stage: instance loss alone")
    ranking_epochs: int = Field(60, ge=1, description="of the second stage: ranking and instance loss")
    lr: float = Field(1e-3, gt=0)
    lr_drop: int = Field(40, ge=1)
    ranking_lr: float = Field(1e-4, gt=0, description="learning rate of the second stage")
    weight_decay: float = Field(1e-4, ge=0)
    clip: float = Field(0.0, ge=0)
    optimiser: Literal["sgd", "adam"] = Field("sgd", description="sgd: with a momentum of .9")
    rare_words: RareWords = Field("drop", description="words without a vector are left out, not marked")
    max_words: int = Field(30, ge=1)
    dim: int = Field(2048, ge=1, description="dimensions of the common space")
    word_dim: int = Field(300, ge=1, description="dimensions of a word vector")
    word_embedding: str = Field("seeded", description="file of word2vec or GloVe vectors to begin with, or seeded")
    length: int = Field(32, ge=4, description="words that the text path sees, padded with zeros")
    shift: bool = Field(True, description="each caption of a training batch begins at a random one of these places")
    widths: tuple[int, ...] = Field((256, 512, 1024, 2048), description="channels of the text path's stages")
    blocks: tuple[int, ...] = Field((3, 4, 6, 1), description="residual blocks of each stage")
    dropout: float = Field(0.5, ge=0, lt=1, description="before the classifier")
    margin: float = Field(1.0, ge=0, description="margin of the hinges on cosines")
    negatives: Literal["random", "hardest"] = Field("random", description="of a pair, in the ranking loss")
    ranking_weight: float = Field(1.0, ge=0, description="λ1: of the ranking loss, in the second stage")
    image_weight: float = Field(1.0, ge=0, description="λ2: of the images' instance loss")
    text_weight: float = Field(1.0, ge=0, description="λ3: of the captions' instance loss")

    @property
    def fallbacks(self) -> list[str]:
        return ["word vectors: seeded, not word2vec"] if self.word_embedding == "seeded" else []

    @model_validator(mode="after")
    def _stages(self) -> Settings:
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"blocks: gives {len(self.blocks)} stages, and widths {len(self.widths)}")
        if self.length < self.max_words + 2:
            raise ValueError(
                f"length: {self.length} places do not hold {self.max_words} words (`max_words`) and two marks"
            )
        return self


class Block(nn.Module):
    """A bottleneck of convolutions over 1, 2 and 1 words, beside a shortcut."""

    def __init__(self, in_dim: int, dim: int, stride: int = 1):
        super().__init__()
        inner = max(1, dim // 4)
        self.reduce = nn.Sequential(nn.Conv1d(in_dim, inner, 1, bias=False), nn.BatchNorm1d(inner), nn.ReLU())
        self.over_two = nn.Sequential(nn.Conv1d(inner, inner, 2, stride, bias=False), nn.BatchNorm1d(inner), nn.ReLU())
        self.widen = nn.Sequential(nn.Conv1d(inner, dim, 1, bias=False), nn.BatchNorm1d(dim))
        self.shortcut = nn.Identity()
        if stride > 1 or in_dim != dim:
            self.shortcut = nn.Sequential(nn.Conv1d(in_dim, dim, 1, stride, bias=False), nn.BatchNorm1d(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) -> (B, d, L / stride)."""
        return F.relu(self.widen(self.over_two(F.pad(self.reduce(x), (1, 0)))) + self.shortcut(x))


def _dense(in_dim: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU())


class TextPath(nn.Module):
    """Word vectors, residual convolutions, the mean over places and one dense layer."""

    def __init__(self, s: Settings, context: base.Context):
        super().__init__()
        self.length, self.shift = s.length, s.shift
        self.words = nn.Embedding(context.vocabulary_size, s.word_dim, padding_idx=0)
        nn.init.normal_(self.words.weight, std=s.word_dim**-0.5)
        if context.word_vectors is not None:
            self.words.weight.data.copy_(context.word_vectors)
        self.words.weight.data[0] = 0  # places without a word
        self.norm = nn.BatchNorm1d(s.word_dim)
        layers, width = [], s.word_dim
        for stage, (dim, count) in enumerate(zip(s.widths, s.blocks, strict=True)):
            # Places are halved between stages, but not before the last one.
            stride = 2 if 0 < stage < len(s.widths) - 1 else 1
            for n in range(count):
                layers.append(Block(width, dim, stride if n == 0 else 1))
                width = dim
        self.blocks = nn.Sequential(*layers)
        self.dense = _dense(width, s.dim)

    def forward(self, tokens: base.Tokens) -> Tensor:
        """(B, L) ids -> (B, d)."""
        vectors = self.words(self.placed(tokens))
        return self.dense(self.blocks(self.norm(vectors.transpose(1, 2))).mean(2))

    def placed(self, tokens: base.Tokens) -> Tensor:
        """(B, length) ids with each caption at its first place: 0, or while training a random one that it fits in."""
        ids = tokens.ids
        wide = ids.new_zeros(len(ids), self.length)
        places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        if self.training and self.shift:
            room = self.length - tokens.lengths + 1
            places = places + (torch.rand(len(ids), device=ids.device) * room).long()[:, None]
        rows = torch.arange(len(ids), device=ids.device)[:, None].expand(ids.shape)
        said = mask(tokens.lengths, ids.shape[1])
        wide[rows[said], places[said]] = ids[said]
        return wide


class Model(Momentum):
    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        if context.groups is None:
            raise ValueError("DPC needs the groups of the training pairs: each is a class of its instance loss")
        (in_dim,) = context.shapes["image"]
        self.image = nn.Sequential(_dense(in_dim, s.dim), _dense(s.dim, s.dim))
        self.text = TextPath(s, context)
        self.dropout = nn.Dropout(s.dropout)
        self.register_buffer("groups", context.groups)
        self.classifier = nn.Linear(s.dim, len(context.groups), bias=False)  # shared by both paths
        self.ranking = False

    def stages(self) -> list[base.Stage]:
        """The instance loss alone, then the ranking loss beside it."""
        s = self.settings
        return [
            base.Stage("instance", s.epochs, s.lr, s.lr_drop, s.lr_factor),
            base.Stage("ranking", s.ranking_epochs, s.ranking_lr, s.lr_drop, s.lr_factor),
        ]

    def begin(self, stage: base.Stage) -> None:
        self.ranking = stage.name == "ranking"

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        return F.normalize({"image": self.image, "text": self.text}[modality](batch.inputs[modality]), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """λ1 L_rank + λ2 L_visual + λ3 L_textual, λ1 being 0 in the first stage."""
        s = self.settings
        images, texts = self.image(batch.inputs["image"]), self.text(batch.inputs["text"])
        classes = torch.searchsorted(self.groups, batch.groups)
        found = {
            "image_instance": F.cross_entropy(self.classifier(self.dropout(images)), classes),
            "text_instance": F.cross_entropy(self.classifier(self.dropout(texts)), classes),
        }
        loss = s.image_weight * found["image_instance"] + s.text_weight * found["text_instance"]
        if self.ranking:
            scores = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
            if s.negatives == "hardest":
                found["ranking"] = hinge_triplet(scores, s.margin, hardest=True, groups=batch.groups)
            else:
                found["ranking"] = random_hinges(scores, s.margin, batch.groups)
            loss = loss + s.ranking_weight * found["ranking"]
        return {"loss": loss, **found}


def random_hinges(scores: Tensor, margin: float, groups: Tensor) -> Tensor:
    """Hinges of a batch's pairs against one random caption and one random image of another group, averaged over pairs.

    Parameters
    ----------
    scores : (B, B), the pairs on the diagonal. groups : (B,) ids; a pair without another group has no hinge.
    """
    others = groups[:, None] != groups[None, :]
    alone = ~others.any(1)
    drawn = torch.multinomial((others | alone[:, None]).float(), 2, replacement=True)  # (B, 2)
    own = scores.diagonal()
    text = (margin - own + scores.gather(1, drawn[:, :1]).squeeze(1)).clamp(min=0)
    image = (margin - own + scores.T.gather(1, drawn[:, 1:]).squeeze(1)).clamp(min=0)
    return ((text + image) * ~alone).mean()
