"""What stands for an un-annotated image's sentence: the names of its regions or of the whole (A3VSE, section 4.3).

A caption that people wrote in the place of names is an upper bound of what better names can reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pandas as pd

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.corpus.forms import base, tokens
from crossmodal.corpus.inputs import Inputs
from crossmodal.features.region_annotations.semantics import named


class Form(tokens.Form):
    """Names of regions as sentences; the setting `semantics` is `none`, `regional`, `global` or `caption`."""

    options: ClassVar[dict[str, Any]] = {**tokens.Form.options, "semantics": "regional"}
    outside = ""

    def files(self, modality: str) -> tuple[str, ...]:
        return ()

    def words(self, source: base.Source) -> list[Sequence[str]] | None:
        kind = source.option("semantics")
        if kind == "none":
            return None
        if kind == "caption":
            return _captions(source)
        if source.features is None:
            raise UserError(f"{source.folder.name}: names of regions need a model that reads features of them")
        return named(source.features, kind).loc[source.items.item_id].to_list()

    def open(self, source: base.Source) -> Inputs | None:
        return None if source.words is None else super().open(source)

    def of_sentences(self, source: base.Source, sentences: list[str]) -> tokens.Tokens:
        return base.Form.of_sentences(self, source, sentences)


def _captions(source: base.Source) -> list[Sequence[str]]:
    """The words of each image's first caption."""
    path = source.folder / "items.parquet"
    items = source.once(path.name, lambda: read_parquet(path))
    first = items[items.modality == "text"].drop_duplicates("group_id").set_index("group_id").item_id
    if missing := sorted({*source.items.group_id} - {*first.index}):
        raise UserError(f"{path}: {missing[0]} has no caption, which `semantics: caption` needs of every image")
    chosen = pd.DataFrame({"item_id": first.loc[source.items.group_id].to_numpy()})
    return tokens.words_of(replace(source, items=chosen))
