"""What zero-shot systems share: the vectors that classes are known by."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from crossmodal.models import base


class ClassSettings(base.Settings):
    """What a class is known by before any of its images is seen."""

    class_vectors: Literal["attributes", "words"] = Field(
        "attributes", description="shares of its attributes, or the mean word vector of its text"
    )
    word_vectors: Path | None = Field(
        None, description="GloVe or word2vec file for `words`; without it each word has a seeded vector"
    )


def vectors_of(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C, K) vectors of the classes in the order of their labels, from (N, K) of items and their (N,) labels."""
    _, first = np.unique(labels, return_index=True)
    return values[first]
