"""s_g: an image's concept scores matched with the concepts that a sentence mentions; untrained (A3VSE, section 4.2).

In the paper the scores are of 16,500 concepts of four image classifiers. Here they are of the classes and attributes of
the image's regions, whichever detector the regions come from.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from crossmodal.language.concepts import Expansion
from crossmodal.models import base
from crossmodal.models.base import Form


class Settings(base.Settings):
    expansion: Expansion = Field(
        "wordnet",
        description="expansion of the words of a sentence: wordnet: by NLTK's corpus; own: by the synonyms "
        "and plurals of the data set",
    )

    @property
    def fallbacks(self) -> list[str]:
        return ["concepts of words: the data set's own synonyms, not WordNet"] if self.expansion == "own" else []


class Model(base.Model):
    reads: ClassVar[dict[str, Form]] = {"image": "concepts", "text": "concepts"}
    trains: ClassVar[bool] = False

    def encode(self, modality: str, batch: base.Batch, partner: str) -> Tensor:
        """(B, C) vectors: s_g of images and the k-hot q of sentences; their score is s_g·q."""
        ids, scores = batch.inputs[modality]
        return scores.new_zeros(len(ids), self.context.n_concepts).scatter_reduce_(1, ids, scores, "amax")
