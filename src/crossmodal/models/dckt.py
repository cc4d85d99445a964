"""DCKT: deep cross-media knowledge transfer (Huang and Peng, 2018; 000, section 9.2.3.2; rows of 003, table 5).

A labelled source data set of images and texts helps a small target one. Both domains have the same networks with
parameters of their own: two layers a modality and two that its modalities share. Media-level transfer brings the
distributions of a modality's layers together in both domains (MMD), correlation-level transfer those of the shared
layers; within a domain what belongs together comes together (Euclidean distance) and classes are told (softmax).

Progressive transfer: a pair takes part early if it is easy, which is how consistently its image and text find each
other's class both ways within the batch. How the share of pairs grows is ours; the chapter leaves it open.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.chtn import Layers, pair_distance
from crossmodal.models.parts.encoders import Scaled
from crossmodal.models.parts.mmd import layerwise_mmd


class Settings(base.Schedule):
    """The chapter leaves open sizes and weights; all losses count once."""

    dim: int = Field(1024, ge=1, description="units of each layer: dimensions of the common space")
    lr: float = Field(1e-3, gt=0)
    media: float = Field(1.0, ge=0, description="weight of the media-level MMD; 0 leaves it out")
    correlation: float = Field(1.0, ge=0, description="weight of the correlation-level MMD; 0 leaves it out")
    pairs: float = Field(1.0, ge=0, description="weight of the distance of what belongs together")
    start: float = Field(0.5, gt=0, le=1, description="share of a batch's target pairs, the easiest, at the beginning")
    whole: float = Field(0.5, gt=0, le=1, description="share of the training after which all pairs take part")


class Domain(nn.Module):
    """The networks of one domain."""

    def __init__(self, context: base.Context, dim: int):
        super().__init__()
        self.scaled = nn.ModuleDict({m: Scaled(context, m) for m in ("image", "text")})
        self.own = nn.ModuleDict({m: Layers(*context.shapes[m], dim, dim) for m in ("image", "text")})
        self.shared = Layers(dim, dim, dim)
        self.classifier = nn.Linear(dim, context.n_classes)

    def forward(self, modality: str, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(B, D) features -> the activations of the modality's own layers and of the shared ones."""
        own = self.own[modality](self.scaled[modality](x))
        return own, self.shared(own[-1])


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    source_reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.target = Domain(context, settings.dim)
        self.source = Domain(base.source_of(context), settings.dim)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors: the target's last shared layer; `partner` makes no difference."""
        return F.normalize(self.target(modality, batch.inputs[modality])[1][-1], dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        target = {m: self.target(m, batch.inputs[m]) for m in ("image", "text")}
        source = {m: self.source(m, batch.source.inputs[m]) for m in ("image", "text")}
        share = min(1.0, s.start + (1 - s.start) * progress / s.whole)
        weights = easiest(target["image"][1][-1], target["text"][1][-1], batch.labels, share)
        parts = {
            "classes": self._classes(self.target, target, batch.labels, weights),
            "source_classes": self._classes(self.source, source, batch.source.labels),
            "media": torch.stack([layerwise_mmd(source[m][0], target[m][0]) for m in target]).sum(),
            "correlation": torch.stack([layerwise_mmd(source[m][1], target[m][1]) for m in target]).sum(),
            "pairs": pair_distance(target["image"][0], target["text"][0], weights)
            + pair_distance(source["image"][0], source["text"][0]),
        }
        total = parts["classes"] + parts["source_classes"] + s.pairs * parts["pairs"]
        return {"loss": total + s.media * parts["media"] + s.correlation * parts["correlation"], **parts}

    @staticmethod
    def _classes(domain: Domain, found: dict, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The cross-entropy of both modalities of a domain, added."""
        told = [F.cross_entropy(domain.classifier(x[1][-1]), labels, reduction="none") for x in found.values()]
        return torch.stack([one.mean() if weights is None else (weights * one).sum() for one in told]).sum()


@torch.no_grad()
def easiest(images: Tensor, texts: Tensor, labels: Tensor, share: float) -> Tensor:
    """(B,) weights that add up to 1: equal for the `share` of the pairs that are the most consistent, 0 for the others.

    A pair's consistency is the mean of two average precisions within the batch: of its image's query of the texts and
    of its text's of the images, what is of its class being relevant.
    """
    count = max(1, round(share * len(labels)))
    if count == len(labels):
        return torch.full((count,), 1 / count, device=images.device)
    scores = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    consistency = (precision_in_batch(scores, labels) + precision_in_batch(scores.T, labels)) / 2
    chosen = consistency.argsort(descending=True, stable=True)[:count]
    return torch.zeros(len(labels), device=images.device).index_fill(0, chosen, 1 / count)


def precision_in_batch(scores: Tensor, labels: Tensor) -> Tensor:
    """(B,) average precision of each row of (B, B) scores, by class."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    hits = (labels[order] == labels[:, None]).double()
    places = torch.arange(1, len(labels) + 1, device=scores.device)
    return (hits.cumsum(1) / places * hits).sum(1) / hits.sum(1)
