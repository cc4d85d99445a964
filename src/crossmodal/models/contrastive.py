"""InfoNCE of CLIP (Radford et al., 2021), or SigLIP's sigmoid (Zhai et al., 2023), over the encoders of VSE++.

InfoNCE is the symmetric cross-entropy over the pairs of a batch with a learned temperature (Radford et al., 2021:
Learning Transferable Visual Models From Natural Language Supervision, ICML, section 2.3 and figure 3); the sigmoid loss
decides each pair by itself, with a learned temperature and bias (Zhai et al., 2023: Sigmoid Loss for Language Image
Pre-Training, ICCV, section 3.2 and algorithm 1). The encoders and the schedule are those of VSE++ (Faghri et al.,
2018), so that rows of the two differ by the loss alone; the transformers, the hundreds of millions of pairs and the
batches of 32,768 of those papers are not here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from crossmodal.models import base, vsepp
from crossmodal.models.parts.contrastive import Contrastive, Temperature
from crossmodal.models.parts.losses import Negatives


class Settings(Temperature, vsepp.Encoders):
    """The encoders and the schedule of VSE++, and the published constants of the two losses."""

    loss: Literal["infonce", "sigmoid"] = Field(
        "infonce",
        description="infonce: symmetric cross-entropy over the batch (CLIP, Radford et al. 2021); sigmoid: a binary "
        "decision per image and text of the batch (SigLIP, Zhai et al. 2023)",
    )
    negatives: Negatives = Field(
        "all",
        description="all: every other pair of the batch, another caption of the same image too, as in CLIP and SigLIP; "
        "other_groups: pairs of other images alone",
    )


class Model(Contrastive, vsepp.Model):
    """VSE++ with a contrastive loss; the history has the learned `scale`, and the `bias` of the sigmoid loss."""

    settings: Settings

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.begin_temperature(settings.loss, settings)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        scores = self.score(self.encode("image", batch, "text"), self.encode("text", batch, "image"))
        groups = batch.groups if self.settings.negatives == "other_groups" else None
        return self.contrastive_loss(scores, self.settings, groups)
