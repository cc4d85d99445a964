"""CMPM and CMPC: cross-modal projection matching and classification (Zhang and Lu, 2018; a row of mFSR's tables).

CMPM compares, for each item of a batch, the distribution of the other modality's items by its projections on them with
the true one; CMPC classifies each item's projection on its partner as the image that they belong to. The rows of the
tables are those of CMPM alone, with a fine-tuned ResNet-152; the fine-tuning is a run of its own (`image_network`).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.parts import finetuning
from crossmodal.models.parts.encoders import WordEncoder, mask
from crossmodal.models.parts.optimisers import others

EPSILON = 1e-8


class Settings(finetuning.Settings):
    """The settings of the authors' program (Cross-Modal-Projection-Learning) on Flickr30K; on MS-COCO batches have 64.

    mFSR's tables state batches of 128. The program trains on the 12,000 commonest words (here `min_count`), without
    clipping, for 15 epochs with a fixed image network and for 15 with all parts at a tenth of the learning rate.

    Two things of the program are left out: first states of the LSTM that are learned, and moving averages of the
    weights, with which it can test. Its image features are not of unit length (`image_unit` here), so that images with
    large features have sharper softmaxes.
    """

    batch_size: int = Field(32, ge=2)
    epochs: int = Field(15, ge=1)
    clip: float = Field(0.0, ge=0)
    weight_decay: float = Field(
        4e-5, ge=0, description="weight decay of the maps to the common space and of the image network's convolutions"
    )
    dim: int = Field(512, ge=1, description="dimensions of the common space")
    word_dim: int = Field(512, ge=1, description="dimensions of a word vector")
    units: int = Field(512, ge=1, description="units of the LSTM in each direction")
    dropout: float = Field(0.3, ge=0, lt=1, description="dropout of the inputs and the outputs of the LSTM")
    pooled: Literal["padded", "words"] = Field(
        "padded",
        description="what the states of the LSTM are compared with in the maximum over time: padded: a zero too, as in "
        "the program, whose sentences are padded; words: the caption's own words alone",
    )
    joint_norm: bool = Field(
        True,
        description="whether the maps to the common space have batch normalisation in place of a bias, as in the "
        "program; without it, vectors are short at the start, so that the softmax of the matching loss is nearly even",
    )
    norm_decay: float = Field(
        0.997,
        ge=0,
        lt=1,
        description="share of a running mean or variance of that normalisation that a step leaves; training of few "
        "steps needs less",
    )
    matching: float = Field(1.0, ge=0, description="weight of the matching loss CMPM")
    classification: float = Field(
        0.0, ge=0, description="weight of the classification loss CMPC; 1 in the authors' best rows, 0 in mFSR's"
    )


class JointMap(nn.Module):
    """A linear map to the common space, with batch normalisation in place of a bias if `joint_norm`."""

    def __init__(self, s: Settings, in_dim: int):
        super().__init__()
        self.fc = nn.Linear(in_dim, s.dim, bias=not s.joint_norm)
        nn.init.kaiming_normal_(self.fc.weight, nonlinearity="relu")  # the program's, whose variance is 2 / in_dim
        if s.joint_norm:
            self.norm: nn.Module = nn.BatchNorm1d(s.dim, momentum=1 - s.norm_decay)
        else:
            nn.init.zeros_(self.fc.bias)
            self.norm = nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_dim) -> (B, dim), not of unit length."""
        return self.norm(self.fc(features))


class Text(nn.Module):
    """Word vectors, an LSTM in both directions, the maximum over time, and a linear map."""

    def __init__(self, s: Settings, context: base.Context):
        super().__init__()
        self.pooled = s.pooled
        self.words = WordEncoder(
            context.vocabulary_size, s.word_dim, s.units, cell="lstm", unit=False, dropout=s.dropout, joined=True
        )
        self.dropout = nn.Dropout(s.dropout)
        self.joint = JointMap(s, 2 * s.units)

    def forward(self, tokens: base.Tokens) -> Tensor:
        """(B, L) ids -> (B, dim)."""
        states = self.dropout(self.words(tokens))
        valid = mask(tokens.lengths, states.shape[1])
        longest = states.masked_fill(~valid[..., None], -torch.inf).amax(1)
        return self.joint(longest.clamp(min=0) if self.pooled == "padded" else longest)


class Model(finetuning.Model):
    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.image_network, in_dim = finetuning.network_of(settings, context)
        self.image = JointMap(settings, in_dim)
        self.text = Text(settings, context)
        if settings.classification:
            if context.groups is None:
                raise ValueError("CMPC needs the groups of the training pairs: each is a class of its loss")
            self.register_buffer("groups", context.groups)
            self.classes = nn.Parameter(torch.empty(settings.dim, len(context.groups)))  # W
            nn.init.xavier_uniform_(self.classes)

    def vectors(self, modality: str, batch: base.Batch) -> Tensor:
        """(B, dim) vectors as the losses read them, not of unit length."""
        inputs = batch.inputs[modality]
        return self.image(finetuning.features(self.image_network, inputs)) if modality == "image" else self.text(inputs)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        return F.normalize(self.vectors(modality, batch), dim=1)

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        decayed = [self.image.fc.weight, self.text.joint.fc.weight]
        if self.image_network is not None:
            decayed += [m.weight for m in self.image_network.modules() if isinstance(m, nn.Conv2d)]
        decay = {"params": decayed, "weight_decay": self.settings.weight_decay}
        groups = [{"params": others(self.parameters(), decay), "weight_decay": 0.0}, decay]
        return {"model": torch.optim.Adam(groups, lr=stage.lr)}

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        images, texts = self.vectors("image", batch), self.vectors("text", batch)
        terms = {"matching": matching_loss(images, texts, batch.groups)}
        loss = s.matching * terms["matching"]
        if s.classification:
            labels = torch.searchsorted(self.groups, batch.groups)
            terms["classification"] = classification_loss(images, texts, self.classes, labels)
            loss = loss + s.classification * terms["classification"]
        return {"loss": loss, **terms}


def matching_loss(images: Tensor, texts: Tensor, groups: Tensor) -> Tensor:
    """CMPM of (B, d) vectors: the divergence of the projections' distribution p from the true one q, in both ways.

    p is the softmax over the batch of x·z̄, with z̄ = z / ‖z‖ of the other modality; q is equal for all items of
    the same group. As in the paper, p comes first in the divergence: Σ p log(p / (q + ε)), so that a negative with a
    large p costs most.

    Parameters
    ----------
    groups : (B,) ids; items of a group match each other.
    """
    same = (groups[:, None] == groups[None, :]).to(images)
    true = same / same.sum(1, keepdim=True)
    total = images.new_zeros(())
    for x, z in ((images, texts), (texts, images)):
        p = (x @ F.normalize(z, dim=1).T).softmax(1)
        total = total + (p * torch.log(EPSILON + p / (true + EPSILON))).sum(1).mean()
    return total


def classification_loss(images: Tensor, texts: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """CMPC of (B, d) vectors: cross-entropies of each item's projection on its partner, summed over both directions.

    The projection of x on its partner z is (x·z̄) z̄. The logits, which have no scale, are its inner products with the
    columns of W at unit length.

    Parameters
    ----------
    classes : (d, G) weights W.
    labels : (B,) classes.
    """
    columns = F.normalize(classes, dim=0)
    total = images.new_zeros(())
    for x, z in ((images, texts), (texts, images)):
        unit = F.normalize(z, dim=1)
        projected = (x * unit).sum(1, keepdim=True) * unit
        total = total + F.cross_entropy(projected @ columns, labels)
    return total
