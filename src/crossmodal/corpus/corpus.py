"""A data set in memory or on the disk, as it is trained and tested on: inputs per modality, gathered by index.

What belongs together is told by groups (an image and its captions) or by classes. `corpus.opening` opens one,
`corpus.batches` draws what is trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from crossmodal.corpus.by_class import Classes, Moments, mates, shared_classes
from crossmodal.corpus.inputs import Inputs, OnDisk
from crossmodal.errors import UserError
from crossmodal.models.base import Batch, Context
from crossmodal.text import Vocabulary


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

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that items are of, in the model's order: not the further inputs, which are no items of their own."""
        return tuple(self.pairs)

    @property
    def waits(self) -> bool:
        """Whether a batch is worth reading while the one before it is computed on."""
        return any(isinstance(one.tensor, OnDisk) for one in (*self.inputs.values(), *self.beside.values()))

    @property
    def n_pairs(self) -> int:
        return len(next(iter(self.pairs.values())))

    @property
    def context(self) -> Context:
        shapes = {m: tuple(x.tensor.shape[1:]) for m, x in self.inputs.items() if x.form.sized}
        n_concepts = max((x.n_concepts for x in self.inputs.values()), default=0)
        if self.classes is None:
            groups = [torch.from_numpy(np.unique(self.inputs[m].groups[index])) for m, index in self.pairs.items()]
            known = {"n_concepts": n_concepts, "groups": groups[0] if groups else None}
            return Context(shapes, len(self.vocabulary), **known)
        moments = Moments({m: self.inputs[m] for m in shapes if self.inputs[m].form.moments})
        source = self.source and self.source.context
        known = {"n_concepts": n_concepts, "source": source}
        return Context(shapes, len(self.vocabulary), self.classes.count, self.classes.trained, moments, **known)

    def sampled(self, count: int) -> Corpus:
        """The same with at most `count` items of each modality to validate and to test on; the others are left out.

        Groups are kept whole or not at all. Of classes each keeps as many items as any other, as far as it goes, and at
        least two.
        """
        kept: dict[str, Inputs] = {}
        for modality, one in self.inputs.items():
            if not one.form.of_items:  # all of them are ranked
                kept[modality] = one
                continue
            partition = one.partition.copy()
            for name in ("val", "test"):
                places = one.where(name)
                if self.classes is None:
                    numbers = np.unique(one.groups[places], return_inverse=True)[1]
                    partition[places[numbers >= count]] = "left out"
                else:
                    labels = one.labels[places]
                    within = pd.Series(labels).groupby(labels).cumcount().to_numpy()
                    most = max(count, 2 * len(np.unique(labels)))
                    partition[places[np.lexsort((labels, within))[most:]]] = "left out"
            kept[modality] = replace(one, partition=partition)
        return replace(self, inputs=kept)

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

    def n_rows(self, modalities: tuple[str, ...] | None = None) -> int:
        """Rows of an epoch of batches."""
        return self.n_pairs if self.classes is None else self.classes.size(modalities or tuple(self.inputs))

    def relevance(self, modality: str) -> np.ndarray:
        """(N,) codes of a modality's items: those of two modalities with the same one answer each other.

        Where items are of several classes (N, C) zeros and ones: those that share a class answer each other.
        """
        one = self.inputs[modality]
        if one.sets is not None:
            return one.sets
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
        if labels is not None and one.sets is not None:
            sets = [self.inputs[m].sets[index.numpy(), : self.classes.count] for m, index in chosen.items()]
            labels = torch.from_numpy(shared_classes(sets))
        if bare is None:
            return Batch(inputs, groups, labels, beside=beside)
        extra = {name: self.inputs[name].gather(bare) for name in also}
        return Batch(inputs, groups, None, extra, beside=beside)

    def joined(self, partition: str, size: int) -> Iterator[Batch]:
        """Batches of the items of a partition that have one of their group in every other modality, each joined to it.

        Items of the largest modality come once each; of several of a group in another one the first is taken.
        """
        index = {m: one.where(partition) for m, one in self.inputs.items()}
        base = max(index, key=lambda m: len(index[m]))
        chosen = {base: index[base]}
        for m in index.keys() - {base}:
            chosen[m] = mates(self.inputs[base], self.inputs[m], index[m])[index[base]]
        there = np.stack([*chosen.values()]).min(0) >= 0
        for part in torch.from_numpy(np.flatnonzero(there)).split(size):
            yield self.gathered({m: torch.from_numpy(chosen[m])[part] for m in self.inputs})

    def items(self, modality: str, index: np.ndarray, size: int) -> Iterator[Batch]:
        """Batches of the items at `index` of one modality, for encoding."""
        parts = self._items(modality, index, size)
        yield from ahead(parts) if self.waits else parts

    def _items(self, modality: str, index: np.ndarray, size: int) -> Iterator[Batch]:
        for start in range(0, len(index), size):
            chosen = torch.from_numpy(index[start : start + size])
            beside = {modality: self.beside[modality].gather(chosen)} if modality in self.beside else {}
            yield Batch({modality: self.inputs[modality].gather(chosen)}, beside=beside)


def ahead(made: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each made by another thread while the one before it is used."""
    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(next, made, None)
        while (batch := upcoming.result()) is not None:
            upcoming = worker.submit(next, made, None)
            yield batch
