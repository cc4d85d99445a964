"""The names of an image's regions as words, per region or for the whole image (A3VSE, sections 4.3 and 4.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from crossmodal.core.errors import UserError
from crossmodal.corpus.forms import base, tokens
from crossmodal.corpus.inputs import Inputs
from crossmodal.features.region_annotations.semantics import named


class Form(tokens.Form):
    """Names of regions as sentences; the setting `semantics` is `none`, `regional` or `global`."""

    options: ClassVar[dict[str, Any]] = {**tokens.Form.options, "semantics": "regional"}
    outside = ""

    def files(self, modality: str) -> tuple[str, ...]:
        return ()

    def words(self, source: base.Source) -> list[Sequence[str]] | None:
        kind = source.option("semantics")
        if kind == "none":
            return None
        if source.features is None:
            raise UserError(f"{source.folder.name}: names of regions need a model that reads features of them")
        return named(source.features, kind).loc[source.items.item_id].to_list()

    def open(self, source: base.Source) -> Inputs | None:
        return None if source.words is None else super().open(source)

    def of_sentences(self, source: base.Source, sentences: list[str]) -> tokens.Tokens:
        return base.Form.of_sentences(self, source, sentences)
