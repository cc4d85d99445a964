"""Class vectors of zero-shot systems, and the settings that choose them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from crossmodal.models import base


class ClassSettings(base.Settings):
    """Settings that choose the vectors of classes, which are known before any of their images is seen."""

    class_vectors: Literal["attributes", "words"] = Field(
        "attributes",
        description="class vectors: the shares of a class's attributes, or the mean word vector of its text",
    )
    word_vectors: str = Field(
        "",
        description="word vectors for `words`: a GloVe or word2vec file, or seeded, which assigns a random vector "
        "to each word",
    )

    words_covered: float = Field(
        0.3, ge=0, le=1, description="least share of the words of the texts that must have a vector in that file"
    )

    @model_validator(mode="after")
    def _named(self) -> ClassSettings:
        if self.class_vectors == "words" and not self.word_vectors:
            raise ValueError(
                "class_vectors: words: names no word vectors; set `word_vectors` to a file of GloVe or word2vec, or to "
                "`seeded` for random ones"
            )
        return self

    @property
    def fallbacks(self) -> list[str]:
        seeded = self.class_vectors == "words" and self.word_vectors == "seeded"
        return ["class vectors: seeded random vectors of the words of each class's text"] if seeded else []


def vectors_of(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C, K) vectors of the classes in the order of their labels, from (N, K) vectors and (N,) labels of items."""
    _, first = np.unique(labels, return_index=True)
    return values[first]
