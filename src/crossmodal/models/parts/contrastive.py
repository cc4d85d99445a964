"""Contrastive losses with a learned temperature, of CLIP (Radford et al., 2021) and SigLIP (Zhai et al., 2023)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from crossmodal.models.parts.losses import info_nce, pairwise_sigmoid

SCALES = {"infonce": 1 / 0.07, "sigmoid": 10.0}  # CLIP, section 2.5; SigLIP, section 3.2: t' = log 10


class Temperature(BaseModel):
    """The published constants of both losses."""

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


class Contrastive(nn.Module):
    """A model whose scores are scaled by a learned temperature; its parameters are `log_scale` and `bias`.

    The history has the learned `scale`, and the `bias` of the sigmoid loss.
    """

    log_scale: nn.Parameter
    bias: nn.Parameter | None

    def begin_temperature(self, loss: Literal["infonce", "sigmoid"], settings: Temperature) -> None:
        """Make the parameters; called at the end of the model's `__init__`."""
        first = SCALES[loss] if settings.scale is None else settings.scale
        self.log_scale = nn.Parameter(torch.tensor(math.log(first)))
        self.bias = nn.Parameter(torch.tensor(settings.bias)) if loss == "sigmoid" else None

    def contrastive_loss(self, scores: Tensor, settings: Temperature, groups: Tensor | None) -> dict[str, Tensor]:
        """The loss of (B, B) cosines, with the pairs on the diagonal, and the terms of the history.

        Parameters
        ----------
        groups : (B,) ids; items of a pair's own group are not its negatives. With None, all other items are.
        """
        if self.bias is not None:
            scale = self.log_scale.exp()
            loss = pairwise_sigmoid(scores, scale, self.bias, groups)
            return {"loss": loss, "scale": scale.detach(), "bias": self.bias.detach().clone()}
        with torch.no_grad():  # the parameter itself, as in CLIP's program: beyond the bound it would have no gradient
            self.log_scale.clamp_(max=math.log(settings.largest_scale))
        scale = self.log_scale.exp()
        return {"loss": info_nce(scores, scale, groups), "scale": scale.detach()}
