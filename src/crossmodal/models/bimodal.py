"""Bimodal autoencoders and the four learning settings of Ngiam et al. (2011) (Liu et al. 2020, section 9.1).

Features are learned without labels, by an autoencoder of one modality or by one of both, which must reconstruct both
from each alone and from both together. A linear classifier on these features is then trained and tested in four
settings: (1) single-modal learning uses one modality throughout; (2) fusion uses both throughout; (3) cross-modal
learning learns features from both and classifies one; (4) shared representation learning trains the classifier on one
modality and tests it on the other.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.encoders import MLP, standardisers
from crossmodal.models.parts.labelled import Labelled, Standardise


class Settings(Labelled):
    """Sizes, weights and schedule are this project's choice, since Liu et al. (2020) leave them open.

    Features are standardised by default, since reconstructions are compared by their squared error: each feature then
    has the same weight, whatever the units of its modality.
    """

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, max_length=2, description="the two modalities that the model reads"
    )
    standardise: Standardise = True
    hidden: tuple[int, ...] = Field((256,), min_length=1, description="units of each modality's hidden layers")
    dim: int = Field(128, ge=1, description="units of the middle layer: dimensions of the features")
    lr: float = Field(1e-3, gt=0)
    inverse_penalty: float = Field(0.1, gt=0, description="C of the linear classifier; smaller values regularise more")
    iterations: int = Field(300, ge=1, description="largest number of iterations of its solver")


class Autoencoder(nn.Module):
    """Autoencoder of one or more modalities: encoders, a middle layer that sums their outputs, and decoders."""

    def __init__(self, dims: dict[str, int], hidden: tuple[int, ...], dim: int):
        super().__init__()
        self.into = nn.ModuleDict({m: MLP(d, *hidden, dim) for m, d in dims.items()})
        self.out = nn.ModuleDict({m: MLP(dim, *hidden[::-1], d) for m, d in dims.items()})

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, dim) features of the given modalities; the others count as zeros."""
        return torch.tanh(torch.stack([self.into[m](x) for m, x in inputs.items()]).sum(0))

    def loss(self, inputs: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
        """Mean squared error of the reconstructions from the given modalities, summed over the wanted ones."""
        features = self(inputs)
        return torch.stack([F.mse_loss(self.out[m](features), x) for m, x in wanted.items()]).sum()


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True
    one_class: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        dims = {m: context.shapes[m][0] for m in settings.modalities}
        self.scaled = standardisers(context, dims, wanted=settings.standardise)
        self.both = Autoencoder(dims, settings.hidden, settings.dim)
        self.single = nn.ModuleDict({m: Autoencoder({m: d}, settings.hidden, settings.dim) for m, d in dims.items()})

    def _given(self, batch: base.Batch) -> dict[str, Tensor]:
        return {m: self.scaled[m](batch.inputs[m]) for m in self.settings.modalities if m in batch.inputs}

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors: the features that the bimodal autoencoder computes from one modality alone."""
        return F.normalize(self.both({modality: self._given(batch)[modality]}), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        x = self._given(batch)
        both = [self.both.loss(inputs, x) for inputs in (x, *({m: vectors} for m, vectors in x.items()))]
        single = [self.single[m].loss({m: vectors}, {m: vectors}) for m, vectors in x.items()]
        terms = {"both": torch.stack(both).mean(), "single": torch.stack(single).mean()}
        return {"loss": terms["both"] + terms["single"], **terms}

    @property
    def classifiers(self) -> dict[str, tuple[str, str]]:
        """Learning setting to the names of the features on which its classifier is fitted and tested."""
        a, b = self.settings.modalities
        return {
            **{f"single-modal-{m}": (f"single-{m}", f"single-{m}") for m in (a, b)},
            "fusion": ("both", "both"),
            **{f"cross-modal-{m}": (f"both-{m}", f"both-{m}") for m in (a, b)},
            **{f"shared-{m}-to-{o}": (f"both-{m}", f"both-{o}") for m, o in ((a, b), (b, a))},
        }

    @torch.no_grad()
    def represent(self, batch: base.Batch) -> dict[str, Tensor]:
        """(B, dim) features of the items; names state the autoencoder and the modality to which it is applied."""
        x = self._given(batch)
        features = {"both": self.both(x)}
        features |= {f"both-{m}": self.both({m: vectors}) for m, vectors in x.items()}
        return features | {f"single-{m}": self.single[m]({m: vectors}) for m, vectors in x.items()}
