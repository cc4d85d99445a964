"""InfoNCE of CLIP (Radford et al., 2021), or SigLIP's sigmoid (Zhai et al., 2023), over the encoders of VSE++.

InfoNCE is the symmetric cross-entropy over the pairs of a batch with a learned temperature (Radford et al., 2021:
Learning Transferable Visual Models From Natural Language Supervision, ICML, section 2.3 and figure 3); the sigmoid loss
decides each pair by itself, with a learned temperature and bias (Zhai et al., 2023: Sigmoid Loss for Language Image
Pre-Training, ICCV, section 3.2 and algorithm 1). The encoders and the schedule are those of VSE++ (Faghri et al.,
2018), so that rows of the two differ by the loss alone; the transformers, the hundreds of millions of pairs and the
batches of 32,768 of those papers are not here.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base, vsepp
from crossmodal.models.parts.losses import Negatives, info_nce, pairwise_sigmoid

SCALES = {"infonce": 1 / 0.07, "sigmoid": 10.0}  # CLIP, section 2.5; SigLIP, section 3.2: t' = log 10


class Settings(vsepp.Encoders):
    """The encoders and the schedule of VSE++, and the published constants of the two losses."""

    loss: Literal["infonce", "sigmoid"] = Field(
        "infonce",
        description="infonce: symmetric cross-entropy over the batch (CLIP, Radford et al. 2021); sigmoid: a binary "
        "decision per image and text of the batch (SigLIP, Zhai et al. 2023)",
    )
    scale: float | None = Field(
        None,
        gt=0,
        description="what cosines are multiplied by before the first step, the inverse of the learned temperature; "
        "null: the published value of the loss, 1/0.07 (CLIP, section 2.5) or 10 (SigLIP, section 3.2)",
    )
    largest_scale: float = Field(
        100.0, gt=0, description="of `infonce`: the scale is clipped at it (CLIP, section 2.5); SigLIP clips nothing"
    )
    bias: float = Field(
        -10.0, description="of `sigmoid`: added to the scaled cosines before the first step (SigLIP, section 3.2)"
    )
    negatives: Negatives = Field(
        "all",
        description="all: every other pair of the batch, another caption of the same image too, as in CLIP and SigLIP; "
        "other_groups: pairs of other images alone",
    )


class Model(vsepp.Model):
    """VSE++ with a contrastive loss; the history has the learned `scale`, and the `bias` of the sigmoid loss."""

    settings: Settings

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        first = SCALES[settings.loss] if settings.scale is None else settings.scale
        self.log_scale = nn.Parameter(torch.tensor(math.log(first)))
        self.bias = nn.Parameter(torch.tensor(settings.bias)) if settings.loss == "sigmoid" else None

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        scores = self.score(self.encode("image", batch, "text"), self.encode("text", batch, "image"))
        groups = batch.groups if self.settings.negatives == "other_groups" else None
        if self.bias is not None:
            scale = self.log_scale.exp()
            loss = pairwise_sigmoid(scores, scale, self.bias, groups)
            return {"loss": loss, "scale": scale.detach(), "bias": self.bias.detach().clone()}
        with torch.no_grad():  # the parameter itself, as in CLIP's program: beyond the bound it would have no gradient
            self.log_scale.clamp_(max=math.log(self.settings.largest_scale))
        scale = self.log_scale.exp()
        return {"loss": info_nce(scores, scale, groups), "scale": scale.detach()}
