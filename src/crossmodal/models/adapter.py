"""Small heads on the vectors of fixed encoders, trained on a batch's pairs (CLIP-Adapter, Gao et al., 2021).

A `residual` head mixes each vector with what a bottleneck makes of it: r·A(x) + (1 − r)·x, with A two linear layers,
each followed by a ReLU (Gao et al., 2021: CLIP-Adapter: Better Vision-Language Models with Feature Adapters, eq. 3
to 6); it starts near the encoders' own space, which the modalities must share, and at the scale of CLIP's own cosines,
which the authors' program keeps. Their program adapts the images alone, and the texts are names of classes; here each
modality has a head. A `linear` head maps each modality to a new space (a linear probe), and takes features of any
encoders.
"""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.modalities import Modality
from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.contrastive import Contrastive, Temperature
from crossmodal.models.parts.encoders import ImageEncoder
from crossmodal.models.parts.losses import Hinges, batch_hinges
from crossmodal.models.zeroshot import one_size

OWN_SCALE = 100.0  # of the published models of CLIP, whose training ended at the bound of section 2.5


class Settings(Temperature, Hinges):
    """Heads and loss; the schedule is this project's, since the papers adapt to classes and not to pairs."""

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, description="modalities that the model reads"
    )
    head: Literal["residual", "linear"] = Field(
        "residual",
        description="residual: the vector mixed with the output of a bottleneck (CLIP-Adapter); linear: one linear map "
        "to a new space of `dim` dimensions",
    )
    ratio: float = Field(
        0.2, ge=0, le=1, description="share of the bottleneck's output in a residual head, r (CLIP-Adapter's default)"
    )
    reduction_factor: int = Field(
        4, ge=1, description="dimensions of a vector divided by those of its bottleneck (CLIP-Adapter)"
    )
    dim: int = Field(512, ge=1, description="dimensions of the space of linear heads")
    scale: float | None = Field(
        None,
        gt=0,
        description="what cosines are multiplied by before the first step: the scale at which the encoders' own "
        "training ended keeps residual heads near their space; null: 100, CLIP's own, for residual heads with "
        "`infonce`, and otherwise the published value of the loss, 1/0.07 (CLIP, section 2.5) or 10 (SigLIP, section "
        "3.2)",
    )
    loss: Literal["infonce", "sigmoid", "hinges"] = Field(
        "infonce",
        description="infonce: CLIP's symmetric cross-entropy; sigmoid: SigLIP's decision per pair; hinges: the hardest "
        "negatives of VSE++, with `margin`, `reduction` and `warm_up`",
    )


class Residual(nn.Module):
    """The head of CLIP-Adapter, eq. 3 to 6."""

    def __init__(self, dim: int, factor: int, ratio: float):
        super().__init__()
        inner = max(1, dim // factor)
        self.bottleneck = nn.Sequential(
            nn.Linear(dim, inner, bias=False), nn.ReLU(), nn.Linear(inner, dim, bias=False), nn.ReLU()
        )
        self.ratio = ratio

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) vectors -> (B, D) unit vectors."""
        return F.normalize(self.ratio * self.bottleneck(features) + (1 - self.ratio) * features, dim=1)


class Model(Contrastive, base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}

    settings: Settings

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        if settings.head == "residual":
            dim = one_size(self, context)
            heads = {m: Residual(dim, settings.reduction_factor, settings.ratio) for m in self.reads}
        else:
            heads = {m: ImageEncoder(context.shapes[m][-1], settings.dim) for m in self.reads}
        self.heads = nn.ModuleDict(heads)
        if settings.loss != "hinges":
            near = settings.scale is None and settings.head == "residual" and settings.loss == "infonce"
            chosen = settings.model_copy(update={"scale": OWN_SCALE}) if near else settings
            self.begin_temperature(settings.loss, chosen)

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, D) or (B, dim) unit vectors; `partner` makes no difference."""
        return self.heads[modality](batch.inputs[modality])

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """The loss summed over the pairs of modalities."""
        s = self.settings
        encodings = {m: self.encode(m, batch, "") for m in self.reads}
        groups = batch.groups if s.negatives == "other_groups" else None
        total: dict[str, Tensor] = {}
        for one, other in combinations(self.reads, 2):
            scores = self.score(encodings[one], encodings[other])
            if s.loss == "hinges":
                terms = {"loss": batch_hinges(scores, s, batch.groups, progress)}
            else:
                terms = self.contrastive_loss(scores, s, groups)
            total = {**terms, "loss": total.get("loss", 0) + terms["loss"]}
        return total
