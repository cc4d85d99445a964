"""What zero-shot systems share: the vectors of classes, and features scaled as over the training items."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from crossmodal.models import base


class ClassSettings(base.Settings):
    """What a class is known by before any of its images is seen."""

    class_vectors: Literal["attributes", "words"] = Field(
        "attributes", description="shares of its attributes, or the mean word vector of its text"
    )
    word_vectors: Path | None = Field(
        None, description="GloVe or word2vec file for `words`; without it each word has a seeded vector"
    )


class Scaled(nn.Module):
    """A modality's features, centred and divided by their s.d. over the training items."""

    def __init__(self, context: base.Context, modality: str):
        super().__init__()
        (dim,) = context.shapes[modality]
        mean, deviation = getattr(context, "moments", {}).get(modality, (torch.zeros(dim), torch.ones(dim)))
        self.register_buffer("mean", mean)
        # What is constant in training says nothing: it is centred and left alone.
        self.register_buffer("scale", torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


def vectors_of(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C, K) vectors of the classes in the order of their labels, from (N, K) of items and their (N,) labels."""
    _, first = np.unique(labels, return_index=True)
    return values[first]
