"""The named regions of an image: boxes, ids of their classes and attributes among the words, and confidences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.forms import base
from crossmodal.corpus.inputs import Inputs
from crossmodal.features.region_annotations.semantics import named_regions
from crossmodal.language.tokens import PAD, UNKNOWN
from crossmodal.models.base import Objects

COLUMNS = ("boxes", "class", "attribute", "confidence")


class Form(base.Form):
    """Named regions; those without a class, such as the cells of a grid, are left out.

    A name of several words is one word of the vocabulary.
    """

    axes, holds = 3, "a set of named regions per item"
    sized = False

    def array(self, modality: str) -> str | None:
        return "regions"

    def words(self, source: base.Source) -> list[Sequence[str]] | None:
        index = self._index(source)
        rows = zip(index["class"], index["attribute"], strict=True)
        return [[name.lower() for name in (*classes, *attributes) if name] for classes, attributes in rows]

    def open(self, source: base.Source) -> Inputs | None:
        packed, counts = _packed(source, self._index(source))
        return source.inputs(tensor=packed, rows=torch.arange(len(packed)), lengths=counts)

    def of_rows(self, rows: torch.Tensor, counts: torch.Tensor | None) -> Objects:
        most = max(1, int(counts.max()))
        rows = rows[:, :most]
        return Objects(rows[..., :4], rows[..., 4].long(), rows[..., 5].long(), rows[..., 6], counts)

    def of_features(self, source: base.Source, array: np.ndarray, columns: Mapping[str, Sequence[Any]]) -> Objects:
        return self.of_rows(*_packed(source, columns))

    def _index(self, source: base.Source) -> Any:
        index = named_regions(source.features)
        if "boxes" not in index:
            raise UserError(
                f"{source.features.path}: its index has no column 'boxes'; named regions are those of a `regions` "
                "extractor"
            )
        return index.set_index("item_id").loc[source.items.item_id]


def _packed(source: base.Source, columns: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, R, 7) boxes, ids of classes and attributes, and confidences; (N,) numbers of named regions."""
    ids = {word: i for i, word in enumerate(source.vocabulary.words)}
    rows = []
    for boxes, classes, attributes, scores in zip(*(columns[name] for name in COLUMNS), strict=True):
        named = [i for i, name in enumerate(classes) if name]
        named.sort(key=lambda i: -scores[i])
        rows.append(
            [
                [*boxes[i], ids.get(classes[i].lower(), UNKNOWN),
                 ids.get((attributes[i] or "").lower(), PAD), scores[i]]
                for i in named
            ]
        )  # fmt: skip
    counts = torch.tensor([len(row) for row in rows])
    packed = torch.zeros(len(rows), max([1, *map(len, rows)]), 7)
    for i, row in enumerate(rows):
        if row:
            packed[i, : len(row)] = torch.tensor(np.asarray(row, np.float64)).float()
    return packed, counts
