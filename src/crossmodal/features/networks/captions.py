"""The words of captions and their vectors, for extractors of text features.

Words are the lower-cased tokens of `text.tokenize` that contain a letter or a digit.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file
from crossmodal.features.engine.contract import Item
from crossmodal.language import wordvectors
from crossmodal.language.tokens import tokenize

log = logging.getLogger(__name__)


class OfWordVectors(BaseModel):
    """Settings of extractors that read word vectors."""

    vectors: str = Field(description="file of GloVe or word2vec vectors, or seeded")
    words_covered: float = Field(
        0.3,
        ge=0,
        le=1,
        description="least share of the words of all texts, counted with repetition, that must have a vector",
    )
    dim: int = Field(300, ge=1, description="dimensions of seeded vectors")
    seed: int = Field(0, description="seed of seeded vectors")


def words(caption: str) -> list[str]:
    """The tokens of a caption that contain a letter or a digit."""
    return [word for word in tokenize([caption])[0] if any(letter.isalnum() for letter in word)]


def words_of(listed: list[Item], cut: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """{item id: its words}; equal words share one object, so that the captions of a large data set fit in memory."""
    shown = tracked(listed, "tokenizing", unit="captions")
    return {item.item_id: [sys.intern(word) for word in cut(item.source)] for item in shown}


def training(listed: list[Item], captions: dict[str, list[str]]) -> list[list[str]]:
    """The words of each training caption."""
    return [captions[item.item_id] for item in listed if item.partition == "train"]


def bad(item: Item, why: str) -> UserError:
    """The error of a caption that cannot be used."""
    shown = item.source if len(item.source) <= 60 else item.source[:57] + "..."
    return UserError(f"text item {item.item_id!r} ({shown!r}) {why}; correct it, or set `on_error: skip`")


def depends_on(settings: OfWordVectors) -> dict[str, Any]:
    """The facts of the manifest on the word vectors that a setting names.

    Raises
    ------
    UserError : there is no such file.
    """
    path = Path(settings.vectors)
    if settings.vectors == "seeded":
        return seeded_fallback("seeded random word vectors")
    if path.is_file():
        return {"vectors": path.name, "vectors_sha256": sha256_file(path)}
    raise UserError(
        f"extractors.*.vectors: {settings.vectors!r} is no file; {wordvectors.PLACES}; or set `vectors: seeded`"
    )


def vectors_of(
    settings: OfWordVectors, captions: Mapping[str, list[str]]
) -> tuple[wordvectors.WordVectors, dict[str, Any]]:
    """The vectors of the words of all captions, and facts for the manifest on how many have one."""
    path = Path(settings.vectors)
    counts = Counter(word for caption in captions.values() for word in caption)
    if settings.vectors == "seeded":
        vectors = wordvectors.seeded(counts, settings.dim, settings.seed)
    else:
        vectors = wordvectors.read(path, counts)
    covered = wordvectors.coverage(vectors, counts, path, settings.words_covered, "words_covered")
    facts: dict[str, Any] = {
        "words": covered.words,
        "words_unknown": covered.words - covered.with_vector,
        "tokens_unknown": 1 - covered.share,
        "unknown_words": [*covered.missing],
    }
    log.info("%s", covered)
    if covered.share < wordvectors.FEW:
        facts["fallback"] = f"word vectors: {covered}; texts are known by those words alone"
        log.warning("text: %s", facts["fallback"])
    return vectors, facts


def rows_of(caption: list[str], vectors: wordvectors.WordVectors, item: Item) -> tuple[list[int], int]:
    """The rows of a caption's words that have a vector, and the number of its other words.

    Raises
    ------
    UserError : no word has a vector.
    """
    rows = [vectors.index[word] for word in caption if word in vectors.index]
    if not rows:
        raise bad(item, "has no word with a vector")
    return rows, len(caption) - len(rows)


def seeded_fallback(vectors: str) -> dict[str, Any]:
    """The facts of the manifest on random vectors or weights in place of trained ones."""
    log.warning("text: %s, not trained on anything", vectors)
    return {"vectors": "seeded", "fallback": vectors}
