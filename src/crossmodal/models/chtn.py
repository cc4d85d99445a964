"""CHTN: cross-modal hybrid transfer network (Huang, Peng and Yuan, 2017; Liu et al. 2020, section 9.2.3.1).

Knowledge is transferred from the images of a large labelled source data set to a small target set of images and texts.
In modal-sharing transfer, source and target images pass through the same two layers; the MMD between the distributions
of their activations and the Euclidean distances between target images and their texts are minimised layer by layer. In
layer-sharing correlation, both modalities share two layers below a softmax over the target's classes. Image features
are fixed, not fine-tuned, and are not standardised by default, since aligning the domains is the system's own
task (`standardise`).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.labelled import Labelled, targets
from crossmodal.models.parts.mmd import layerwise_mmd
from crossmodal.models.parts.transfer import Domains, Layers, pair_distance, scaled


class Settings(Labelled):
    """Liu et al. (2020) leave open sizes and weights; all losses have weight 1 by default."""

    standardise: Domains = "none"
    dim: int = Field(1024, ge=1, description="units of each layer: dimensions of the common space")
    lr: float = Field(1e-3, gt=0)
    single_modal: float = Field(
        1.0, ge=0, description="weight of the MMD between source and target images; 0: no transfer"
    )
    cross_modal: float = Field(
        1.0, ge=0, description="weight of the distance between the image and the text of a target pair"
    )


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    source_reads: ClassVar[dict[str, Form]] = {"image": "vector"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        source, d = base.source_of(context), settings.dim
        if source.shapes["image"] != context.shapes["image"]:
            raise ValueError(
                f"images of source and target pass the same layers, but their features have the shapes "
                f"{source.shapes['image']} and {context.shapes['image']}; read both by one extractor"
            )
        self.scaled = scaled(context, source, self.reads, settings.standardise)
        self.of_source = scaled(source, context, self.source_reads, settings.standardise)["image"]
        self.own = nn.ModuleDict({m: Layers(*context.shapes[m], d, d) for m in self.reads})
        self.shared = Layers(d, d, d)
        self.classifier = nn.Linear(d, context.n_classes)
        self.source_classifier = nn.Linear(d, source.n_classes)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors of the last shared layer; `partner` makes no difference."""
        layers = self.own[modality](self.scaled[modality](batch.inputs[modality]))
        return F.normalize(self.shared(layers[-1])[-1], dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        image, text = (self.own[m](self.scaled[m](batch.inputs[m])) for m in ("image", "text"))
        source = self.own["image"](self.of_source(batch.source.inputs["image"]))
        entropies = [
            F.cross_entropy(self.classifier(self.shared(x[-1])[-1]), targets(batch.labels)) for x in (image, text)
        ]
        terms = {
            "classes": torch.stack(entropies).sum(),
            "source_classes": F.cross_entropy(self.source_classifier(source[-1]), targets(batch.source.labels)),
            "single_modal": layerwise_mmd(source, image),
            "cross_modal": pair_distance(image, text),
        }
        total = terms["classes"] + terms["source_classes"]
        total = total + s.single_modal * terms["single_modal"] + s.cross_modal * terms["cross_modal"]
        return {"loss": total, **terms}
