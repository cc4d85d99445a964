"""A data set in memory or on disk, as models are trained and tested on it: inputs per modality, gathered by index.

Items belong together by group (an image and its captions) or by class. `corpus.opening` opens a data set, and
`corpus.batches` draws the mini-batches for training.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.by_class import Classes, FeatureStatistics, paired_items, shared_classes
from crossmodal.corpus.inputs import Inputs, OnDisk
from crossmodal.language.tokens import Vocabulary
from crossmodal.models.base import Batch, Context, Input


@dataclass(frozen=True)
class Corpus:
    """A data set under an annotated subset: the inputs of every modality, the training pairs and the vocabulary."""

    inputs: dict[str, Inputs]
    pairs: dict[str, np.ndarray]  # modality to (P,) indices; row i of all modalities belongs together
    unannotated: np.ndarray  # (U,) indices of the training images without a caption
    vocabulary: Vocabulary
    fingerprint: dict[str, str]  # hashes of the data, for the manifest
    classes: Classes | None = None  # None unless relevance is by class
    source: Corpus | None = None  # the labelled data set from which knowledge is transferred
    second_form: dict[str, Inputs] = field(default_factory=dict)  # modality to the same items in a second form
    folder: Path | None = None  # the data set's folder, where tasks find ground truth that models do not read

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the items, in the model's order, without `Model.further`, which has no items of its own."""
        return tuple(self.pairs)

    @property
    def waits(self) -> bool:
        """Whether batches are read from disk, so that it pays to read one while the model computes on another."""
        return any(isinstance(inputs.tensor, OnDisk) for inputs in (*self.inputs.values(), *self.second_form.values()))

    @property
    def n_pairs(self) -> int:
        """The number P of training pairs."""
        return len(next(iter(self.pairs.values())))

    @property
    def context(self) -> Context:
        """The sizes and statistics of the data that a model needs to be built."""
        shapes = {m: tuple(x.tensor.shape[1:]) for m, x in self.inputs.items() if x.form.sized}
        n_concepts = max((x.n_concepts for x in (*self.inputs.values(), *self.second_form.values())), default=0)
        if self.classes is None:
            groups = [torch.from_numpy(np.unique(self.inputs[m].groups[index])) for m, index in self.pairs.items()]
            facts = {"n_concepts": n_concepts, "groups": groups[0] if groups else None}
            facts["words"] = self.vocabulary.words
            return Context(shapes, len(self.vocabulary), captions=self._captions, **facts)
        moments = FeatureStatistics({m: self.inputs[m] for m in shapes if self.inputs[m].form.moments})
        source = self.source and self.source.context
        facts = {"n_concepts": n_concepts, "source": source}
        return Context(shapes, len(self.vocabulary), self.classes.count, self.classes.trained, moments, **facts)

    def _captions(self) -> tuple[Input, torch.Tensor]:
        """The captions of the training pairs, each once, and the (C,) groups that they belong to.

        Raises
        ------
        UserError : the corpus has no captions.
        """
        if "text" not in self.pairs:
            raise UserError(f"{self.folder}: has no captions among what the model reads")
        index = torch.from_numpy(np.unique(self.pairs["text"]))
        texts = self.inputs["text"]
        return texts.gather(index), torch.from_numpy(texts.groups)[index]

    def sampled(self, count: int) -> Corpus:
        """The same corpus with at most `count` groups or items per modality for each of validation and test.

        Without classes the first `count` groups are kept, each as a whole. With classes, `count` items are kept, or two
        per class if that is more, and they are spread over the classes as evenly as possible.
        """
        kept: dict[str, Inputs] = {}
        for modality, inputs in self.inputs.items():
            if not inputs.form.of_items:  # such inputs (classes) are always ranked as a whole
                kept[modality] = inputs
                continue
            partition = inputs.partition.copy()
            for name in ("val", "test"):
                places = inputs.where(name)
                if self.classes is None:
                    numbers = np.unique(inputs.groups[places], return_inverse=True)[1]
                    partition[places[numbers >= count]] = "left out"
                else:
                    labels = inputs.labels[places]
                    within = pd.Series(labels).groupby(labels).cumcount().to_numpy()
                    most = max(count, 2 * len(np.unique(labels)))
                    partition[places[np.lexsort((labels, within))[most:]]] = "left out"
            kept[modality] = replace(inputs, partition=partition)
        return replace(self, inputs=kept)

    def transferring_from(self, source: Corpus) -> Corpus:
        """The same corpus, with `source` as the labelled data set from which knowledge is transferred.

        Raises
        ------
        UserError : relevance in this corpus is not by class.
        """
        if self.classes is None:
            raise UserError("a model that transfers knowledge needs a data set with `relevance: label`")
        fingerprint = {f"source.{name}": value for name, value in source.fingerprint.items()}
        return replace(self, source=source, fingerprint=self.fingerprint | fingerprint)

    def n_rows(self, modalities: tuple[str, ...] | None = None) -> int:
        """The number of rows in an epoch of mini-batches; None stands for all modalities."""
        return self.n_pairs if self.classes is None else self.classes.size(modalities or tuple(self.inputs))

    def relevance(self, modality: str) -> np.ndarray:
        """The codes by which a modality's items are relevant to those of other modalities.

        Returns
        -------
        (N,) groups or classes, equal for items relevant to each other; or, for items with several classes, (N, C) zeros
        and ones, where items that share a class are relevant to each other.
        """
        inputs = self.inputs[modality]
        if inputs.sets is not None:
            return inputs.sets
        return inputs.groups if self.classes is None else inputs.labels

    def batch(self, picks: torch.Tensor, bare: torch.Tensor | None = None, also: tuple[str, ...] = ()) -> Batch:
        """The training pairs at `picks`, and the inputs `also` of the un-annotated images at `bare`."""
        return self.gathered({m: torch.from_numpy(index)[picks] for m, index in self.pairs.items()}, bare, also)

    def gathered(
        self, chosen: dict[str, torch.Tensor], bare: torch.Tensor | None = None, also: tuple[str, ...] = ()
    ) -> Batch:
        """The batch of the items at the indices `chosen` of each modality.

        Parameters
        ----------
        chosen : modality to (B,) indices; row i of all modalities belongs together.
        bare : (B,) indices of un-annotated images, if the batch has such.
        also : names of the inputs that are gathered of these images.
        """
        inputs, second_form, groups, labels = {}, {}, None, None
        for modality, index in chosen.items():
            source = self.inputs[modality]
            inputs[modality] = source.gather(index)
            if modality in self.second_form:
                second_form[modality] = self.second_form[modality].gather(index)
            groups = torch.from_numpy(source.groups)[index]
            labels = None if self.classes is None else torch.from_numpy(source.labels)[index]
        if labels is not None and source.sets is not None:
            sets = [self.inputs[m].sets[index.numpy(), : self.classes.count] for m, index in chosen.items()]
            labels = torch.from_numpy(shared_classes(sets))
        if bare is None:
            return Batch(inputs, groups, labels, second_form=second_form)
        extra = {name: self.inputs[name].gather(bare) for name in also}
        return Batch(inputs, groups, None, extra, second_form=second_form)

    def joined(self, partition: str, size: int) -> Iterator[Batch]:
        """Yield batches of the items of a partition, joined by group over all modalities.

        Each item of the largest modality occurs once, with the first item of its group in every other modality; it is
        left out if some modality has none.
        """
        index = {m: inputs.where(partition) for m, inputs in self.inputs.items()}
        base = max(index, key=lambda m: len(index[m]))
        chosen = {base: index[base]}
        for m in index.keys() - {base}:
            chosen[m] = paired_items(self.inputs[base], self.inputs[m], index[m])[index[base]]
        complete = np.stack([*chosen.values()]).min(0) >= 0
        for part in torch.from_numpy(np.flatnonzero(complete)).split(size):
            yield self.gathered({m: torch.from_numpy(chosen[m])[part] for m in self.inputs})

    def items(self, modality: str, index: np.ndarray, size: int) -> Iterator[Batch]:
        """Yield batches of the items at `index` of one modality, for encoding."""
        parts = self._items(modality, index, size)
        yield from ahead(parts) if self.waits else parts

    def _items(self, modality: str, index: np.ndarray, size: int) -> Iterator[Batch]:
        for start in range(0, len(index), size):
            chosen = torch.from_numpy(index[start : start + size])
            second_form = {modality: self.second_form[modality].gather(chosen)} if modality in self.second_form else {}
            yield Batch({modality: self.inputs[modality].gather(chosen)}, second_form=second_form)


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the same batches, each computed by another thread while the previous one is used."""
    with ThreadPoolExecutor(1) as worker:
        upcoming = worker.submit(next, batches, None)
        while (batch := upcoming.result()) is not None:
            upcoming = worker.submit(next, batches, None)
            yield batch
