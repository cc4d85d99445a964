"""CBT: cross-modal bidirectional translation via reinforcement learning (Qi and Peng, 2018; rows of the CVS thesis).

Two translators map one modality's features to the other's; their middle layer is the same, and a classifier on it
predicts the classes. A translation is rewarded for its similarity with the partner, and for how well the other
translator maps it back. Class probabilities are the vectors that are compared.

The program is that of its successor RCBT (RCBT_TCSVT2020) without that one's context branch. There the weight h of the
reward between modalities is 0 (`inter_weight`), so that nothing but the shared layer and the classes relates the
modalities.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.closed_form import Modality
from crossmodal.models.parts.encoders import MLP, Standardiser
from crossmodal.models.parts.labelled import Labelled, Standardise, targets
from crossmodal.models.parts.optimisers import Chosen

SMALLEST = 1e-6  # of a similarity, whose logarithm is then finite


class Settings(Labelled):
    """Sizes and weights of the successor's program, with `inter_weight: .5` in place of its 0, which is our choice.

    That program makes ten passes by stochastic gradient descent with a rate of .1, whose best epoch on the test set
    counts.
    """

    modalities: tuple[Modality, ...] = Field(
        ("image", "text"), min_length=2, max_length=2, description="the two modalities that the model reads"
    )
    standardise: Standardise = False
    hidden: tuple[int, ...] = Field(
        (3000, 1000), min_length=1, max_length=2, description="units between the features of either modality and `dim`"
    )
    dim: int = Field(2000, ge=1, description="units of the layer that both translators share")
    batch_size: int = Field(200, ge=2)
    epochs: int = Field(10, ge=1)
    lr: float = Field(0.1, gt=0)
    lr_drop: int = Field(10, ge=1)
    optimiser: Literal["plain_sgd", "sgd", "nesterov", "adam"] = Field(
        "plain_sgd", description="optimiser; plain_sgd has no momentum, as in the program, sgd and nesterov one of .9"
    )
    clip: float = Field(0.0, ge=0)
    class_weight: float = Field(0.1, ge=0, description="weight of the cross-entropy of the classes")
    inter_weight: float = Field(
        0.5, ge=0, le=1, description="h: weight of the similarity with the partner, against 1 - h of that with itself"
    )
    output: Literal["linear", "sigmoid"] = Field(
        "linear",
        description="what a translation is compared with its partner by: the outputs, or their sigmoids, as in the "
        "program, which suit features that are not negative",
    )


class Model(Chosen):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}
    needs_classes: ClassVar[bool] = True

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        s = settings
        units = dict(zip(s.modalities, (s.hidden * 2)[:2], strict=True))
        dims = {m: context.shapes[m][0] for m in s.modalities}
        self.scaled = nn.ModuleDict({m: Standardiser(context, m, wanted=s.standardise) for m in dims})
        self.into = nn.ModuleDict({m: MLP(dims[m], units[m], s.dim, activation=nn.Tanh) for m in dims})
        self.shared = nn.Linear(s.dim, s.dim)  # W_s
        self.out = nn.ModuleDict({m: MLP(s.dim, units[m], dims[m], activation=nn.Tanh) for m in dims})
        self.classifier = nn.Linear(s.dim, context.n_classes)

    def middle(self, modality: str, features: Tensor) -> Tensor:
        """(B, D) features -> (B, dim) activations of the shared layer."""
        return torch.tanh(self.shared(torch.tanh(self.into[modality](features))))

    def translated(self, modality: str, features: Tensor, to: str) -> Tensor:
        """(B, D) features of one modality -> (B, D') of another."""
        return self.out[to](self.middle(modality, features))

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, C) class probabilities of unit length; `partner` makes no difference."""
        middle = self.middle(modality, self.scaled[modality](batch.inputs[modality]))
        return F.normalize(torch.softmax(self.classifier(middle), dim=1), dim=1)

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        """The sum of both translators' losses.

        .1 · CE + (1 - h) · mean(-intra) + h · mean(-R · softmax(-inter)), with R = h · inter + (1 - h) · intra. `intra`
        is that of the own features, where the other translator maps back a translation that is held constant; R is a
        reward and held constant.
        """
        s, h = self.settings, self.settings.inter_weight
        features = {m: self.scaled[m](batch.inputs[m]) for m in s.modalities}
        first, second = s.modalities
        total = 0.0
        terms = dict.fromkeys(("classes", "intra", "inter"), 0.0)
        for m, to in ((first, second), (second, first)):
            middle = self.middle(m, features[m])
            translation = self.out[to](middle)
            classes = F.cross_entropy(self.classifier(middle), targets(batch.labels))
            compared = torch.sigmoid(translation) if s.output == "sigmoid" else translation
            inter = reward(compared, features[to])
            back = reward(features[m], self.translated(to, translation.detach(), m))
            with torch.no_grad():
                gain = h * inter + (1 - h) * back
            policy = -(gain * (-inter).softmax(0)).mean()
            total = total + s.class_weight * classes + (1 - h) * -back.mean() + h * policy
            for name, value in (("classes", classes), ("intra", -back.mean()), ("inter", -inter.mean())):
                terms[name] = terms[name] + value
        return {"loss": total, **terms}


def reward(x: Tensor, y: Tensor) -> Tensor:
    """(B,) log(½ + ½ cos) of the rows of (B, D) vectors."""
    return torch.log((0.5 + 0.5 * F.cosine_similarity(x, y, dim=1)).clamp(min=SMALLEST))
