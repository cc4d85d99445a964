"""CVS: a common vector space of several modalities, with or without aligned attention (CVS thesis, section 3.1).

CVS has two fully connected layers per modality, an attention block per pair of modalities, cross-entropy over classes,
and triplets within and between modalities. All modalities are trained at once; `mcvs` and `rvs` add one after another.

Two equations of the thesis can be read in more than one way. For the classes that an item does not have, eq. 3.1.4
prints (1 - y)(1 - log f) beside y log f: with that term the loss falls without bound as f of such a class goes to 0; a
binary cross-entropy would have (1 - y) log(1 - f) instead. The default leaves the term out, as a cross-entropy over the
softmax of eq. 3.1.5 does; the others are values of `other_classes`. Eq. 3.1.6 prints sums over triplets; the default is
their mean, as in TensorFlow's semi-hard triplet loss, so that the weights do not depend on the batch (`triplets`).
"""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.modalities import Modality
from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.aligned_attention import AlignedAttention, Branch, Term
from crossmodal.models.parts.labelled import Labelled, Standardise, places, targets
from crossmodal.models.parts.triplets import semi_hard_triplets, squared_distances, with_squares

OtherClasses = Literal["none", "binary", "printed"]
MOMENTUM = 0.1


class Settings(Labelled):
    """Section 4.2 gives the batch size, the learning rate of 0.001 and "gradient descent based techniques".

    The thesis leaves open, and this project chooses: Adam, the number of epochs and the drop of the learning rate after
    40 of them, standardised features, the weights of eq. 3.1.7, and `partner`.

    With attention, an item's vector depends on an item of the other modality, which is unknown at test time. The mean
    of that modality's training vectors (`mean`) or the item's own vector (`self`) replaces it.
    """

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    dim: int = Field(512, ge=1, description="dimensions of the common space, and units of the layers before it")
    attention: bool = Field(True, description="whether aligned attention is used; its output has unit length")
    unit: bool = Field(
        False,
        description="whether vectors have unit length without attention too; the thesis normalises the output of "
        "attention",
    )
    terms: tuple[Term, ...] = Field(
        ("i", "s", "is"), min_length=1, description="terms of eq. 3.1.11: W_i, W_s and W_is"
    )
    partner: Literal["mean", "self"] = Field(
        "mean", description="what replaces the item of the other modality at test time"
    )
    standardise: Standardise = True
    margins: tuple[float, float, float] = Field(
        (1.0, 1.0, 1.0), description="alpha_1, alpha_2 and alpha_3 of eq. 3.1.6"
    )
    gammas: tuple[float, float, float] = Field((0.25, 0.25, 0.5), description="weights of the triplets in eq. 3.1.6")
    other_classes: OtherClasses = Field(
        "none",
        description="term of eq. 3.1.4 for the classes that an item does not belong to: none; binary: log(1 - f); "
        "printed: 1 - log f, which is unbounded below",
    )
    triplets: Literal["mean", "sum"] = Field(
        "mean", description="mean or sum over the triplets of each kind; eq. 3.1.6 prints the sum"
    )
    class_weight: float = Field(1.0, ge=0, description="alpha of eq. 3.1.7")
    triplet_weight: float = Field(1.0, ge=0, description="beta of eq. 3.1.7")
    batch_size: int = Field(128, ge=2)
    epochs: int = Field(60, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_drop: int = Field(40, ge=1)
    clip: float = Field(0.0, ge=0)


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.branches = nn.ModuleDict(
            {m: Branch(context, m, settings.dim, standardise=settings.standardise) for m in settings.modalities}
        )
        self.blocks = nn.ModuleDict(self.made_blocks() if settings.attention else {})
        self.classifier = nn.Linear(settings.dim, context.n_classes)
        for m in settings.modalities:
            self.register_buffer(f"{m}_centre", torch.zeros(settings.dim))
            self.register_buffer(f"{m}_batches", torch.zeros((), dtype=torch.int64))
        self.pairs = list(combinations(settings.modalities, 2))
        """Pairs of modalities whose losses are computed; CVS has all of them."""
        self.learning = set(settings.modalities)
        """Modalities that are being trained; CVS trains all of them."""
        trained = torch.tensor(context.trained or range(context.n_classes))
        self.register_buffer("trained", trained, persistent=False)

    def made_blocks(self) -> dict[str, nn.Module]:
        """One attention block per pair: n (n - 1) / 2 blocks for n modalities."""
        pairs = combinations(self.settings.modalities, 2)
        return {f"{a}-{b}": AlignedAttention(self.settings.dim, self.settings.terms) for a, b in pairs}

    def aligned(self, a: str, g_a: Tensor, b: str, g_b: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d) vectors of two modalities -> both, aligned with each other; of unit length with attention."""
        if not self.settings.attention:
            return self.unaligned(g_a), self.unaligned(g_b)
        if f"{b}-{a}" in self.blocks:
            return self.blocks[f"{b}-{a}"](g_b, g_a)[::-1]
        return self.blocks[f"{a}-{b}"](g_a, g_b)

    def unaligned(self, g: Tensor) -> Tensor:
        """(B, d) vectors of a model without attention, normalised to unit length if `unit` is set."""
        return F.normalize(g, dim=1) if self.settings.unit else g

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors for comparison with those of `partner`.

        Without attention and `unit`, (B, dim + 2) vectors; inner products are minus half the squared distances.
        """
        vectors = self.placed(modality, batch, partner)
        if self.settings.attention or self.settings.unit:
            return vectors
        order = self.settings.modalities.index
        return with_squares(vectors, order(modality) < order(partner))

    def placed(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) vectors of a modality's items, with `Settings.partner` in place of the unknown other items."""
        vectors = self.branches[modality](batch.inputs[modality])
        other = vectors if self.settings.partner == "self" else self.get_buffer(f"{partner}_centre").expand_as(vectors)
        return self.aligned(modality, vectors, partner, other)[0]

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        g = {m: self.branches[m](batch.inputs[m]) for m in {m: None for pair in self.pairs for m in pair}}
        self._follow(g)
        sides = [self.aligned(a, g[a], b, g[b]) for a, b in self.pairs]
        x, y = (torch.stack(side) for side in zip(*sides, strict=True))  # (P, B, d): the two sides of each pair
        classes = self.class_loss(torch.cat([x, y], 1), batch.labels)
        triplets = triplet_loss(x, y, batch.labels, s.margins, s.gammas, s.triplets)
        total = s.class_weight * classes + s.triplet_weight * triplets
        return {"loss": total, "classes": classes, "triplets": triplets}

    def class_loss(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of both sides of each pair of modalities, averaged over items and summed over pairs.

        It covers the classes that the subset trains on; where classes are added in stages, the new ones (section 3.4).
        """
        logits = self.classifier(vectors)[..., self.trained]  # (P, 2B, K)
        times = len(vectors) * (vectors.shape[1] // len(labels))
        true = places(labels, self.trained)
        true = true.repeat(times, *(1,) * (true.ndim - 1))
        return cross_entropy(logits.flatten(0, 1), true, self.settings.other_classes) * len(vectors)

    @torch.no_grad()
    def _follow(self, g: dict[str, Tensor]) -> None:
        """Update the running mean of each modality's vectors, which replaces unknown items at test time."""
        for m in self.learning & set(g):
            count, centre = self.get_buffer(f"{m}_batches"), self.get_buffer(f"{m}_centre")
            count += 1
            centre += (g[m].mean(0) - centre) * torch.clamp(1 / count, min=MOMENTUM)


def cross_entropy(logits: Tensor, labels: Tensor, other_classes: OtherClasses) -> Tensor:
    """Eq. 3.1.4, averaged over the rows of (N, K) logits, with f the softmax of eq. 3.1.5.

    For the classes that a row does not have, nothing, log(1 - f) or the printed 1 - log f is added before the negation.
    """
    loss = F.cross_entropy(logits, targets(labels))
    if other_classes == "none":
        return loss
    logs = F.log_softmax(logits, dim=1)
    if other_classes == "printed":
        terms = 1 - logs
    else:  # log(1 - f) of a softmax: the log-probability of all other classes together
        rest = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        terms = logs[:, None, :].masked_fill(rest, -torch.inf).logsumexp(2)
    others = terms.masked_fill(labels > 0, 0.0) if labels.ndim == 2 else terms.scatter(1, labels[:, None], 0.0)
    return loss - others.sum(1).mean()


def triplet_loss(
    x: Tensor,
    y: Tensor,
    labels: Tensor,
    margins: tuple[float, float, float],
    gammas: tuple[float, float, float],
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Triplet losses within and between two modalities, summed over the P pairs of modalities (eq. 3.1.6).

    The sum over x and y counts each pair in both orders; half of it is returned, so that anchors of both modalities
    have the same weight.

    Parameters
    ----------
    x, y : (P, B, d) vectors of the two sides of each pair; row i is of class `labels[i]`.
    """
    both = torch.cat([x, y])
    distances = squared_distances(both, both)
    within = [
        semi_hard_triplets(distances, labels, margin, own=True, reduction=reduction)
        for margin in dict.fromkeys(margins[:2])
    ]
    between = squared_distances(x, y)
    forth, back = (
        semi_hard_triplets(d, labels, margins[2], own=False, reduction=reduction)
        for d in (between, between.transpose(1, 2))
    )
    return (gammas[0] * within[0].sum() + gammas[1] * within[-1].sum() + gammas[2] * (forth + back).sum()) / 2
