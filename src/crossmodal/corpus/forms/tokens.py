"""Sentences as word ids: int64 (B, L) with start and end tokens, padded with 0, and their (B,) lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, sha256_bytes
from crossmodal.corpus.forms import base
from crossmodal.corpus.inputs import Inputs
from crossmodal.models.base import Tokens

TABLE = "tokens.parquet"


def words_of(source: base.Source) -> list[Sequence[str]]:
    """The words of each item's sentence, from the data set's `tokens.parquet`.

    Raises
    ------
    UserError : a table that lacks some of the items.
    """
    table = source.once(TABLE, lambda: read_parquet(source.folder / TABLE).set_index("item_id").tokens)
    tokens = table.reindex(source.items.item_id)
    if tokens.isna().any():
        raise UserError(f"{source.folder / TABLE}: lacks captions of items.parquet; delete it and run again")
    return tokens.to_list()


class Form(base.Form):
    """Sentences of at most `max_words` words; `rare_words` chooses how words outside of the vocabulary are encoded."""

    options: ClassVar[dict[str, Any]] = {"max_words": 82, "rare_words": "mark"}
    sized = False
    outside = "sentences"

    def files(self, modality: str) -> tuple[str, ...]:
        return (TABLE,)

    def words(self, source: base.Source) -> list[Sequence[str]] | None:
        return words_of(source)

    def open(self, source: base.Source) -> Inputs | None:
        ids, lengths = source.vocabulary.encode(source.words, source.option("max_words"), source.option("rare_words"))
        return source.inputs(
            tensor=torch.from_numpy(ids),
            rows=torch.arange(len(ids)),
            lengths=torch.from_numpy(lengths),
            digest=sha256_bytes(lengths.tobytes() + ids.tobytes()),
        )

    def of_rows(self, rows: torch.Tensor, counts: torch.Tensor | None) -> Tokens:
        return Tokens(rows[:, : int(counts.max())].long(), counts)

    def of_sentences(self, source: base.Source, sentences: list[str]) -> Tokens:
        words, rare = source.option("max_words"), source.option("rare_words")
        ids, lengths = source.vocabulary.encode_known(sentences, words, rare)
        return Tokens(torch.from_numpy(ids).long(), torch.from_numpy(lengths))
