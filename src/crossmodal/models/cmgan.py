"""CM-GAN: cross-modal generative adversarial networks (Peng and Qi, 2019; a row of the CVS thesis, table 6).

Each modality has an encoder, whose last layer is shared by all, a decoder back to its features and a classifier.
Discriminators within a modality distinguish features from decoded ones; those between modalities are given a modality's
features and a common representation, and distinguish its own representation from that of another modality. Encoders
and decoders are trained against both.

As in the authors' program (CM-GANS_TOMM2019), no reconstruction error is in the loss, and a representation with
features that both belong to an item of another class counts as false, although they match, so that the discriminators
between modalities learn nothing about matching from them. With more than two modalities, the terms of all ordered pairs
are summed, which the paper does not have. The program standardises the queries of its test by the test set itself, and
not the gallery; here features are standardised by the training items, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.dcgan import mean_where
from crossmodal.models.parts.encoders import Standardiser
from crossmodal.models.parts.labelled import Labelled, Sampling, Standardise, of_another_class, targets

SLOPE = 0.2
HALF = 0.5  # weight of either of the two false pairs


class Settings(Labelled):
    """The settings of the authors' program on Pascal Sentence, whose script trains for 2,000 epochs."""

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    standardise: Standardise = False
    sampling: Sampling = Field("balanced", description="pairs are drawn with equal shares of all classes")
    units: int = Field(1024, ge=1, description="units of each encoder's own layer and of each decoder's layer")
    dim: int = Field(1024, ge=1, description="dimensions of the common space")
    judge_units: int = Field(512, ge=1, description="units of the discriminators between modalities")
    batch_size: int = Field(64, ge=2)
    epochs: int = Field(2000, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_drop: int = Field(100, ge=1)
    lr_factor: float = Field(0.5, gt=0, le=1)
    beta: float = Field(0.5, ge=0, lt=1, description="Adam's first decay rate")
    clip: float = Field(0.0, ge=0)
    gan_weight: float = Field(
        1.0, ge=0, description="weight of the discriminators' verdicts in the loss of the encoders, against the classes"
    )
    generator_steps: int = Field(5, ge=1, description="steps of the encoders and decoders per step of discriminators")


class Block(nn.Sequential):
    """A linear layer, batch normalisation and a leaky ReLU."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__(nn.Linear(in_dim, dim), nn.BatchNorm1d(dim), nn.LeakyReLU(SLOPE))


class Shared(nn.Module):
    """The layer that all encoders end in, a `Block` in which each modality has batch statistics of its own.

    Running statistics of all modalities together would fit none of them when items are encoded.
    """

    def __init__(self, modalities: Iterable[str], in_dim: int, dim: int):
        super().__init__()
        self.linear = nn.Linear(in_dim, dim)
        self.norms = nn.ModuleDict({m: nn.BatchNorm1d(dim, affine=False) for m in modalities})
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, modality: str, x: Tensor) -> Tensor:
        """(B, in_dim) -> (B, dim)."""
        return F.leaky_relu(self.norms[modality](self.linear(x)) * self.weight + self.bias, SLOPE)


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        sizes = {m: context.shapes[m][0] for m in s.modalities}
        self.scaled = nn.ModuleDict({m: Standardiser(context, m, wanted=s.standardise) for m in sizes})
        self.first = nn.ModuleDict({m: Block(d, s.units) for m, d in sizes.items()})
        self.shared = Shared(sizes, s.units, s.dim)
        self.decoders = nn.ModuleDict(
            {m: nn.Sequential(Block(s.dim, s.units), nn.Linear(s.units, d)) for m, d in sizes.items()}
        )
        self.classifiers = nn.ModuleDict({m: nn.Linear(s.dim, context.n_classes) for m in sizes})
        self.within = nn.ModuleDict({m: nn.Linear(d, 1) for m, d in sizes.items()})
        self.between = nn.ModuleDict(
            {m: nn.Sequential(Block(s.dim + d, s.judge_units), nn.Linear(s.judge_units, 1)) for m, d in sizes.items()}
        )
        for module in self.modules():
            if isinstance(module, Shared) or (isinstance(module, nn.BatchNorm1d) and module.affine):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def vectors(self, modality: str, features: Tensor) -> Tensor:
        """(B, D) scaled features -> (B, dim) common representations z, not of unit length."""
        return self.shared(modality, self.first[modality](features))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        return F.normalize(self.vectors(modality, self.scaled[modality](batch.inputs[modality])), dim=1)

    def optimisers(self, stage: base.Stage) -> dict[str, torch.optim.Optimizer]:
        """One for encoders, decoders and classifiers, whose turn comes several times, and one for discriminators."""
        s = self.settings
        options = {"lr": stage.lr, "betas": (s.beta, 0.999), "weight_decay": s.weight_decay}
        judges = [*self.within.parameters(), *self.between.parameters()]
        generator = torch.optim.Adam(
            [p for part in (self.first, self.shared, self.decoders, self.classifiers) for p in part.parameters()],
            **options,
        )
        turns = {f"generator{n + 1}": generator for n in range(s.generator_steps)}
        return {**turns, "discriminators": torch.optim.Adam(judges, **options)}

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        features = {m: self.scaled[m](batch.inputs[m]) for m in self.settings.modalities}
        if turn == "discriminators":
            return self._discriminators_loss(features, batch.labels)
        self._train_discriminators(False)
        vectors = {m: self.vectors(m, x) for m, x in features.items()}
        terms = dict.fromkeys(("classes", "within", "between"), 0.0)
        for m, z in vectors.items():
            terms["classes"] += F.cross_entropy(self.classifiers[m](z), targets(batch.labels))
            terms["within"] += F.softplus(-self.within[m](self.decoders[m](z))).mean()
        for m, other in permutations(vectors, 2):
            terms["between"] += F.softplus(-self._judged(m, vectors[other], features[m])).mean()
        loss = terms["classes"] + self.settings.gan_weight * (terms["within"] + terms["between"])
        return {"loss": loss, **terms}

    def _discriminators_loss(self, features: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropies of real and decoded features, and of own, of others' and of wrong representations."""
        self._train_discriminators(True)
        with torch.no_grad():
            vectors = {m: self.vectors(m, x) for m, x in features.items()}
            decoded = {m: self.decoders[m](z) for m, z in vectors.items()}
        wrong, available = of_another_class(labels)
        terms = dict.fromkeys(("within", "between"), 0.0)
        for m, x in features.items():
            terms["within"] += F.softplus(-self.within[m](x)).mean() + F.softplus(self.within[m](decoded[m])).mean()
            terms["between"] += F.softplus(-self._judged(m, vectors[m], x)).mean()
            mistaken = F.softplus(self._judged(m, vectors[m][wrong], x[wrong]))
            terms["between"] += HALF * mean_where(mistaken, available)
        for m, other in permutations(vectors, 2):
            terms["between"] += HALF * F.softplus(self._judged(m, vectors[other], features[m])).mean()
        return {"loss": sum(terms.values()), **terms}

    def _judged(self, modality: str, vectors: Tensor, features: Tensor) -> Tensor:
        """(B,) logits that representations are those of the modality whose features are given."""
        return self.between[modality](torch.cat([vectors, features], 1)).squeeze(1)

    def _train_discriminators(self, wanted: bool) -> None:
        self.within.requires_grad_(wanted)
        self.between.requires_grad_(wanted)
