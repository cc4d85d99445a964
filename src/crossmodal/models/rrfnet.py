"""RRF-Net: recurrent residual fusion of a branch's hidden states (Liu et al., 2017; a row of mFSR's tables).

Each branch maps a vector to a hidden state, to which one shared layer is applied again and again, each time with a
residual connection and a batch normalisation of its own. The states of all steps are fused by one weight per step. The
loss takes the hardest negatives of a whole batch in both directions, and structure within each modality.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.base import Form
from crossmodal.models.parts.losses import top_hinges
from crossmodal.models.parts.optimisers import Chosen
from crossmodal.models.parts.sentences import SentenceVectors


class Settings(SentenceVectors):
    """The settings of the authors' program (RRF-Net) on Flickr30K, whose 6,500 steps of 1,500 pairs are 67 epochs.

    On MS-COCO it takes 16,500 steps, which are 44 epochs, and its learning rate drops after 5,500, which are 15.
    """

    batch_size: int = Field(1500, ge=2)
    epochs: int = Field(67, ge=1)
    lr: float = Field(0.1, gt=0)
    lr_drop: int = Field(21, ge=1)
    optimiser: Literal["sgd", "nesterov", "adam"] = Field(
        "sgd",
        description="optimiser; sgd and nesterov have a momentum of .9. On small data their learning rate may diverge, "
        "where adam does not",
    )
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of all parameters except biases")
    bias_lr: float = Field(2.0, gt=0, description="learning rate of biases, as a multiple of `lr`")
    clip: float = Field(0.0, ge=0)
    hidden: tuple[int, ...] = Field((2048,), min_length=1, max_length=1, description="units of each hidden layer")
    dim: int = Field(512, ge=1, description="dimensions of the hidden states and of the common space")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout of the hidden layer")
    steps: int = Field(3, ge=0, description="t: steps after the first one; t + 1 states are fused")
    margin: float = Field(0.1, ge=0, description="margin of the hinges on cosines")
    hardest: int = Field(
        50, ge=1, description="K: largest violations per item and direction; their sum is divided by K in any case"
    )
    image_to_text: float = Field(1.0, ge=0, description="weight of images against captions")
    text_to_image: float = Field(2.0, ge=0, description="weight of captions against images")
    text_structure: float = Field(0.5, ge=0, description="weight of captions against the same captions")
    image_structure: float = Field(1.0, ge=0, description="weight of images against the same images")


class Branch(nn.Module):
    """A hidden state, recurrent steps with residual connections, and their fusion, to vectors of unit length."""

    def __init__(self, in_dim: int, s: Settings):
        super().__init__()
        (hidden,) = s.hidden
        self.begin = nn.Sequential(
            nn.BatchNorm1d(in_dim),
            nn.Linear(in_dim, hidden),
            nn.ReLU(),
            nn.Dropout(s.dropout),
            nn.Linear(hidden, s.dim),
            nn.BatchNorm1d(s.dim),
            nn.ReLU(),
        )
        self.shared = nn.Linear(s.dim, s.dim)  # W, the same at all steps
        self.norms = nn.ModuleList(nn.BatchNorm1d(s.dim) for _ in range(s.steps + 1))
        self.fusion = nn.Conv1d(s.steps + 1, 1, 1)
        self.end = nn.Sequential(nn.BatchNorm1d(1), nn.ReLU(), nn.Flatten(), nn.Linear(s.dim, s.dim))
        self.last = nn.BatchNorm1d(s.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, dim)."""
        state, states = self.begin(x), []
        for norm in self.norms:
            state = state + F.relu(norm(self.shared(state)))
            states.append(state)
        fused = self.fusion(torch.stack(states, 1))  # (B, 1, dim)
        return F.normalize(self.last(self.end(fused)), dim=1)


class Model(Chosen):
    reads: ClassVar[dict[str, Form]] = {"image": "vector", "text": "vector"}

    def __init__(self, settings: Settings, context: base.Context):
        super().__init__(settings, context)
        self.branches = nn.ModuleDict({m: Branch(*context.shapes[m], settings) for m in self.reads})
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                nn.init.normal_(module.weight, std=0.05)
                nn.init.zeros_(module.bias)

    def parts(self) -> list[dict[str, Any]]:
        biases = [p for name, p in self.named_parameters() if name.endswith("bias")]
        weights = [p for name, p in self.named_parameters() if not name.endswith("bias")]
        rate = self.settings.bias_lr
        return [{"params": weights, "factor": 1.0}, {"params": biases, "factor": rate, "weight_decay": 0.0}]

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, dim) unit vectors; `partner` makes no difference."""
        return self.branches[modality](batch.inputs[modality])

    def loss(self, batch: base.Batch, progress: float, turn: str) -> dict[str, Tensor]:
        s = self.settings
        images, texts = self.encode("image", batch, "text"), self.encode("text", batch, "image")
        terms = fusion_losses(images, texts, batch.groups, s.margin, s.hardest)
        return {"loss": torch.stack([getattr(s, name) * value for name, value in terms.items()]).sum(), **terms}


def fusion_losses(images: Tensor, texts: Tensor, groups: Tensor, margin: float, k: int) -> dict[str, Tensor]:
    """Sums of each item's k largest hinges on cosines s, divided by k times the number of pairs.

    `image_to_text` is of [m - s(i, t) + s(i, t⁻)]₊ and `text_to_image` of [m - s(i, t) + s(i⁻, t)]₊; the structures are
    of [m - s(i, t) + s(t, t⁻)]₊ and [m - s(i, t) + s(i, i⁻)]₊ for the same negatives, where these violate the margin.

    Parameters
    ----------
    images, texts : (B, d) unit vectors; row i of both belongs together.
    groups : (B,) ids; items of an item's own group are not its negatives.
    """
    same = groups[:, None] == groups[None, :]
    scores = images @ texts.T
    matching = scores.diagonal()
    terms = {}
    for name, of, structure, among in (
        ("image_to_text", scores, "text_structure", texts @ texts.T),
        ("text_to_image", scores.T, "image_structure", images @ images.T),
    ):
        values, columns = top_hinges(matching, of, same, margin, k)
        within = (margin - matching[:, None] + among.gather(1, columns)).clamp(min=0) * (values > 0)
        terms[name] = values.sum() / (k * len(scores))
        terms[structure] = within.sum() / (k * len(scores))
    return terms
