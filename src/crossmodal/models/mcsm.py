"""MCSM: modality-specific cross-modal similarity with recurrent attention (Peng et al., 2018; a row of the CVS thesis).

Two networks are trained apart, each with a space of its own. In the text's space, sentences are read word by word, by
convolutions, a recurrent network and attention, and an image is one vector; in the image's space, the cells of a
feature map are read so, and a sentence is the mean of its word vectors. A pair's two scores are scaled and fused.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.encoders import mask, mean_of
from crossmodal.models.parts.labelled import Labelled, of_another_class, same_class
from crossmodal.models.parts.words import WordVectors, embedding


class Settings(WordVectors, Labelled):
    """The settings of the authors' program (MCSM_TIP2018) on Wikipedia, for short sentences.

    Its kernels of 15, 9 and 7 words with pooling over 5, 5 and 6 are for documents of 2,904 words. It trains for 10,000
    steps, which are 100 epochs of 4,000 pairs (184 of Wikipedia's 2,173), and chooses the weight of the fusion on the
    test set; here it is a setting.
    """

    dim: int = Field(4096, ge=1, description="dimensions of both spaces")
    units: int = Field(
        256, ge=1, description="units of the recurrent network of words; that of cells has twice as many"
    )
    widths: tuple[int, ...] = Field((384, 512, 256), min_length=1, description="channels of the words' convolutions")
    kernel: int = Field(3, ge=1, description="words of a convolution")
    pool: int = Field(2, ge=1, description="positions that are pooled after each convolution")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout of recurrent states, and before the attention")
    rescale: bool = Field(
        True,
        description="whether each cell of an image is scaled to a mean square of one, about the size of the published "
        "features; cells of unit length, as extractors make them, hardly move the logistic units",
    )
    batch_size: int = Field(40, ge=2)
    epochs: int = Field(100, ge=1)
    lr: float = Field(1e-4, gt=0, description="learning rate of RMSprop")
    lr_drop: int = Field(100, ge=1)
    clip: float = Field(0.0, ge=0)
    margin: float = Field(0.5, ge=0, description="margin of the hinges on cosines")
    fusion: float = Field(0.5, ge=0, le=1, description="a: weight of the text's space, against 1 - a of the image's")

    @model_validator(mode="after")
    def _odd(self) -> Settings:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel: {self.kernel} words have no middle; use an odd number")
        return self


class Recurrent(nn.Module):
    """Two recurrent layers, a linear map of each state, and attention over the states, to vectors of unit length."""

    def __init__(self, in_dim: int, units: int, dim: int, dropout: float, *, further: bool):
        super().__init__()
        self.lstm = nn.LSTM(in_dim, units, 2, batch_first=True, dropout=dropout)
        self.fc = nn.Linear(units, dim)
        self.hidden = nn.Linear(dim, dim) if further else nn.Identity()
        self.weight = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, L, D) and (B, L) bool -> (B, dim)."""
        states = self.fc(self.dropout(self.lstm(x)[0]))
        logits = self.weight(self.dropout(torch.tanh(self.hidden(states)))).squeeze(2)
        weights = logits.masked_fill(~valid, -torch.inf).softmax(1)
        return F.normalize((weights[:, None] @ states).squeeze(1), dim=1)


class TextSpace(nn.Module):
    """Sentences word by word; images as one vector."""

    def __init__(self, s: Settings, in_dim: int):
        super().__init__()
        self.s = s
        sizes = [s.word_dim, *s.widths]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, s.kernel, padding=s.kernel // 2) for a, b in zip(sizes[:-1], s.widths, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in s.widths)
        self.recurrent = Recurrent(s.widths[-1], s.units, s.dim, s.dropout, further=False)
        self.image = nn.Linear(in_dim, s.dim)

    def forward(self, modality: str, local: Tensor, valid: Tensor) -> Tensor:
        """(B, L, D) cells or word vectors, zeros for padding, and (B, L) bool -> (B, dim) unit vectors."""
        if modality == "image":
            return F.normalize(torch.sigmoid(self.image(mean_of(local, valid))), dim=1)
        x = local.transpose(1, 2)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            # Zeros follow a sentence at each level, so that its vector does not depend on its batch.
            x = F.relu(norm(convolution(x))) * valid[:, None]
            x = F.max_pool1d(x, self.s.pool, ceil_mode=True)
            valid = F.max_pool1d(valid[:, None].to(x), self.s.pool, ceil_mode=True)[:, 0] > 0
        return self.recurrent(x.transpose(1, 2), valid)


class ImageSpace(nn.Module):
    """Images cell by cell; sentences as the mean of their word vectors."""

    def __init__(self, s: Settings, in_dim: int):
        super().__init__()
        self.recurrent = Recurrent(in_dim, 2 * s.units, s.dim, s.dropout, further=True)
        self.text = nn.Linear(s.word_dim, s.dim)

    def forward(self, modality: str, local: Tensor, valid: Tensor) -> Tensor:
        """(B, L, D) cells or word vectors, zeros for padding, and (B, L) bool -> (B, dim) unit vectors."""
        return (
            self.recurrent(local, valid)
            if modality == "image"
            else F.normalize(self.text(mean_of(local, valid)), dim=1)
        )


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "grid", "text": "tokens"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        in_dim = context.shapes["image"][-1]
        self.words = embedding(context, settings)
        self.spaces = nn.ModuleDict({"text": TextSpace(settings, in_dim), "image": ImageSpace(settings, in_dim)})

    def _local(self, modality: str, batch: base.Batch) -> tuple[Tensor, Tensor]:
        value = batch.inputs[modality]
        if modality == "image":
            cells = value.features
            if self.settings.rescale:
                cells = F.normalize(cells, dim=2) * cells.shape[2] ** 0.5
            return cells, mask(value.counts, cells.shape[1])
        return self.words(value.ids), mask(value.lengths, value.ids.shape[1])

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, 2·dim) unit vectors in the text's and in the image's space."""
        local = self._local(modality, batch)
        return torch.cat([space(modality, *local) for space in self.spaces.values()], 1)

    def score(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """(A, B) fused scores of (A, 2·dim) images with (B, 2·dim) sentences.

        a · W₁' ⊙ W₂ + (1 - a) · W₂' ⊙ W₁ of the cosines W₁ in the text's space and W₂ in the image's, where a prime is
        the scaling of each image's scores to [0, 1]. So they depend on all sentences that are given.
        """
        of_text, of_image = (x @ y.T for x, y in zip(queries.chunk(2, 1), gallery.chunk(2, 1), strict=True))
        a = self.settings.fusion
        return a * scaled(of_text) * of_image + (1 - a) * scaled(of_image) * of_text

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """One per space: each network is trained as if it were alone. Word vectors that are trained are the text's."""
        further = {"text": [p for p in self.words.parameters() if p.requires_grad], "image": []}
        return {
            name: torch.optim.RMSprop(
                [*space.parameters(), *further[name]], lr=stage.lr, weight_decay=self.settings.weight_decay
            )
            for name, space in self.spaces.items()
        }

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """Hinges of a pair against a random item of another class, in both directions, in the space whose turn it is.

        In the text's space the partner of an item is a random one of its class, as in the program.
        """
        images, texts = (self.spaces[turn](m, *self._local(m, batch)) for m in ("image", "text"))
        if turn == "text":
            texts = texts[of_the_same_class(batch.labels)]
        return {"loss": one_negative_hinges(images, texts, batch.labels, self.settings.margin)}


def scaled(scores: Tensor) -> Tensor:
    """Scores of which each row is scaled to [0, 1]; ones where all scores of a row are equal."""
    least, most = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    return torch.where(most > least, (scores - least) / (most - least).clamp(min=torch.finfo(scores.dtype).tiny), 1.0)


def of_the_same_class(labels: Tensor) -> Tensor:
    """(B,) a random row of the same class for each row of a batch, which may be the row itself."""
    same = same_class(labels)
    return torch.rand(same.shape, device=same.device).masked_fill(~same, -1).argmax(1)


def one_negative_hinges(images: Tensor, texts: Tensor, labels: Tensor, margin: float) -> Tensor:
    """max(0, m - x·y + x·y⁻) with one random y⁻ of another class per row: the mean over rows, summed over directions.

    Parameters
    ----------
    images, texts : (B, d) unit vectors; row i of both is of class `labels[i]`.
    """
    total = images.new_zeros(())
    matching = (images * texts).sum(1)
    for x, y in ((images, texts), (texts, images)):
        other, available = of_another_class(labels)
        hinges = (margin - matching + (x * y[other]).sum(1)).clamp(min=0)
        total = total + (hinges * available).mean()
    return total
