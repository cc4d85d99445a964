"""The content of an item as scored concepts: int64 ids (B, L) and their scores (B, L) (A3VSE, section 4.2).

Concepts are the class and attribute names of regions. An image has the concepts of its regions, and a text has those
that its words denote.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record, sha256_bytes
from crossmodal.corpus.forms import base, tokens
from crossmodal.corpus.inputs import Inputs
from crossmodal.features.region_annotations.semantics import named_regions
from crossmodal.language import concepts
from crossmodal.language.tokens import tokenize
from crossmodal.models.base import Concepts

log = logging.getLogger(__name__)

MANIFEST = "items.json"  # holds the data set's own synonyms


class Form(base.Form):
    """Scored concepts; the setting `expansion` chooses how the words of texts are mapped to them."""

    axes, holds = 3, "a set of named regions per item"
    options: ClassVar[dict[str, Any]] = {"expansion": "wordnet"}
    sized = False
    joint = True

    def array(self, modality: str) -> str | None:
        return None if modality == "text" else "regions"

    def files(self, modality: str) -> tuple[str, ...]:
        return (tokens.TABLE, MANIFEST) if self.array(modality) is None else ()

    def open(self, source: base.Source) -> Inputs | None:
        if self.array(source.modality) is None:
            scored = self._of_words(source, tokens.words_of(source))
        else:
            index = named_regions(source.features).set_index("item_id").loc[source.items.item_id]
            scored = concepts.of_regions(index, _names(source))
        digest = sha256_bytes(scored.ids.tobytes() + scored.scores.tobytes())
        ids, scores = map(torch.from_numpy, scored)
        rows = torch.arange(len(ids))
        return source.inputs(tensor=ids, scores=scores, rows=rows, n_concepts=len(_names(source)), digest=digest)

    def gather(self, inputs: Inputs, index: torch.Tensor) -> Concepts:
        rows = inputs.rows[index]
        return Concepts(inputs.tensor[rows].long(), inputs.scores[rows])

    def of_features(self, source: base.Source, array: np.ndarray, columns: Mapping[str, Sequence[Any]]) -> Concepts:
        return _given(concepts.of_regions(pd.DataFrame(dict(columns)), _names(source)))

    def of_sentences(self, source: base.Source, sentences: list[str]) -> Concepts:
        scored = self._of_words(source, tokenize(sentences))
        for sentence, scores in zip(sentences, scored.scores, strict=True):
            if not scores.any():
                raise UserError(
                    f"{sentence!r}: corresponds to none of the {len(_names(source))} concepts that the run knows"
                )
        return _given(scored)

    def _of_words(self, source: base.Source, words: list[Sequence[str]]) -> concepts.Scored:
        expand = source.once("expansion", lambda: _expansion(source))
        return concepts.of_captions(words, _names(source), expand)


def _given(scored: concepts.Scored) -> Concepts:
    return Concepts(torch.from_numpy(scored.ids).long(), torch.from_numpy(scored.scores))


def _names(source: base.Source) -> tuple[str, ...]:
    """The names of all regions that the model reads, sorted."""

    def make() -> tuple[str, ...]:
        if not source.arrays:
            raise UserError(
                f"{source.folder.name}: concepts are names of regions, of which the model reads no features"
            )
        names = {name for features in source.arrays.values() for name in concepts.names_of(named_regions(features))}
        return tuple(sorted(names))

    return source.once("names", make)


def _expansion(source: base.Source) -> concepts.Expand:
    if source.option("expansion") == "wordnet":
        return concepts.wordnet()
    regions = read_record(source.folder / MANIFEST).get("regions") or {}
    log.info("captions' words are expanded by the data set's own synonyms and plurals, not by WordNet")
    return concepts.own(regions.get("synonyms") or {})
