"""The items of a data set as a model reads them: features memory-mapped, captions as ids, batches gathered by index.

What belongs together is told by groups (an image and its captions) or by classes; the batches of the latter are drawn
in `training.balanced`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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
from crossmodal.files import read_json, read_parquet, sha256_bytes
from crossmodal.models.base import Batch, Concepts, Context, Form, Input, Regions, Tokens
from crossmodal.text import RareWords, Vocabulary
from crossmodal.training import balanced
from crossmodal.training import classes as class_items
from crossmodal.training.balanced import Classes, Moments

log = logging.getLogger(__name__)

MAPPED = 2**30  # bytes up to which features are mapped; rows of larger ones are read, so that they do not stay resident

FORMS = {
    "vector": (2, "one vector an item"),
    "regions": (3, "a set of regions an item"),
    "concepts": (3, "a set of named regions an item"),
    "pixels": (4, "a small picture an item, as the extractor `pixels` makes them"),
}
"""Axes of an array of each form, and how they are called."""


@dataclass(frozen=True)
class OnDisk:
    """Features in the place of a tensor: `rows` of them are read from their file when they are asked for."""

    features: Features

    @property
    def shape(self) -> tuple[int, ...]:
        return self.features.array.shape

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.features.gather(rows.numpy()))


@dataclass(frozen=True)
class Inputs:
    """All items of one modality: row i of the tensors is item `ids[i]`."""

    ids: np.ndarray
    groups: np.ndarray  # (N,) int64
    partition: np.ndarray
    tensor: torch.Tensor | OnDisk  # (M, ...) features, or (N, L) token ids
    rows: torch.Tensor  # (N,) rows of `tensor`
    lengths: torch.Tensor | None = None
    form: Form = "vector"
    scores: torch.Tensor | None = None  # (M, L) of the concepts whose ids are in `tensor`
    labels: np.ndarray | None = None  # (N,) int64 classes, -1 for none

    def gather(self, index: torch.Tensor) -> Input:
        """The items at `index`, as the model reads them. No copy is made of anything else."""
        picked = self.tensor[self.rows[index]]
        if self.form == "tokens":
            lengths = self.lengths[index]
            return Tokens(picked[:, : int(lengths.max())].long(), lengths)
        if self.form == "regions":
            return Regions(picked.float(), self.lengths[index])
        if self.form == "concepts":
            return Concepts(picked.long(), self.scores[self.rows[index]])
        return picked if self.form == "pixels" else picked.float()

    def where(self, partition: str) -> np.ndarray:
        """Indices of the items of a partition, in their stored order."""
        return np.flatnonzero(self.partition == partition)


@dataclass(frozen=True)
class Corpus:
    """A data set under a split: every modality's inputs, the training pairs, the vocabulary."""

    inputs: dict[str, Inputs]
    pairs: dict[str, np.ndarray]  # modality to (P,) indices; row i of each belongs together
    unannotated: np.ndarray  # (U,) indices of the training images without a caption
    vocabulary: Vocabulary
    fingerprint: dict[str, str]  # what the data is: hashes for the manifest
    classes: Classes | None = None  # where items answer each other by class
    source: Corpus | None = None  # the labelled data that knowledge is transferred from
    beside: dict[str, Inputs] = field(default_factory=dict)  # the same items of a modality in a second form
    n_concepts: int = 0

    @property
    def waits(self) -> bool:
        """Whether a batch is worth reading while the one before it is computed on."""
        return any(isinstance(one.tensor, OnDisk) for one in (*self.inputs.values(), *self.beside.values()))

    @property
    def n_pairs(self) -> int:
        return len(next(iter(self.pairs.values())))

    @property
    def context(self) -> Context:
        shapes = {m: tuple(x.tensor.shape[1:]) for m, x in self.inputs.items() if x.form not in ("tokens", "concepts")}
        beside = {m: tuple(x.tensor.shape[1:]) for m, x in self.beside.items()}
        if self.classes is None:
            groups = [torch.from_numpy(np.unique(self.inputs[m].groups[index])) for m, index in self.pairs.items()]
            known = {"n_concepts": self.n_concepts, "groups": groups[0] if groups else None, "beside": beside}
            return Context(shapes, len(self.vocabulary), **known)
        moments = Moments({m: self.inputs[m] for m in shapes if self.inputs[m].form == "vector"})
        source = self.source and self.source.context
        return Context(shapes, len(self.vocabulary), self.classes.count, self.classes.trained, moments, source, beside)

    def transferring_from(self, source: Corpus) -> Corpus:
        """With batches of another data set beside its own.

        Raises
        ------
        UserError : its own items do not answer each other by class.
        """
        if self.classes is None:
            raise UserError("a model that transfers knowledge needs a data set with `relevance: label`")
        found = {f"source.{name}": value for name, value in source.fingerprint.items()}
        return replace(self, source=source, fingerprint=self.fingerprint | found)

    @property
    def criterion(self) -> str:
        """The number on validation items by which an epoch is chosen, of those that `validate` gives."""
        return "recall_sum" if self.classes is None else "map@50_sum"

    def n_rows(self, modalities: tuple[str, ...] | None = None) -> int:
        """Rows of an epoch of batches."""
        return self.n_pairs if self.classes is None else self.classes.size(modalities or tuple(self.inputs))

    def relevance(self, modality: str) -> np.ndarray:
        """(N,) codes of a modality's items: those of two modalities with the same one answer each other."""
        one = self.inputs[modality]
        return one.groups if self.classes is None else one.labels

    def batch(self, picks: torch.Tensor, bare: torch.Tensor | None = None, also: tuple[str, ...] = ()) -> Batch:
        """The training pairs at `picks`, and what is `also` asked for of the images at `bare`."""
        return self.gathered({m: torch.from_numpy(index)[picks] for m, index in self.pairs.items()}, bare, also)

    def gathered(
        self, chosen: dict[str, torch.Tensor], bare: torch.Tensor | None = None, also: tuple[str, ...] = ()
    ) -> Batch:
        """The items at the places `chosen` of each modality, whose rows belong together, and what is `also` asked."""
        inputs, beside, groups, labels = {}, {}, None, None
        for modality, index in chosen.items():
            one = self.inputs[modality]
            inputs[modality] = one.gather(index)
            if modality in self.beside:
                beside[modality] = self.beside[modality].gather(index)
            groups = torch.from_numpy(one.groups)[index]
            labels = None if self.classes is None else torch.from_numpy(one.labels)[index]
        if bare is None:
            return Batch(inputs, groups, labels, beside=beside)
        extra = {name: self.inputs[name].gather(bare) for name in also}
        of_bare = torch.from_numpy(self.inputs["image"].groups)[bare]
        return Batch(inputs, groups, None, extra, of_bare, beside)

    def joined(self, partition: str, size: int) -> Iterator[Batch]:
        """Batches of the items of a partition that have one of their group in every other modality, each joined to it.

        Items of the largest modality come once each; of several of a group in another one the first is taken.
        """
        index = {m: one.where(partition) for m, one in self.inputs.items()}
        base = max(index, key=lambda m: len(index[m]))
        groups = self.inputs[base].groups[index[base]]
        chosen = {base: index[base]}
        for m in index.keys() - {base}:
            place = pd.Series(index[m], index=self.inputs[m].groups[index[m]])
            chosen[m] = place[~place.index.duplicated()].reindex(groups).fillna(-1).to_numpy(dtype=np.int64)
        there = np.stack([*chosen.values()]).min(0) >= 0
        for part in torch.from_numpy(np.flatnonzero(there)).split(size):
            yield self.gathered({m: torch.from_numpy(chosen[m])[part] for m in self.inputs})

    def items(self, modality: str, index: np.ndarray, size: int, *, with_groups: bool = False) -> Iterator[Batch]:
        """Batches of the items at `index` of one modality, for encoding."""
        parts = self._items(modality, index, size, with_groups)
        yield from ahead(parts) if self.waits else parts

    def _items(self, modality: str, index: np.ndarray, size: int, with_groups: bool) -> Iterator[Batch]:
        for start in range(0, len(index), size):
            chosen = torch.from_numpy(index[start : start + size])
            groups = torch.from_numpy(self.relevance(modality))[chosen] if with_groups else None
            beside = {modality: self.beside[modality].gather(chosen)} if modality in self.beside else {}
            yield Batch({modality: self.inputs[modality].gather(chosen)}, groups, beside=beside)


def load(
    folder: Path,
    split: str,
    reads: dict[str, Form],
    extractors: dict[str, str],
    *,
    relevance: Relevance = "group",
    beside: dict[str, tuple[Form, str]] | None = None,
    unannotated: tuple[str, ...] = (),
    min_count: int = 4,
    max_words: int = 82,
    rare_words: RareWords = "mark",
    semantics: Literal["regional", "global", "none"] = "regional",
    expansion: concepts.Expansion = "wordnet",
    vocabulary: Vocabulary | None = None,
    class_vectors: class_items.Vectors = "attributes",
    word_vectors: Path | None = None,
) -> Corpus:
    """Open a prepared data set.

    Parameters
    ----------
    folder : `data/DATASET`. split : name of a file in its `splits`.
    reads : modality to form, as the model declares them. extractors : modality to extractor.
    beside : modality to the second form that it is read in, and to the extractor of that.
    relevance : whether items answer each other by their group, or by their label.
    unannotated : what it wants of images without a caption; with `semantics` what is named in them is read as well.
    semantics : the names of the regions one by one, or of the whole image (002, section 4.6).
    expansion : of captions' words, where the model reads concepts.
    vocabulary : a trained model's own; None builds it from the split's captions.
    class_vectors, word_vectors : what classes are known by, where the model reads them (`training.classes`).

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
        known = balanced.Labels.of(items, split)
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
            fields, fingerprint[modality] = class_items.load(folder, known, class_vectors, word_vectors)
            inputs[modality] = Inputs(**fields)
            continue
        rows = items[items.modality == modality]
        if rows.empty:
            raise UserError(f"{folder / 'items.parquet'}: holds no {modality} items, which the model reads")
        common = {
            "ids": rows.item_id.to_numpy(dtype=object),
            "groups": rows.group_id.map(codes).to_numpy(dtype=np.int64),
            "partition": rows.partition.to_numpy(dtype=object),
            "form": form,
            "labels": None if known is None else known.encode(rows.label),
        }
        if modality in spoken:
            tokens = read_parquet(folder / "tokens.parquet").set_index("item_id").tokens.reindex(rows.item_id)
            if tokens.isna().any():
                raise UserError(
                    f"{folder / 'tokens.parquet'}: lacks captions of items.parquet; delete it and run again"
                )
        if form == "concepts":
            if modality in spoken:
                found = concepts.of_captions(tokens, names, _expansion(folder, expansion))
            else:
                fingerprint[f"{modality}.{extractors[modality]}"] = arrays[modality].manifest["sha256"]
                found = concepts.of_regions(arrays[modality].index.set_index("item_id").loc[rows.item_id], names)
            ids, scores = map(torch.from_numpy, found)
            inputs[modality] = Inputs(tensor=ids, scores=scores, rows=torch.arange(len(ids)), **common)
            continue
        if form == "tokens":
            if vocabulary is None:
                read = [*tokens.loc[tokens.index.isin(trained) if known else trained]]
                read += [] if named is None else [*named.tokens[named.partition == "train"]]
                vocabulary = Vocabulary.build(read, min_count)
            fingerprint["vocabulary"] = sha256_bytes("\n".join(vocabulary.words).encode())
            inputs[modality] = Inputs(**_encoded(vocabulary, tokens, max_words, rare_words), **common)
            continue
        fingerprint[f"{modality}.{extractors[modality]}"] = arrays[modality].manifest["sha256"]
        inputs[modality] = Inputs(**_cached(arrays[modality], common["ids"], form), **common)
        if beside and modality in beside:
            form, extractor = beside[modality]
            fingerprint[f"{modality}.{extractor}"] = second[modality].manifest["sha256"]
            others[modality] = Inputs(**_cached(second[modality], common["ids"], form), **{**common, "form": form})
    vocabulary = vocabulary or Vocabulary.build([])
    place = {m: pd.Series(np.arange(len(x.ids)), index=x.ids) for m, x in inputs.items()}
    classes = None
    if known is None:
        columns = {"image": "image_id", "text": "caption_id"}
        paired = {m: place[m].loc[annotated[columns[m]]].to_numpy(dtype=np.int64) for m in inputs if m in columns}
    else:
        rows = {m: np.flatnonzero(pd.Index(x.ids).isin(trained)) for m, x in inputs.items()}
        rows |= {m: x.where("train") for m, x in inputs.items() if x.form == "classes"}
        classes = balanced.Classes.of(known, rows, inputs)
        paired = classes.paired()
    bare = place["image"].loc[bare].to_numpy(dtype=np.int64) if "image" in inputs else np.empty(0, dtype=np.int64)
    if named is not None:
        of_image = inputs["image"]
        encoded = _encoded(vocabulary, named.tokens, max_words, rare_words)
        inputs["semantics"] = Inputs(of_image.ids, of_image.groups, of_image.partition, form="tokens", **encoded)
    return Corpus(inputs, paired, bare, vocabulary, fingerprint, classes, beside=others, n_concepts=len(names))


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
    regions = read_json(folder / "items.json").get("regions") or {}
    log.info("captions' words are expanded by the data set's own synonyms and plurals, not by WordNet")
    return concepts.own(regions.get("synonyms") or {})


def _encoded(
    vocabulary: Vocabulary, tokens: pd.Series, max_words: int, rare_words: RareWords
) -> dict[str, torch.Tensor]:
    ids, lengths = vocabulary.encode(tokens.to_list(), max_words, rare_words)
    return {"tensor": torch.from_numpy(ids), "rows": torch.arange(len(ids)), "lengths": torch.from_numpy(lengths)}


def _open(folder: Path, modality: str, form: Form, extractors: dict[str, str]) -> Features:
    if modality not in extractors:
        raise UserError(
            f"params.yaml: scales.*.inputs: the model reads {modality} features, but no extractor is named for them"
        )
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


def batches(
    corpus: Corpus,
    size: int,
    seed: int,
    epoch: int,
    unannotated: tuple[str, ...] = (),
    device: torch.device | None = None,
    modalities: tuple[str, ...] | None = None,
    steps: int = 0,
) -> Iterator[Batch]:
    """One epoch of shuffled batches, a function of (seed, epoch) alone; the last may be smaller.

    A lone pair has no negative, so it is left out. Data with classes has as many rows an epoch as the largest of its
    `modalities` has training items, each class as often as any other.

    Parameters
    ----------
    steps : batches, for which the pairs are shuffled and gone through as often as it takes; 0: once.
    """
    if corpus.classes is not None:
        made = _rows(corpus, size, seed, epoch, modalities)
    else:
        made = _batches(corpus, size, seed, epoch, unannotated, steps)
    for batch in ahead(made) if corpus.waits else made:
        yield batch if device is None else batch.to(device)


def steps_of(corpus: Corpus, size: int, modalities: tuple[str, ...] | None = None, steps: int = 0) -> int:
    """Batches of an epoch, of which `steps` may be asked for where there are pairs."""
    rows = corpus.n_rows(modalities)
    return steps if steps and corpus.classes is None else rows // size + (rows % size > 1)


def _picks(n: int, size: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Numbers below `n` in shuffled batches: once all of them, or so many batches."""
    made = 0
    while made < max(steps, 1) and n > 1:
        parts = [part for part in torch.randperm(n, generator=generator).split(size) if len(part) > 1]
        yield from parts[: steps - made] if steps else parts
        made += len(parts)


def _batches(
    corpus: Corpus, size: int, seed: int, epoch: int, unannotated: tuple[str, ...], steps: int
) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    for picks in _picks(corpus.n_pairs, size, steps, generator):
        bare = None
        if unannotated:  # in `full` nothing is, and the pairs' own images play the part
            pool = torch.from_numpy(corpus.unannotated if len(corpus.unannotated) else corpus.pairs["image"])
            bare = pool[torch.randint(len(pool), (len(picks),), generator=generator)]
        yield corpus.batch(picks, bare, unannotated)


def _rows(corpus: Corpus, size: int, seed: int, epoch: int, modalities: tuple[str, ...] | None) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    chosen = corpus.classes.draw(modalities or tuple(corpus.inputs), generator)
    parts = {m: index.split(size) for m, index in chosen.items()}
    further = None if corpus.source is None else _endless(corpus.source, size, generator)
    for place, first in enumerate(next(iter(parts.values()))):
        if len(first) >= 2:
            batch = corpus.gathered({m: pieces[place] for m, pieces in parts.items()})
            yield batch if further is None else replace(batch, source=next(further))


def _endless(corpus: Corpus, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Whole batches of class-balanced rows, one epoch after another."""
    while True:
        chosen = corpus.classes.draw(tuple(corpus.inputs), generator)
        for start in range(0, max(1, corpus.n_rows() - size + 1), size):
            yield corpus.gathered({m: index[start : start + size] for m, index in chosen.items()})


def ahead(made: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each made by another thread while the one before it is used."""
    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(next, made, None)
        while (batch := upcoming.result()) is not None:
            upcoming = worker.submit(next, made, None)
            yield batch
