"""The base class of retrieval tasks: the items of one modality are ranked for queries of another."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from crossmodal.evaluation.bounds import chance_interval, precision_interval
from crossmodal.modalities import MODALITIES
from crossmodal.tasks import base

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model
    from crossmodal.tasks.ranked.encodings import Pair
    from crossmodal.tasks.ranked.protocols import Items


class Ranked(base.Task):
    """A retrieval task, in which the model encodes the items of two modalities, or scores their pairs."""

    asks: ClassVar[str] = "encode"
    ranked: ClassVar[bool] = True
    aspects: ClassVar[tuple[str, ...]] = tuple(
        f"{query}-to-{gallery}" for query, gallery in permutations((*MODALITIES, "class"), 2)
    )
    selection: ClassVar[str] = "crossmodal.tasks.ranked.selection"
    relevance: ClassVar[str]
    """Whether items are relevant to each other by `group` or by `label`."""

    def hosts(self, relevance: str) -> bool:
        return relevance == self.relevance

    def targets(self, corpus: Corpus) -> Items:
        """The test items of all modalities, with their relevance to each other."""
        from crossmodal.tasks.ranked.protocols import Items

        return Items.of(corpus, corpus.modalities, "test")

    def predict(self, model: Model, corpus: Corpus, targets: Items, device: torch.device) -> list[Pair]:
        """The encodings of each pair of modalities."""
        from crossmodal.tasks.ranked.encodings import Pair, encodings_of

        encoded = (encodings_of(model, corpus, pair, targets.places, device) for pair in combinations(model.reads, 2))
        return [Pair(encodings, targets.relevance, model) for encodings in encoded]

    def score(self, targets: Items, predictions: list[Pair], folds: list[int]) -> tuple[DataFrame, list[base.Number]]:
        """One row per query, protocol and direction, and the metrics per protocol and direction.

        The value of a protocol with folds is the mean over its folds; its n_queries and n_gallery are the sizes of one
        fold.
        """
        from crossmodal.tasks.ranked.protocols import scored

        return scored(predictions, targets, folds)

    def keep(self, targets: Items, predictions: list[Pair], folder: Path) -> None:
        """Write the encodings that are vectors, with the ids of their items, to `embeddings.npz`."""
        from crossmodal.tasks.ranked.protocols import save_vectors

        save_vectors(predictions, targets, folder)

    def chance(self, targets: Items, seed: int) -> list[Pair]:
        """Random vectors, whose recall@K must be that of K random draws from the gallery."""
        from crossmodal.tasks.ranked.controls import random_pairs

        return random_pairs(targets, seed)

    def oracle(self, targets: Items) -> list[Pair]:
        """Vectors that are equal for items relevant to each other, whose recall@K must be 100 %."""
        from crossmodal.tasks.ranked.controls import true_pairs

        return true_pairs(targets)

    def expected(
        self, control: str, number: base.Number, numbers: Iterable[base.Number]
    ) -> tuple[float, float, float] | None:
        """The expected value of a control's number: 100 for the oracle, that of a random order for `chance`.

        Recall by chance follows from the numbers of queries and gallery items where relevance is by group. The expected
        precision of a random order depends on the classes and is one of the numbers itself (such as `map@50_chance`).

        Returns
        -------
        The expected value and its lower and upper bound in per cent; None for metrics without such a value.
        """
        metric = self.metric(number["metric"])
        if metric is None or metric.better == "lower" or not math.isfinite(metric.high):
            return None
        if control == "oracle":
            return 100.0, 100.0, 100.0
        key = (number["aspect"], f"{metric.name}_chance", number["protocol"])
        for other in numbers:
            if (other["aspect"], other["metric"], other["protocol"]) == key:
                return other["value"], *precision_interval(other["value"], number["n_queries"])
        if self.relevance != "group" or metric.columns != ("rank",):
            return None
        folds = int(number["protocol"].removeprefix("fold")) if number["protocol"].startswith("fold") else 1
        return chance_interval(metric.k, number["n_queries"], number["n_gallery"], folds)
