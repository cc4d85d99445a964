"""Data whose items answer each other by class: their labels, and rows that hold an item of one class in each modality.

Rows are drawn in two ways (`models.parts.labelled.Sampling`). `shuffled` passes every item once an epoch: section 3.1.B
of the CVS thesis goes on "till we have traversed through the entire dataset", and the programs of DSCMR and ACMR take
the items one after another. `balanced` draws every class as often as any other, whatever the sizes of classes and
modalities, so that an epoch leaves out items of large classes; it is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from crossmodal.corpus import splits
from crossmodal.datasets.items import labels_of, several_labels
from crossmodal.errors import UserError
from crossmodal.models.parts.labelled import Sampling

if TYPE_CHECKING:
    from crossmodal.corpus.inputs import Inputs

CHUNK = 4096  # rows that moments are summed over at a time


@dataclass(frozen=True)
class Labels:
    """The classes of a data set as numbers: first those of the training partition, sorted, then the unseen ones."""

    names: list[str]
    count: int  # of the training partition
    trained: tuple[int, ...]  # of the split
    first: tuple[int, ...]  # of the first stage, where classes come in stages
    tested: tuple[int, ...]  # those that test items are of
    several: bool = False  # items are of several classes (`datasets.items.encoded_labels`)
    rank: tuple[int, ...] = ()  # then of each class its place among them, that of the fewest training items first

    @classmethod
    def of(cls, items: pd.DataFrame, split: str, stages: Sequence[int] = ()) -> Labels:
        """`stages`: sizes of the groups of classes of a split `classesIofN` (`splits.class_groups`)."""
        if several_labels(items.label):
            return cls._of_several(items, split)
        train = items.label[items.partition == "train"].dropna()
        seen = sorted(train.unique())
        names = seen + sorted(set(items.label.dropna()) - set(seen))
        number = splits.stage(split)
        groups = splits.class_groups(train, number[1], stages) if number else [seen]
        place = {name: code for code, name in enumerate(names)}
        trained, first = groups[number[0] - 1] if number else seen, groups[0] if number else []
        tested = sorted(place[n] for n in items.label[items.partition == "test"].dropna().unique())
        return cls(names, len(seen), tuple(place[n] for n in trained), tuple(place[n] for n in first), tuple(tested))

    @classmethod
    def _of_several(cls, items: pd.DataFrame, split: str) -> Labels:
        if splits.stage(split):
            raise UserError(f"split {split!r}: items of several classes cannot come in stages; use `full`")
        train, test = (items.label[items.partition == part].map(labels_of).explode() for part in ("train", "test"))
        counts = train.value_counts()
        seen = sorted(counts.index)
        names = seen + sorted(set(items.label.map(labels_of).explode().dropna()) - set(seen))
        place = {name: code for code, name in enumerate(names)}
        order = np.argsort([counts.get(name, len(items) + 1) for name in names], kind="stable")
        rank = np.empty(len(names), np.int64)
        rank[order] = np.arange(len(names))
        tested = sorted({place[name] for name in test.dropna()})
        return cls(names, len(seen), tuple(range(len(seen))), (), tuple(tested), True, tuple(rank.tolist()))

    def sets(self, labels: pd.Series) -> np.ndarray | None:
        """(N, C) zeros and ones of the classes of each item; None where every item is of one."""
        if not self.several:
            return None
        place = {name: code for code, name in enumerate(self.names)}
        codes, texts = pd.factorize(labels)
        table = np.zeros((len(texts) + 1, len(self.names)), np.uint8)  # the last: no class, factorised as -1
        for row, text in enumerate(texts):
            table[row, [place[name] for name in labels_of(text)]] = 1
        return table[codes]

    def rarest(self, sets: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """(N,) int64 the class of each item that has the fewest training items, of those `allowed`; -1 for none."""
        rank = np.array(self.rank)
        if allowed is not None:
            rank = np.where(allowed, rank, len(rank))
        return _first(sets, rank)

    def encode(self, labels: pd.Series) -> np.ndarray:
        """(N,) int64, -1 for an item without a class; of several the rarest."""
        if self.several:
            return self.rarest(self.sets(labels))
        return pd.Categorical(labels, categories=self.names).codes.astype(np.int64)

    def restricted(self, items: pd.DataFrame) -> pd.DataFrame:
        """`items` without validation items of classes that the split does not train on: runs are selected by the rest.

        Items without a class, which answer nothing, are left out of validation and test too.
        """
        codes = self.encode(items.label)
        gone = (items.partition == "val") & ~np.isin(codes, self.trained)
        return items[~gone & ~((items.partition != "train") & (codes < 0))]


@dataclass(frozen=True)
class Classes:
    """A split's training items by class, in each modality."""

    count: int  # classes of the training partition
    trained: tuple[int, ...]
    first: tuple[int, ...]
    items: dict[str, np.ndarray]  # modality to (N,) places of its items, sorted by class
    kinds: dict[str, np.ndarray]  # modality to their (N,) places in `trained`, or in `several`
    mates: dict[tuple[str, str], np.ndarray]  # two modalities to what an item of one has of its group in the other; -1
    several: tuple[int, ...] = ()  # of items of several classes those that rows are drawn of; else they are `trained`
    every: Classes | None = None  # of items of several classes: each item under all its classes

    @classmethod
    def of(cls, labels: Labels, rows: dict[str, np.ndarray], inputs: Mapping[str, Inputs]) -> Classes:
        """`rows`: modality to the places of the split's training items.

        Raises
        ------
        UserError : a modality without an item of a class.
        """
        if labels.several:
            return cls._of_several(labels, rows, inputs)
        order = {m: rows[m][np.argsort(inputs[m].labels[rows[m]], kind="stable")] for m in rows}
        kinds = {m: np.searchsorted(labels.trained, inputs[m].labels[order[m]]) for m in rows}
        for m, found in kinds.items():
            gone = set(range(len(labels.trained))) - set(found.tolist())
            if gone:
                name = labels.names[labels.trained[min(gone)]]
                raise UserError(
                    f"items.parquet: no {m} item of class {name!r} to train on; models read {', '.join(rows)}"
                )
        joined = {(a, b): mates(inputs[a], inputs[b], order[b]) for a in rows for b in rows if a != b}
        return cls(labels.count, labels.trained, labels.first, order, kinds, joined)

    @classmethod
    def _of_several(cls, labels: Labels, rows: dict[str, np.ndarray], inputs: Mapping[str, Inputs]) -> Classes:
        """Each item under its rarest class, of those that every modality has items of.

        `every` has it under all its classes, for rows that are balanced: there all classes are drawn alike.
        """
        sets = {m: inputs[m].sets[rows[m]] for m in rows}
        allowed = np.isin(np.arange(len(labels.names)), labels.trained)
        while True:
            codes = {m: labels.rarest(of, allowed) for m, of in sets.items()}
            found = [set(of[of >= 0].tolist()) for of in codes.values()]
            gone = set.union(*found) - set.intersection(*found)
            if not gone:
                break
            allowed[[*gone]] = False
        for m, of in codes.items():
            if (of < 0).any():
                lone = inputs[m].ids[rows[m][np.argmax(of < 0)]]
                raise UserError(
                    f"items.parquet: {m} item {lone!r} has no class that items of {', '.join(rows)} are trained on in"
                )
        drawn = tuple(sorted(found[0]))
        order = {m: np.argsort(of, kind="stable") for m, of in codes.items()}
        items = {m: rows[m][order[m]] for m in rows}
        kinds = {m: np.searchsorted(drawn, codes[m][order[m]]) for m in rows}
        joined = {(a, b): mates(inputs[a], inputs[b], items[b]) for a in rows for b in rows if a != b}
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
        """Rows for a closed form, class by class: those of `_joined`, each modality's items in their stored order.

        Returns
        -------
        Modality to (N,) places.
        """
        return self._joined(self.items)

    def draw(
        self, modalities: tuple[str, ...], generator: torch.Generator, sampling: Sampling = "shuffled"
    ) -> dict[str, torch.Tensor]:
        """An epoch's rows, `size` of them. Within a class its items come in random order, all before one comes again.

        What has an item of its own group in another modality (a text of its image) is joined with that, what has none
        with an item of its class.

        Returns
        -------
        Modality to (N,) places.
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
        """`n` rows of every class once, and again, in turn; each row has an item of every modality."""
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
                own = self.mates[base, m][rows[base]]
                rows[m] = np.where(own >= 0, own, rows[m])
        return {m: rows[m] for m in modalities}

    def _joined(self, items: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows in which each item of a class's largest modality comes once, joined with its own or others of the class.

        Of a modality that is smaller there, those that no item of the largest belongs to come first and all of the
        class before one comes again: every item of every modality has a row, unless many items of the largest share
        their group (sentences of one image) and leave no row for what belongs to none of them.

        Parameters
        ----------
        items : modality to (N,) places, sorted by class; within a class in the order in which they are taken.
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
                own = self.mates[base, m][of[base]]
                taken = np.isin(places, own)
                turn = np.concatenate([places[~taken], places[taken]])
                rows[m].append(np.where(own >= 0, own, turn[(np.cumsum(own < 0) - 1) % len(turn)]))
        return {m: np.concatenate(parts) for m, parts in rows.items()}

    def subsets(self, known: set[int]) -> dict[str, list[int]]:
        """Protocols of some of the classes `known` among test items: `seen`, `unseen`, and the `first` stage's."""
        unseen = [code for code in known if code >= self.count]
        seen = [code for code in known if code < self.count] if unseen else []
        found = {"seen": seen, "unseen": unseen, "first": [code for code in self.first if code in known]}
        return {name: sorted(codes) for name, codes in found.items() if codes}

    def size(self, modalities: tuple[str, ...]) -> int:
        """Rows of an epoch: of each class the items of its largest modality."""
        return int(np.max([self._counts(m) for m in modalities], axis=0).sum())

    def _counts(self, modality: str) -> np.ndarray:
        """(classes that are drawn,) items of each."""
        return np.bincount(self.kinds[modality], minlength=len(self.several or self.trained))


def _first(sets: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """(N,) of the classes in each row of (N, C) zeros and ones that of the least `rank`; -1 where none is below C."""
    order = np.argsort(rank, kind="stable")[: int((rank < len(rank)).sum())]
    if not len(order):
        return np.full(len(sets), -1)
    inside = sets[:, order] > 0
    return np.where(inside.any(1), order[inside.argmax(1)], -1)


def shared_classes(sets: Sequence[np.ndarray]) -> np.ndarray:
    """(B, C) float32 of the classes that a row is of: those that its items share, or all where they share none."""
    both, any_ = np.minimum.reduce(sets), np.maximum.reduce(sets)
    return np.where(both.any(1, keepdims=True), both, any_).astype(np.float32)


def mates(inputs: Inputs, others: Inputs, rows: np.ndarray) -> np.ndarray:
    """(N,) of all items the first place among `rows` of the other modality with the same group; -1 for none."""
    place = pd.Series(rows, index=others.groups[rows])
    place = place[~place.index.duplicated()]
    return place.reindex(inputs.groups).fillna(-1).to_numpy(dtype=np.int64)


class Moments(Mapping):
    """Modality to the (D,) mean and standard deviation of its training items' vectors, summed in float64 when asked."""

    def __init__(self, inputs: Mapping[str, Inputs]):
        self.inputs = dict(inputs)

    def __getitem__(self, modality: str) -> tuple[torch.Tensor, torch.Tensor]:
        one = self.inputs[modality]
        index = torch.from_numpy(one.where("train"))
        mean = sum(one.gather(part).double().sum(0) for part in index.split(CHUNK)) / len(index)
        variance = sum(((one.gather(part).double() - mean) ** 2).sum(0) for part in index.split(CHUNK)) / len(index)
        return mean.float(), variance.sqrt().float()

    def __iter__(self) -> Iterator[str]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)
