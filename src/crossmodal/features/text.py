"""Text features: bags of words, TF-IDF, means of word vectors, Skip-Thoughts, and sentence transformers.

The setting `kind` selects one of them. Words are the lower-cased tokens of `text.tokenize` that contain a letter or a
digit. Vocabularies and IDF weights are fitted on the training captions only, and kept in the manifest.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, ModelWrapValidatorHandler, model_validator
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer, TfidfVectorizer

from crossmodal.core import packed
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import read_json, read_lines, sha256_file, sha256_json
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.features.networks import backbones, skipthoughts
from crossmodal.features.networks.captions import (
    OfWordVectors,
    bad,
    depends_on,
    rows_of,
    seeded_fallback,
    training,
    vectors_of,
    words,
    words_of,
)
from crossmodal.language.tokens import tokenize

log = logging.getLogger(__name__)


# -- settings ---------------------------------------------------------------------------------------------------------


class Settings(extraction.Settings):
    """Settings that every kind has; `Settings.model_validate` returns the settings class of the given `kind`."""

    kind: str = Field(description="bag_of_words, tfidf, word_vectors, skip_thoughts or sentence_transformer")
    l2: bool = Field(True, description="whether vectors are scaled to unit length")
    batch_size: int = Field(256, ge=1, description="number of captions per batch")

    @model_validator(mode="wrap")
    @classmethod
    def _of_kind(cls, value: Any, handler: ModelWrapValidatorHandler) -> Settings:
        if not isinstance(value, Mapping):
            return handler(value)
        kind = value.get("kind")
        if cls is Settings:
            if kind not in KINDS:
                raise ValueError(f"kind: {kind!r} is no known kind of text feature" + suggestion(str(kind), KINDS))
            return KINDS[kind].model_validate(value)
        for key in value:
            if key not in cls.model_fields:
                raise ValueError(f"{key}: unknown key of `kind: {kind}`" + suggestion(key, cls.model_fields))
        return handler(value)


class _Fitted(Settings):
    max_features: int | None = Field(
        2048, ge=1, description="number of words, the most frequent ones of the training captions; null: all"
    )
    min_df: int = Field(1, ge=1, description="number of training captions that must contain a word")
    stop_words: Literal["none", "english"] = Field(
        "none", description="words that are left out; english: those of scikit-learn's list"
    )


class BagOfWords(_Fitted):
    """Counts of words; the bags of words of XMedia and XMediaNet are 2048-d."""

    kind: Literal["bag_of_words"] = "bag_of_words"
    binary: bool = Field(False, description="whether entries are 1 for each word that occurs, instead of its count")
    l2: bool = Field(False, description="whether vectors are scaled to unit length")


class TfIdf(_Fitted):
    """Counts of words times ln((1 + n) / (1 + df)) + 1, with n and df counted in the training captions."""

    kind: Literal["tfidf"] = "tfidf"
    sublinear_tf: bool = Field(False, description="whether 1 + ln(count) replaces the count")


class WordVectors(Settings, OfWordVectors):
    """The mean of the words' vectors."""

    kind: Literal["word_vectors"] = "word_vectors"
    weighting: Literal["mean", "tfidf"] = Field(
        "mean", description="weights of the words; tfidf: rare words of the training captions count more"
    )


class SkipThoughts(Settings):
    """Embeddings of the published Skip-Thoughts encoder, 4800-d."""

    kind: Literal["skip_thoughts"] = "skip_thoughts"
    vectors: str = Field(
        description="folder of the published files, an .npy file of vectors computed with them, or seeded"
    )
    ids: str | None = Field(
        None,
        description="file with the item ids of the rows of an .npy file (.txt or .json); null: the rows are in "
        "the order of the items",
    )
    dim: int = Field(4800, ge=4, multiple_of=4, description="dimensions of seeded vectors")
    seed: int = Field(0, description="seed of seeded vectors")
    l2: bool = Field(
        False, description="whether vectors are scaled to unit length; as published, each half has unit length"
    )
    batch_size: int = Field(32, ge=1, description="number of captions per batch")


class SentenceTransformer(Settings):
    """Embeddings of any model of sentence-transformers (`pip install 'crossmodal[sentence-transformers]'`)."""

    kind: Literal["sentence_transformer"] = "sentence_transformer"
    model: str = Field(description="a folder, or a name on the Hugging Face hub (which needs the network once)")
    batch_size: int = Field(32, ge=1, description="number of captions per batch")


KINDS: dict[str, type[Settings]] = {
    "bag_of_words": BagOfWords,
    "tfidf": TfIdf,
    "word_vectors": WordVectors,
    "skip_thoughts": SkipThoughts,
    "sentence_transformer": SentenceTransformer,
}


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, D) features of captions.

    A caption without a known word is a bad item, never a vector of zeros. For fitted kinds the manifest keeps
    `vocabulary` (the words in the order of the columns) and `idf`; for word vectors it keeps the number of words
    without a vector, and the most frequent of them. The index keeps the number of `unknown` words of each caption.

    Raises
    ------
    UserError : a caption is bad, or files of vectors are missing or damaged.
    """
    extraction.expect("text", given.modality, "text")
    inner = _MADE[settings.kind](settings)
    return replace(inner, packages=("nltk", "scikit-learn", *inner.packages))


def _unit(array: np.ndarray, settings: Settings) -> np.ndarray:
    return array / np.linalg.norm(array, axis=1, keepdims=True) if settings.l2 else array


# -- bag of words, TF-IDF ---------------------------------------------------------------------------------------------


def fit(settings: _Fitted, captions: Sequence[Sequence[str]]) -> CountVectorizer:
    """scikit-learn's vectoriser for captions given as lists of words, fitted on `captions`.

    Raises
    ------
    UserError : there are no captions, or no word is frequent enough.
    """
    if not captions:
        raise UserError(f"kind: {settings.kind}: there are no training captions to fit it on")
    stop = ENGLISH_STOP_WORDS if settings.stop_words == "english" else frozenset()
    every = CountVectorizer(analyzer=lambda caption: [word for word in caption if word not in stop])
    try:
        counts = every.fit_transform(captions)
    except ValueError:  # the captions have no words
        counts = np.zeros((0, 0))
    totals, spread = np.asarray(counts.sum(0)).ravel(), np.asarray((counts > 0).sum(0)).ravel()
    names = every.get_feature_names_out() if len(totals) else []
    kept = [(-total, word) for word, total, df in zip(names, totals, spread, strict=True) if df >= settings.min_df]
    if not kept:
        raise UserError(f"kind: {settings.kind}: no word occurs in {settings.min_df} training captions (`min_df`)")
    vocabulary = sorted(word for _, word in sorted(kept)[: settings.max_features])
    if settings.kind == "tfidf":
        sublinear = settings.sublinear_tf
        vectorizer = TfidfVectorizer(analyzer=list, vocabulary=vocabulary, norm=None, sublinear_tf=sublinear)
    else:
        vectorizer = CountVectorizer(analyzer=list, vocabulary=vocabulary, binary=settings.binary)
    return vectorizer.fit(captions)


def _fitted(settings: _Fitted) -> Recipe:
    facts: dict[str, Any] = {}

    def begin(listed: list[Item]) -> Work:
        captions = words_of(listed, words)
        vectorizer = fit(settings, training(listed, captions))
        vocabulary = vectorizer.vocabulary_
        facts["vocabulary"] = vectorizer.get_feature_names_out().tolist()
        if settings.kind == "tfidf":
            facts["idf"] = vectorizer.idf_.tolist()

        def load(item: Item) -> list[str]:
            if not any(word in vocabulary for word in captions[item.item_id]):
                raise bad(item, f"has none of the {len(vocabulary)} words of the vocabulary")
            return captions[item.item_id]

        def compute(batch: list[list[str]]) -> tuple[np.ndarray, dict[str, list[int]]]:
            unknown = [sum(word not in vocabulary for word in caption) for caption in batch]
            return _unit(vectorizer.transform(batch).toarray(), settings), {"unknown": unknown}

        # The hash tells whether shards of a killed run were computed with the same fitted values.
        return Work(load, compute, settings.batch_size, {"fitted_sha256": sha256_json(facts)})

    return Recipe(
        begin,
        {"fitted_on": "training captions"},
        finish=lambda array, rows: facts,
        again=lambda array, manifest: array,
    )


# -- word vectors -----------------------------------------------------------------------------------------------------


def _word_vectors(settings: WordVectors) -> Recipe:
    depends = depends_on(settings)

    def begin(listed: list[Item]) -> Work:
        captions = words_of(listed, words)
        vectors, facts = vectors_of(settings, captions)
        weights = np.ones(len(vectors.index), np.float32)
        if settings.weighting == "tfidf":
            trained = training(listed, captions)
            vectorizer = fit(TfIdf(max_features=None), trained)
            never = np.log(1 + len(trained)) + 1  # the IDF of a word that occurs in no training caption
            idf = dict(zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True))
            weights = np.array([idf.get(word, never) for word in vectors.index], np.float32)
            facts["fitted_sha256"] = sha256_json(idf)

        def load(item: Item) -> tuple[list[int], int]:
            return rows_of(captions[item.item_id], vectors, item)

        def compute(batch: list[tuple[list[int], int]]) -> tuple[np.ndarray, dict[str, list[int]]]:
            means = [weights[rows] @ vectors.matrix[rows] / weights[rows].sum() for rows, _ in batch]
            return _unit(np.stack(means), settings), {"unknown": [unknown for _, unknown in batch]}

        return Work(load, compute, settings.batch_size, facts)

    return Recipe(begin, depends)


# -- Skip-Thoughts ----------------------------------------------------------------------------------------------------


def _skip_thoughts(settings: SkipThoughts) -> Recipe:
    path = Path(settings.vectors)
    if settings.vectors == "seeded":
        return Recipe(
            lambda listed: _encoded(listed, settings), seeded_fallback("a seeded random Skip-Thoughts encoder")
        )
    if path.is_dir():
        return Recipe(lambda listed: _encoded(listed, settings), skipthoughts.describe(path))
    if not path.is_file():
        raise UserError(
            f"extractors.*.vectors: {settings.vectors!r} is neither an .npy of Skip-Thoughts vectors nor a folder with "
            f"{', '.join(skipthoughts.FILES)} (from {skipthoughts.PLACE}); or set `vectors: seeded`"
        )
    depends = {"vectors": path.name, "vectors_sha256": sha256_file(path)}
    if settings.ids:
        depends["ids_sha256"] = sha256_json(_read_ids(Path(settings.ids)))
    return Recipe(lambda listed: _made_elsewhere(listed, settings), depends)


def _encoded(listed: list[Item], settings: SkipThoughts) -> Work:
    captions = words_of(listed, lambda caption: tokenize([caption])[0])  # with punctuation, as it was trained
    counts = Counter(word for caption in captions.values() for word in caption)
    if settings.vectors == "seeded":
        encoder = skipthoughts.seeded(counts, settings.dim, settings.seed)
    else:
        encoder = skipthoughts.load(Path(settings.vectors), counts)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = encoder.to(device)
    missing = [word for word in counts if word not in encoder.index]
    facts = {"words": len(counts), "words_unknown": len(missing), "device": device.type}

    def load(item: Item) -> list[str]:
        if not any(word in encoder.index for word in captions[item.item_id]):
            raise bad(item, "has no word that the encoder knows")
        return captions[item.item_id]

    def compute(batch: list[list[str]]) -> tuple[np.ndarray, dict[str, list[int]]]:
        unknown = [sum(word not in encoder.index for word in caption) for caption in batch]
        return _unit(encoder(batch).cpu().numpy(), settings), {"unknown": unknown}

    return Work(load, compute, settings.batch_size, facts)


def _made_elsewhere(listed: list[Item], settings: SkipThoughts) -> Work:
    path = Path(settings.vectors)
    try:
        array = packed.mapped(path)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: is truncated or no .npy file of numbers ({error}); make it again") from None
    if array.ndim != 2:
        raise UserError(
            f"{path}: has shape {array.shape}; expected one vector per caption, (N, 4800) by the published encoder"
        )
    ids = _read_ids(Path(settings.ids)) if settings.ids else [item.item_id for item in listed]
    if len(ids) != len(array):
        listing = settings.ids or "items.parquet, whose text items are expected in this order; or name a file `ids`"
        raise UserError(f"{path}: has {len(array)} rows, but there are {len(ids)} ids in {listing}")
    rows = {item_id: n for n, item_id in enumerate(ids)}

    def load(item: Item) -> np.ndarray:
        if item.item_id not in rows:
            raise bad(item, f"is not in {settings.ids}")
        vector = np.asarray(array[rows[item.item_id]], np.float32)
        if not np.isfinite(vector).all() or not vector.any():
            raise bad(item, f"has a vector in {path.name} that is zero or not finite (row {rows[item.item_id]})")
        return vector

    return Work(load, lambda vectors: _unit(np.stack(vectors), settings), settings.batch_size)


def _read_ids(path: Path) -> list[str]:
    try:
        ids = read_json(path) if path.suffix == ".json" else read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); expected one item id per line, in the order of the rows"
        ) from None
    if not isinstance(ids, list) or len(set(map(str, ids))) < len(ids):
        raise UserError(f"{path}: is no list of item ids, each once")
    return [str(id_) for id_ in ids]


# -- sentence transformers --------------------------------------------------------------------------------------------


def _sentence_transformer(settings: SentenceTransformer) -> Recipe:
    try:
        import sentence_transformers
    except ImportError:
        raise UserError(
            "kind: sentence_transformer needs a further package: pip install 'crossmodal[sentence-transformers]'"
        ) from None
    if (version := metadata.version("sentence-transformers")).split(".")[0] < "6":
        raise UserError(
            f"sentence-transformers {version} runs Python code from a model's folder; install "
            "requirements/sentence-transformers.txt (6.0 or newer)"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model = sentence_transformers.SentenceTransformer(settings.model, device=device, trust_remote_code=False)
        model = model.float().eval()
    except Exception as error:  # the library does not document what a missing model or a broken file raises
        raise UserError(
            f"extractors.*.model: {settings.model!r} cannot be loaded ({error}); name a folder that holds a model, "
            "or a model of the hub where the network is available"
        ) from None
    cut = model.preprocess
    turn = threading.Lock()

    def load(item: Item) -> str:
        if not item.source.strip():
            raise bad(item, "is empty")
        return item.source

    def compute(captions: list[str]) -> np.ndarray:
        with turn:  # tokenisers are not thread-safe
            ready = cut(captions)
        ready = {key: value.to(device) if torch.is_tensor(value) else value for key, value in ready.items()}
        with torch.inference_mode():
            return _unit(model(ready)["sentence_embedding"].float().cpu().numpy(), settings)

    depends = {"model": Path(settings.model).name, "weights_sha256": backbones.hash_of(model.cpu())}
    model.to(device)
    work = Work(load, compute, settings.batch_size, {"device": device})
    return Recipe(lambda listed: work, depends, packages=("sentence-transformers", "transformers"))


_MADE: dict[str, Callable[[Any], Recipe]] = {
    "bag_of_words": _fitted,
    "tfidf": _fitted,
    "word_vectors": _word_vectors,
    "skip_thoughts": _skip_thoughts,
    "sentence_transformer": _sentence_transformer,
}
