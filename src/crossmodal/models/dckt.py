"""DCKT: deep cross-media knowledge transfer (Huang and Peng, 2018; Liu et al. 2020, section 9.2.3.2).

Table 5 of the CVS thesis lists its results in two rows.

Knowledge is transferred from a labelled source data set of images and texts to a small target one. Both domains have
the same architecture with separate parameters: two layers per modality and two that the modalities share. Media-level
transfer minimises the MMD between the domains in the layers of each modality, correlation-level transfer that in the
shared layers. Within a domain, the distance between the items of a pair is minimised and classes are predicted.

In progressive transfer, a target pair takes part early if it is easy, which is measured by how consistently its image
and text retrieve each other's class in both directions within the batch. Pairs that do not take part yet are left out
of all terms, including the discrepancies. Liu et al. (2020) leave open how the share of pairs grows, which is this
project's choice.

Features are not standardised by default, since aligning the domains is the system's own task (`standardise`).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.labelled import Labelled, same_class, targets
from crossmodal.models.parts.mmd import layerwise_mmd
from crossmodal.models.parts.transfer import Domains, Layers, pair_distance, scaled


class Settings(Labelled):
    """Liu et al. (2020) leave open sizes and weights; all losses have weight 1 by default."""

    standardise: Domains = "none"
    dim: int = Field(1024, ge=1, description="units of each layer: dimensions of the common space")
    lr: float = Field(1e-3, gt=0)
    media: float = Field(1.0, ge=0, description="weight of the media-level MMD; 0 leaves it out")
    correlation: float = Field(1.0, ge=0, description="weight of the correlation-level MMD; 0 leaves it out")
    pairs: float = Field(1.0, ge=0, description="weight of the distance between the items of a pair")
    start: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the target pairs of a batch, the easiest ones, that are used at the beginning",
    )
    whole: float = Field(0.5, gt=0, le=1, description="share of the training after which all pairs are used")


class Domain(nn.Module):
    """The networks of one domain."""

    def __init__(self, context: base.Context, other: base.Context, dim: int, standardise: Domains):
        super().__init__()
        self.scaled = scaled(context, other, ("image", "text"), standardise)
        self.own = nn.ModuleDict({m: Layers(*context.shapes[m], dim, dim) for m in ("image", "text")})
        self.shared = Layers(dim, dim, dim)
        self.classifier = nn.Linear(dim, context.n_classes)

    def forward(self, modality: str, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(B, D) features -> the activations of the modality's own layers and of the shared ones."""
        layers = self.own[modality](self.scaled[modality](x))
        return layers, self.shared(layers[-1])


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    source_reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        source = base.source_of(context)
        self.target = Domain(context, source, settings.dim, settings.standardise)
        self.source = Domain(source, context, settings.dim, settings.standardise)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors of the target's last shared layer; `partner` makes no difference."""
        return F.normalize(self.target(modality, batch.inputs[modality])[1][-1], dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        target = {m: self.target(m, batch.inputs[m]) for m in ("image", "text")}
        source = {m: self.source(m, batch.source.inputs[m]) for m in ("image", "text")}
        share = min(1.0, s.start + (1 - s.start) * progress / s.whole)
        easy = easiest(target["image"][1][-1], target["text"][1][-1], batch.labels, share)
        target = {m: tuple([x[easy] for x in layers] for layers in sides) for m, sides in target.items()}
        parts = {
            "classes": class_loss(self.target, target, batch.labels[easy]),
            "source_classes": class_loss(self.source, source, batch.source.labels),
            "media": torch.stack([layerwise_mmd(source[m][0], target[m][0]) for m in target]).sum(),
            "correlation": torch.stack([layerwise_mmd(source[m][1], target[m][1]) for m in target]).sum(),
            "pairs": pair_distance(target["image"][0], target["text"][0])
            + pair_distance(source["image"][0], source["text"][0]),
        }
        total = parts["classes"] + parts["source_classes"] + s.pairs * parts["pairs"]
        return {"loss": total + s.media * parts["media"] + s.correlation * parts["correlation"], **parts}


def class_loss(domain: Domain, outputs: dict[str, tuple[list[Tensor], list[Tensor]]], labels: Tensor) -> Tensor:
    """The cross-entropies of both modalities of a domain, summed."""
    return torch.stack([F.cross_entropy(domain.classifier(x[1][-1]), targets(labels)) for x in outputs.values()]).sum()


@torch.no_grad()
def easiest(images: Tensor, texts: Tensor, labels: Tensor, share: float) -> Tensor:
    """(b,) rows, ascending, of the `share` of the batch's B pairs that are the most consistent.

    A pair's consistency is the mean of two average precisions within the batch, of its image as a query of the texts
    and of its text as a query of the images, where items of the same class are relevant.
    """
    count = max(1, round(share * len(labels)))
    scores = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    consistency = (precision_in_batch(scores, labels) + precision_in_batch(scores.T, labels)) / 2
    return consistency.argsort(descending=True, stable=True)[:count].sort().values


def precision_in_batch(scores: Tensor, labels: Tensor) -> Tensor:
    """(B,) average precision of each row of (B, B) scores, where items of the same class are relevant."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    hits = same_class(labels).gather(1, order).double()
    places = torch.arange(1, len(labels) + 1, device=scores.device)
    return (hits.cumsum(1) / places * hits).sum(1) / hits.sum(1)
