"""Contrastive learning of captions: captions fit their image better than others do (Dai and Lin, 2017).

The adaptive captioner in a second run, which continues a trained one (`after`) and has it as its frozen reference; see
`parts.objectives.contrastive`. Any captioner is trained so with `objective: contrastive`; this one has the settings of
the authors' released program, but for the mismatched captions: the program takes those of random images of the whole
data set (`mismatches: random` takes them from the batch), the chapter speaks of alike images, which is the default.
"""

from __future__ import annotations

from pydantic import Field

from crossmodal.models import adaptive
from crossmodal.models.parts.captioner import Objective


class Settings(adaptive.Settings):
    objective: Objective = Field("contrastive", description="as in other captioners")


class Model(adaptive.Model):
    pass
