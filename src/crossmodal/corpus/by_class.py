"""Data with relevance by class: the labels of items, and training rows with one item per modality, all of one class.

Rows are drawn in one of two ways (`models.parts.labelled.Sampling`). `shuffled` traverses every item once per epoch:
the CVS thesis, section 3.1.B, continues "till we have traversed through the entire dataset", and the published programs
of DSCMR and ACMR take the items one after another. `balanced` is class-balanced sampling, which draws all classes
equally often, whatever the sizes of classes and modalities, so that an epoch leaves out items of large classes; the
program of CM-GANs draws so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus import splits
from crossmodal.datasets.items import labels_of, several_labels
from crossmodal.models.parts.labelled import Sampling

if TYPE_CHECKING:
    from crossmodal.corpus.inputs import Inputs

CHUNK = 4096  # number of rows over which moments are summed at a time


@dataclass(frozen=True)
class Labels:
    """The classes of a data set as codes: first those of the training partition, sorted, then the unseen ones."""

    names: list[str]  # of the classes, by code
    count: int  # number of classes of the training partition
    trained: tuple[int, ...]  # codes of the classes on which the subset trains
    first: tuple[int, ...]  # codes of the classes of the first stage, where classes are trained in stages
    tested: tuple[int, ...]  # codes of the classes of the test items
    several: bool = False  # whether items have several classes (`datasets.items.encoded_labels`)
    rank: tuple[int, ...] = ()  # with several classes per item: rank of each class, the rarest in training first

    @classmethod
    def of(cls, items: pd.DataFrame, split: str, stages: Sequence[int] = ()) -> Labels:
        """The classes of the rows of `items.parquet` under a subset.

        Parameters
        ----------
        stages : the sizes of the groups of classes for a subset `classesIofN` (`splits.class_groups`).

        Raises
        ------
        UserError : a subset in stages for items with several classes, or classes that cannot be grouped so.
        """
        if several_labels(items.label):
            return cls._of_several(items, split)
        train = items.label[items.partition == "train"].dropna()
        seen_names = sorted(train.unique())
        names = seen_names + sorted(set(items.label.dropna()) - set(seen_names))
        number = splits.stage(split)
        groups = splits.class_groups(train, number[1], stages) if number else [seen_names]
        place = {name: code for code, name in enumerate(names)}
        trained, first = groups[number[0] - 1] if number else seen_names, groups[0] if number else []
        tested = sorted(place[n] for n in items.label[items.partition == "test"].dropna().unique())
        return cls(
            names, len(seen_names), tuple(place[n] for n in trained), tuple(place[n] for n in first), tuple(tested)
        )

    @classmethod
    def _of_several(cls, items: pd.DataFrame, split: str) -> Labels:
        if splits.stage(split):
            raise UserError(f"split {split!r}: items of several classes cannot be trained on in stages; use `full`")
        train, test = (items.label[items.partition == part].map(labels_of).explode() for part in ("train", "test"))
        counts = train.value_counts()
        seen_names = sorted(counts.index)
        names = seen_names + sorted(set(items.label.map(labels_of).explode().dropna()) - set(seen_names))
        place = {name: code for code, name in enumerate(names)}
        order = np.argsort([counts.get(name, len(items) + 1) for name in names], kind="stable")
        rank = np.empty(len(names), np.int64)
        rank[order] = np.arange(len(names))
        tested = sorted({place[name] for name in test.dropna()})
        return cls(names, len(seen_names), tuple(range(len(seen_names))), (), tuple(tested), True, tuple(rank.tolist()))

    def sets(self, labels: pd.Series) -> np.ndarray | None:
        """(N, C) zeros and ones for the classes of each item; None if every item has one class."""
        if not self.several:
            return None
        place = {name: code for code, name in enumerate(self.names)}
        codes, texts = pd.factorize(labels)
        table = np.zeros((len(texts) + 1, len(self.names)), np.uint8)  # the last row is for no class, coded as -1
        for row, text in enumerate(texts):
            table[row, [place[name] for name in labels_of(text)]] = 1
        return table[codes]

    def rarest(self, sets: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """(N,) int64 rarest class of each item (with the fewest training items) among those `allowed`; -1 for none."""
        rank = np.array(self.rank)
        if allowed is not None:
            rank = np.where(allowed, rank, len(rank))
        return _first(sets, rank)

    def encode(self, labels: pd.Series) -> np.ndarray:
        """(N,) int64 class of each item, the rarest of several; -1 for an item without a class."""
        if self.several:
            return self.rarest(self.sets(labels))
        return pd.Categorical(labels, categories=self.names).codes.astype(np.int64)

    def restricted(self, items: pd.DataFrame) -> pd.DataFrame:
        """`items` without the validation items of classes on which the subset does not train.

        Items without a class, which are relevant to no query, are left out of validation and test too.
        """
        codes = self.encode(items.label)
        untrained = (items.partition == "val") & ~np.isin(codes, self.trained)
        return items[~untrained & ~((items.partition != "train") & (codes < 0))]


@dataclass(frozen=True)
class Classes:
    """A subset's training items by class, in each modality."""

    count: int  # number of classes of the training partition
    trained: tuple[int, ...]  # codes of the classes on which the subset trains
    first: tuple[int, ...]  # codes of the classes of the first stage
    items: dict[str, np.ndarray]  # modality to (N,) indices of its training items, sorted by class
    kinds: dict[str, np.ndarray]  # modality to the (N,) position of each item's class in `trained`, or in `several`
    paired_items: dict[tuple[str, str], np.ndarray]  # modalities A, B to the B item in each A item's group, or -1
    several: tuple[int, ...] = ()  # with several classes per item: the classes for which rows are drawn
    every: Classes | None = None  # with several classes per item: each item listed under all its classes

    @classmethod
    def of(cls, labels: Labels, rows: dict[str, np.ndarray], inputs: Mapping[str, Inputs]) -> Classes:
        """Sort the training items by class.

        Parameters
        ----------
        rows : modality to the indices of the subset's training items.

        Raises
        ------
        UserError : a modality without an item of some class.
        """
        if labels.several:
            return cls._of_several(labels, rows, inputs)
        order = {m: rows[m][np.argsort(inputs[m].labels[rows[m]], kind="stable")] for m in rows}
        kinds = {m: np.searchsorted(labels.trained, inputs[m].labels[order[m]]) for m in rows}
        for m, positions in kinds.items():
            absent = set(range(len(labels.trained))) - set(positions.tolist())
            if absent:
                name = labels.names[labels.trained[min(absent)]]
                raise UserError(
                    f"items.parquet: no {m} item of class {name!r} to train on; models read {', '.join(rows)}"
                )
        joined = {(a, b): paired_items(inputs[a], inputs[b], order[b]) for a in rows for b in rows if a != b}
        return cls(labels.count, labels.trained, labels.first, order, kinds, joined)

    @classmethod
    def _of_several(cls, labels: Labels, rows: dict[str, np.ndarray], inputs: Mapping[str, Inputs]) -> Classes:
        """List each item under its rarest class among those of which every modality has items.

        `every` lists it under all its classes, for class-balanced sampling, where all classes are drawn equally often.
        """
        sets = {m: inputs[m].sets[rows[m]] for m in rows}
        allowed = np.isin(np.arange(len(labels.names)), labels.trained)
        while True:
            codes = {m: labels.rarest(of, allowed) for m, of in sets.items()}
            class_sets = [set(of[of >= 0].tolist()) for of in codes.values()]
            partial = set.union(*class_sets) - set.intersection(*class_sets)
            if not partial:
                break
            allowed[[*partial]] = False
        for m, of in codes.items():
            if (of < 0).any():
                lone = inputs[m].ids[rows[m][np.argmax(of < 0)]]
                raise UserError(
                    f"items.parquet: {m} item {lone!r} has no class that items of {', '.join(rows)} are trained on in"
                )
        drawn = tuple(sorted(class_sets[0]))
        order = {m: np.argsort(of, kind="stable") for m, of in codes.items()}
        items = {m: rows[m][order[m]] for m in rows}
        kinds = {m: np.searchsorted(drawn, codes[m][order[m]]) for m in rows}
        joined = {(a, b): paired_items(inputs[a], inputs[b], items[b]) for a in rows for b in rows if a != b}
        shared = tuple(int(n) for n in np.flatnonzero(np.stack([of.any(0) for of in sets.values()]).all(0)))
        under = {m: np.nonzero(of[:, list(shared)].T) for m, of in sets.items()}  # (classes, items), by class
        every = cls(
            labels.count,
            labels.trained,
            labels.first,
            {m: rows[m][place] for m, (_, place) in under.items()},
            {m: kind for m, (kind, _) in under.items()},
            joined,
            shared,
        )
        return cls(labels.count, labels.trained, labels.first, items, kinds, joined, drawn, every)

    def paired(self) -> dict[str, np.ndarray]:
        """The rows for closed-form systems, class by class, with the items of each modality in their stored order.

        Returns
        -------
        Modality to (N,) indices; row i of all modalities is of one class.
        """
        return self._joined(self.items)

    def draw(
        self, modalities: tuple[str, ...], generator: torch.Generator, sampling: Sampling = "shuffled"
    ) -> dict[str, torch.Tensor]:
        """Draw the rows of an epoch, as many as `size` returns.

        Within a class the items come in random order, and all of them before any is repeated. An item that has an item
        of its own group in another modality (an image with its text) is joined with that, others with an item of their
        class.

        Returns
        -------
        Modality to (N,) indices; row i of all modalities is of one class.
        """
        n = self.size(modalities)
        if sampling == "balanced" and self.every is not None:
            return self.every._drawn(modalities, generator, sampling, n)
        return self._drawn(modalities, generator, sampling, n)

    def _drawn(
        self, modalities: tuple[str, ...], generator: torch.Generator, sampling: Sampling, n: int
    ) -> dict[str, torch.Tensor]:
        mixed = {}
        for m in modalities:
            noise = torch.rand(len(self.items[m]), generator=generator, dtype=torch.float64).numpy()
            mixed[m] = self.items[m][np.lexsort((noise, self.kinds[m]))]
        rows = self._shuffled(mixed, generator) if sampling == "shuffled" else self._balanced(mixed, generator, n)
        return {m: torch.from_numpy(places) for m, places in rows.items()}

    def _shuffled(self, items: dict[str, np.ndarray], generator: torch.Generator) -> dict[str, np.ndarray]:
        """The rows of `_joined` in random order."""
        order = torch.randperm(self.size(tuple(items)), generator=generator).numpy()
        return {m: places[order] for m, places in self._joined(items).items()}

    def _balanced(self, items: dict[str, np.ndarray], generator: torch.Generator, n: int) -> dict[str, np.ndarray]:
        """`n` rows that traverse all classes once in random order, then again; each has an item of every modality."""
        modalities = tuple(items)
        base = max(modalities, key=lambda m: len(items[m]))
        n_kinds = len(self.several or self.trained)
        turns = -(-n // n_kinds)
        kind = torch.rand(turns, n_kinds, generator=generator).argsort(1).flatten()[:n].numpy()
        occurrence = np.arange(n) // n_kinds
        rows = {}
        for m in (base, *(m for m in modalities if m != base)):
            counts = self._counts(m)
            starts = np.cumsum(counts) - counts
            rows[m] = items[m][starts[kind] + occurrence % counts[kind]]
            if m != base:
                partners = self.paired_items[base, m][rows[base]]
                rows[m] = np.where(partners >= 0, partners, rows[m])
        return {m: rows[m] for m in modalities}

    def _joined(self, items: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows in which each item of a class's largest modality occurs once, joined with items of its group or class.

        The items of a smaller modality that share no group with the largest one are used first, and all of them before
        any is repeated. So every item of every modality has a row, unless many items of the largest modality share a
        group (sentences of one image) and leave no row for items of other groups.

        Parameters
        ----------
        items : modality to (N,) indices, sorted by class and, within a class, in the order in which they are used.
        """
        ends = {m: np.cumsum(self._counts(m)) for m in items}
        rows: dict[str, list[np.ndarray]] = {m: [] for m in items}
        for kind in range(len(self.several or self.trained)):
            of = {m: items[m][end[kind - 1] if kind else 0 : end[kind]] for m, end in ends.items()}
            base = max(of, key=lambda m: len(of[m]))
            for m, places in of.items():
                if m == base:
                    rows[m].append(places)
                    continue
                partners = self.paired_items[base, m][of[base]]
                taken = np.isin(places, partners)
                turn = np.concatenate([places[~taken], places[taken]])
                rows[m].append(np.where(partners >= 0, partners, turn[(np.cumsum(partners < 0) - 1) % len(turn)]))
        return {m: np.concatenate(parts) for m, parts in rows.items()}

    def subsets(self, present: set[int]) -> dict[str, list[int]]:
        """The protocols `seen`, `unseen` and `first` (stage) with those of their classes that are in `present`."""
        unseen = [code for code in present if code >= self.count]
        seen = [code for code in present if code < self.count] if unseen else []
        protocols = {"seen": seen, "unseen": unseen, "first": [code for code in self.first if code in present]}
        return {name: sorted(codes) for name, codes in protocols.items() if codes}

    def size(self, modalities: tuple[str, ...]) -> int:
        """The number of rows of an epoch: the sum over classes of the items in the class's largest modality."""
        return int(np.max([self._counts(m) for m in modalities], axis=0).sum())

    def _counts(self, modality: str) -> np.ndarray:
        """(C,) number of items of the modality in each class for which rows are drawn."""
        return np.bincount(self.kinds[modality], minlength=len(self.several or self.trained))


def _first(sets: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """(N,) class of the smallest `rank` in each row of (N, C) zeros and ones; -1 where no rank is below C."""
    order = np.argsort(rank, kind="stable")[: int((rank < len(rank)).sum())]
    if not len(order):
        return np.full(len(sets), -1)
    inside = sets[:, order] > 0
    return np.where(inside.any(1), order[inside.argmax(1)], -1)


def shared_classes(sets: Sequence[np.ndarray]) -> np.ndarray:
    """(B, C) float32 zeros and ones for the classes of each row: those that all its items share, or else all of them.

    Parameters
    ----------
    sets : (B, C) zeros and ones for the classes of the items of each modality.
    """
    both, any_ = np.minimum.reduce(sets), np.maximum.reduce(sets)
    return np.where(both.any(1, keepdims=True), both, any_).astype(np.float32)


def paired_items(inputs: Inputs, others: Inputs, rows: np.ndarray) -> np.ndarray:
    """(N,) index of the first of the other modality's items `rows` with the same group as each item; -1 for none."""
    place = pd.Series(rows, index=others.groups[rows])
    place = place[~place.index.duplicated()]
    return place.reindex(inputs.groups).fillna(-1).to_numpy(dtype=np.int64)


class FeatureStatistics(Mapping):
    """Modality to the (D,) mean and standard deviation of its training vectors, computed on access in float64."""

    def __init__(self, inputs: Mapping[str, Inputs]):
        self.inputs = dict(inputs)

    def __getitem__(self, modality: str) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = self.inputs[modality]
        index = torch.from_numpy(vectors.where("train"))
        mean = sum(vectors.gather(part).double().sum(0) for part in index.split(CHUNK)) / len(index)
        variance = sum(((vectors.gather(part).double() - mean) ** 2).sum(0) for part in index.split(CHUNK)) / len(index)
        return mean.float(), variance.sqrt().float()

    def __iter__(self) -> Iterator[str]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)
