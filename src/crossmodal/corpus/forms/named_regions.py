"""Sets of region vectors with their places and the words of their names, as models of scene graphs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from crossmodal.corpus.forms import base, boxed_regions
from crossmodal.features.region_annotations.semantics import named_regions
from crossmodal.language.tokens import SPECIAL

WORDS = 3  # words of a name that are read; few names have more


class Form(boxed_regions.Form):
    """Sets of region vectors with boxes and names; a region without a name, such as a cell of a grid, has no words."""

    def words(self, source: base.Source) -> list[Sequence[str]] | None:
        index = named_regions(source.features).set_index("item_id")["class"]
        return [[word for name in classes for word in _words(name)] for classes in index.loc[source.items.item_id]]

    def names(self, source: base.Source, columns: Mapping[str, Sequence[Any]], width: int) -> torch.Tensor:
        """(N, R, WORDS) ids of the words of the names that the vocabulary has; padded with 0."""
        classes = columns["class"]
        place = {word: code for code, word in enumerate(source.vocabulary.words) if code >= len(SPECIAL)}
        ids = torch.zeros(len(classes), width, WORDS, dtype=torch.int32)
        codes: dict[str, list[int]] = {}
        for row, of_picture in enumerate(classes):
            for region, name in enumerate(of_picture):
                if name not in codes:
                    codes[name] = [place[word] for word in _words(name) if word in place][:WORDS]
                for n, code in enumerate(codes[name]):
                    ids[row, region, n] = code
        return ids


def _words(name: str) -> list[str]:
    return name.lower().split()
