"""Opens a prepared data set as a model reads it: features memory-mapped, captions as ids, pairs as places."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from crossmodal import concepts
from crossmodal.errors import UserError
from crossmodal.experiments import Relevance
from crossmodal.features.semantics import named_regions, token_table
from crossmodal.features.store import Features, open_features
from crossmodal.files import read_parquet, read_record, sha256_bytes
from crossmodal.models.base import Form, Settings
from crossmodal.text import RareWords, Vocabulary
from crossmodal.training import balanced
from crossmodal.training import classes as class_items
from crossmodal.training.corpus import Corpus, Inputs, OnDisk

log = logging.getLogger(__name__)

MAPPED = 2**30  # bytes up to which features are mapped; rows of larger ones are read, so that they do not stay resident

FORMS = {
    "vector": (2, "one vector an item"),
    "regions": (3, "a set of regions an item"),
    "concepts": (3, "a set of named regions an item"),
    "pixels": (4, "a small picture an item, as the extractor `pixels` makes them"),
    "images": (4, "an image an item, as the extractor `pixels` makes them"),
}
"""Axes of an array of each form, and how they are called."""

OPTIONS = ("min_count", "max_words", "rare_words", "semantics", "expansion")
OPTIONS += ("class_vectors", "word_vectors", "words_covered")


def options_of(settings: Settings) -> dict[str, Any]:
    """What a model's settings say of how `load` reads its data."""
    return {key: getattr(settings, key) for key in OPTIONS if hasattr(settings, key)}


def load(
    folder: Path,
    split: str,
    reads: dict[str, Form],
    extractors: dict[str, str],
    *,
    relevance: Relevance = "group",
    stages: Sequence[int] = (),
    beside: dict[str, tuple[Form, str]] | None = None,
    unannotated: tuple[str, ...] = (),
    min_count: int = 4,
    max_words: int = 82,
    rare_words: RareWords = "mark",
    semantics: Literal["regional", "global", "none"] = "regional",
    expansion: concepts.Expansion = "wordnet",
    vocabulary: Vocabulary | None = None,
    class_vectors: class_items.Vectors = "attributes",
    word_vectors: str = "",
    words_covered: float = 0.0,
) -> Corpus:
    """Open a prepared data set.

    Parameters
    ----------
    folder : `data/DATASET`. split : name of a file in its `splits`.
    reads : modality to form, as the model declares them. extractors : modality to extractor.
    beside : modality to the second form that it is read in, and to the extractor of that.
    relevance : whether items answer each other by their group, or by their label.
    stages : sizes of the groups of classes that a split `classesIofN` is one of (`splits.class_groups`).
    unannotated : what it wants of images without a caption; with `semantics` what is named in them is read as well.
    semantics : the names of the regions one by one, or of the whole image (A3VSE, section 4.6).
    expansion : of captions' words, where the model reads concepts.
    vocabulary : a trained model's own; None builds it from the split's captions.
    class_vectors, word_vectors, words_covered : what classes are known by, where the model reads them; see
        `training.classes`.

    Raises
    ------
    UserError : a missing, corrupted or truncated file, a modality without an extractor.
    """
    items = read_parquet(folder / "items.parquet")
    pairs = read_parquet(folder / "splits" / f"{split}.parquet")
    codes = {group: i for i, group in enumerate(dict.fromkeys(items.group_id))}
    fingerprint = {
        "items": _frame_hash(items),
        "split": _frame_hash(pairs),
    }
    spoken = {m for m, form in reads.items() if form == "tokens" or (form == "concepts" and m == "text")}
    made_here = spoken | {m for m, form in reads.items() if form == "classes"}
    arrays = {m: _open(folder, m, form, extractors) for m, form in reads.items() if m not in made_here}
    second = {m: _open(folder, m, form, {m: extractor}) for m, (form, extractor) in (beside or {}).items()}
    items = _without_skipped(items, [id_ for found in (*arrays.values(), *second.values()) for id_ in found.skipped])
    if relevance == "label":
        known = balanced.Labels.of(items, split, stages)
        items = known.restricted(items)
        trained, bare = pairs.item_id, pd.Series(dtype="string")
    else:
        known = None
        for column in ("image_id", "caption_id"):
            pairs = pairs[pairs[column].isna() | pairs[column].isin(items.item_id)]
        annotated = pairs[pairs.caption_id.notna()]
        trained, bare = annotated.caption_id.unique(), pairs.image_id[pairs.caption_id.isna()]
    wanted = semantics != "none" and "semantics" in unannotated
    named = _semantics(arrays["image"], items, semantics) if wanted else None
    names = concepts.names_of(named_regions(arrays["image"])) if "concepts" in reads.values() else ()
    inputs: dict[str, Inputs] = {}
    others: dict[str, Inputs] = {}
    for modality, form in reads.items():
        if form == "classes":
            if known is None:
                raise UserError(f"{folder.name}: the model tells classes, which needs a data set with relevance: label")
            if known.several:
                raise UserError(
                    f"{folder.name}: the model ranks classes, of which each item must have one; the items of "
                    "items.parquet have several"
                )
            fields, fingerprint[modality] = class_items.load(folder, known, class_vectors, word_vectors, words_covered)
            inputs[modality] = Inputs(**fields)
            continue
        rows = items[items.modality == modality]
        if rows.empty:
            raise UserError(f"{folder / 'items.parquet'}: holds no {modality} items, which the model reads")
        common = {
            "ids": rows.item_id.to_numpy(dtype=object),
            "groups": rows.group_id.map(codes).to_numpy(dtype=np.int64),
            "partition": rows.partition.to_numpy(dtype=object),
            "labels": None if known is None else known.encode(rows.label),
            "sets": None if known is None else known.sets(rows.label),
        }
        if modality in arrays:
            fingerprint[f"{modality}.{extractors[modality]}"] = arrays[modality].manifest["sha256"]
        if modality in second:
            other, extractor = beside[modality]
            fingerprint[f"{modality}.{extractor}"] = second[modality].manifest["sha256"]
            others[modality] = Inputs(**_cached(second[modality], common["ids"], other), form=other, **common)
        if form == "tokens":
            tokens = _tokens(folder, rows.item_id)
            if vocabulary is None:
                read = [*tokens.loc[tokens.index.isin(trained) if known else trained]]
                read += [] if named is None else [*named.tokens[named.partition == "train"]]
                vocabulary = Vocabulary.build(read, min_count)
            fingerprint["vocabulary"] = sha256_bytes("\n".join(vocabulary.words).encode())
            fields = _encoded(vocabulary, tokens, max_words, rare_words)
        elif form == "concepts" and modality in spoken:
            fields = _scored(concepts.of_captions(_tokens(folder, rows.item_id), names, _expansion(folder, expansion)))
        elif form == "concepts":
            named_in = arrays[modality].index.set_index("item_id").loc[rows.item_id]
            fields = _scored(concepts.of_regions(named_in, names))
        else:
            fields = _cached(arrays[modality], common["ids"], form)
        inputs[modality] = Inputs(**fields, form=form, **common)
    vocabulary = vocabulary or Vocabulary.build([])
    classes = None
    if known is None:
        paired = _places(inputs, {"image": annotated.image_id, "text": annotated.caption_id})
    else:
        rows = {m: np.flatnonzero(pd.Index(x.ids).isin(trained)) for m, x in inputs.items()}
        rows |= {m: x.where("train") for m, x in inputs.items() if x.form == "classes"}
        classes = balanced.Classes.of(known, rows, inputs)
        paired = classes.paired()
    bare = _places(inputs, {"image": bare}).get("image", np.empty(0, dtype=np.int64))
    if named is not None:
        of_image = inputs["image"]
        encoded = _encoded(vocabulary, named.tokens, max_words, rare_words)
        inputs["semantics"] = Inputs(of_image.ids, of_image.groups, of_image.partition, form="tokens", **encoded)
    return Corpus(inputs, paired, bare, vocabulary, fingerprint, classes, beside=others, n_concepts=len(names))


def _tokens(folder: Path, ids: pd.Series) -> pd.Series:
    """The words of each caption, by its id."""
    tokens = read_parquet(folder / "tokens.parquet").set_index("item_id").tokens.reindex(ids)
    if tokens.isna().any():
        raise UserError(f"{folder / 'tokens.parquet'}: lacks captions of items.parquet; delete it and run again")
    return tokens


def _places(inputs: dict[str, Inputs], wanted: dict[str, pd.Series]) -> dict[str, np.ndarray]:
    """Where the items of those ids lie, in each modality that is read."""
    place = {m: pd.Series(np.arange(len(inputs[m].ids)), index=inputs[m].ids) for m in inputs if m in wanted}
    return {m: place[m].loc[wanted[m]].to_numpy(dtype=np.int64) for m in place}


def _scored(found: tuple[np.ndarray, np.ndarray]) -> dict[str, torch.Tensor]:
    ids, scores = map(torch.from_numpy, found)
    return {"tensor": ids, "scores": scores, "rows": torch.arange(len(ids))}


def _cached(features: Features, ids: np.ndarray, form: Form) -> dict[str, Any]:
    """Features of items: mapped where they are small, left on the disk where they are large."""
    if features.array.nbytes > MAPPED:
        tensor = OnDisk(features)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the map is read-only, and nothing writes to it
            tensor = torch.from_numpy(features.array)
    rows = features.rows(ids)
    counts = torch.from_numpy(features.counts[rows]) if form == "regions" else None
    return {"tensor": tensor, "rows": torch.from_numpy(rows), "lengths": counts}


def _semantics(features: Features, items: pd.DataFrame, kind: str) -> pd.DataFrame:
    """`tokens` and `partition` of each image, in their order."""
    images = items[items.modality == "image"].set_index("item_id")
    if kind == "global":
        index = named_regions(features).set_index("item_id").loc[images.index]
        names = concepts.names_of(index)
        named = pd.DataFrame({"tokens": concepts.tags(concepts.of_regions(index, names), names)}, images.index)
    else:
        named = token_table(features).set_index("item_id").loc[images.index]
    return named.assign(partition=images.partition)


def _expansion(folder: Path, kind: concepts.Expansion) -> concepts.Expand:
    if kind == "wordnet":
        return concepts.wordnet()
    regions = read_record(folder / "items.json").get("regions") or {}
    log.info("captions' words are expanded by the data set's own synonyms and plurals, not by WordNet")
    return concepts.own(regions.get("synonyms") or {})


def _encoded(
    vocabulary: Vocabulary, tokens: pd.Series, max_words: int, rare_words: RareWords
) -> dict[str, torch.Tensor]:
    ids, lengths = vocabulary.encode(tokens.to_list(), max_words, rare_words)
    return {"tensor": torch.from_numpy(ids), "rows": torch.arange(len(ids)), "lengths": torch.from_numpy(lengths)}


def _open(folder: Path, modality: str, form: Form, extractors: dict[str, str]) -> Features:
    if modality not in extractors:
        raise UserError(f"params.yaml: inputs: the model reads {modality} features, but no extractor is named for them")
    features = open_features(folder / "features" / f"{modality}.{extractors[modality]}")
    axes, told = FORMS[form]
    if features.array.ndim != axes:
        raise UserError(f"{features.path}: has shape {features.array.shape}; the model reads {told}")
    return features


def _without_skipped(items: pd.DataFrame, skipped: list[str]) -> pd.DataFrame:
    """`items` without those that have no features, and without what belonged to them alone (an image's captions)."""
    gone = items.item_id.isin(skipped)
    if not gone.any():
        return items
    kept = items[~gone]
    lost = set(zip(items.modality[gone], items.group_id[gone], strict=True)) - set(
        zip(kept.modality, kept.group_id, strict=True)
    )
    kept = kept[~kept.group_id.isin({group for _, group in lost})]
    further = len(items) - len(kept) - gone.sum()
    log.warning("%d items have no features (skipped as bad); %d more go with them", gone.sum(), further)
    return kept


def _frame_hash(frame: pd.DataFrame) -> str:
    """Hash of a frame's content, whatever wrote the file."""
    return sha256_bytes(pd.util.hash_pandas_object(frame.astype("string"), index=False).to_numpy().tobytes())
