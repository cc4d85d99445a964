"""DSPE: deep structure-preserving embeddings of images and sentences (Wang et al., 2016; a row of mFSR's tables).

Two branches map an image's vector and a sentence's vector into one space. Hinges on distances are taken for the ten
largest violations of each caption, between the modalities and, as structure, among captions: a caption must be nearer
to all captions of its own image than to any other caption. (The same structure among images would need several images
per caption, which these data sets do not have.)
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.losses import top_hinges
from crossmodal.models.parts.optimisers import Chosen
from crossmodal.models.parts.sentences import SentenceVectors
from crossmodal.models.parts.triplets import squared_distances

EPSILON = 1e-4  # added to squared distances before the root


class Settings(SentenceVectors):
    """The constants of the paper of 2016, as far as they are remembered, with the network of the authors' program.

    From memory, and in agreement with RRF-Net, which builds on the system: margin, weights, stochastic gradient descent
    and its schedule. The public program is that of the later journal paper; it has `margin: .05`, `image_weight: 1.5`,
    `text_weight: .05`, Adam at 1e-4 and batches of 500 captions with one further caption each for 20 epochs.
    """

    batch_size: int = Field(
        750, ge=2, description="captions that are drawn per batch; 750 with one more each are 1,500"
    )
    captions_per_image: int = Field(2, ge=1, description="P: captions of the image of each drawn caption in the batch")
    epochs: int = Field(30, ge=1)
    lr: float = Field(0.1, gt=0)
    lr_drop: int = Field(10, ge=1)
    optimiser: Literal["sgd", "nesterov", "adam"] = Field(
        "sgd", description="optimiser; sgd and nesterov have a momentum of .9"
    )
    weight_decay: float = Field(5e-4, ge=0)
    clip: float = Field(0.0, ge=0)
    hidden: tuple[int, ...] = Field((2048,), description="units of each branch's hidden layers")
    dim: int = Field(512, ge=1, description="dimensions of the common space")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout of the hidden layers")
    margin: float = Field(0.1, ge=0, description="margin of the hinges on distances")
    hardest: int = Field(10, ge=1, description="K: violations that count per caption, zeros included")
    image_weight: float = Field(2.0, ge=0, description="λ1: weight of captions against images")
    text_weight: float = Field(0.2, ge=0, description="λ3: weight of captions against captions, the structure")


class Branch(nn.Sequential):
    """Linear layers with batch normalisation, ReLU and dropout between them, to vectors of unit length."""

    def __init__(self, in_dim: int, hidden: tuple[int, ...], dim: int, dropout: float):
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(in_dim, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(dropout)]
            in_dim = units
        super().__init__(*layers, nn.Linear(in_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(super().forward(x), dim=1)


class Model(Chosen):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        self.branches = nn.ModuleDict({m: Branch(*context.shapes[m], s.hidden, s.dim, s.dropout) for m in self.reads})

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors, whose inner products rank as their distances do; `partner` makes no difference."""
        return self.branches[modality](batch.inputs[modality])

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        images, texts = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        terms = structure_losses(images, texts, batch.groups, s.margin, s.hardest)
        total = s.image_weight * terms["against_images"] + terms["against_texts"] + s.text_weight * terms["among_texts"]
        return {"loss": total, **terms}


def structure_losses(images: Tensor, texts: Tensor, groups: Tensor, margin: float, k: int) -> dict[str, Tensor]:
    """The mean of each caption's k largest hinges on distances d.

    `against_images` is of [m + d(t, i) - d(t, i⁻)]₊, `against_texts` of [m + d(t, i) - d(i, t⁻)]₊ and `among_texts` of
    [m + max d(t, t⁺) - d(t, t⁻)]₊, where t⁺ are the captions of the same image in the batch, t itself included. An
    image that stands in the batch with several captions is one candidate among the images.

    Parameters
    ----------
    images, texts : (B, d) unit vectors; row i of both belongs together.
    groups : (B,) ids; items of a caption's own group are not its negatives.
    """
    distinct = _first_of_each(groups)
    same = groups[:, None] == groups[None, :]
    near = -distances(texts, images)  # as scores, larger is better
    matching = near.diagonal()
    among = -distances(texts, texts)
    farthest = among.masked_fill(~same, torch.inf).amin(1)
    return {
        "against_images": top_hinges(matching, near[:, distinct], same[:, distinct], margin, k)[0].mean(),
        "against_texts": top_hinges(matching, near.T, same, margin, k)[0].mean(),
        "among_texts": top_hinges(farthest, among, same, margin, k)[0].mean(),
    }


def distances(x: Tensor, y: Tensor) -> Tensor:
    """(A, d) and (B, d) -> (A, B) Euclidean distances, rounded up by a constant so that their gradient is finite."""
    return (squared_distances(x, y) + EPSILON).sqrt()


def _first_of_each(groups: Tensor) -> Tensor:
    """(G,) the first row of each group, ascending."""
    earlier = (groups[:, None] == groups[None, :]).tril(-1).any(1)
    return (~earlier).nonzero()[:, 0]
