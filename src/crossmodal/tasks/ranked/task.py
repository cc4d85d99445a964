"""Ranking the items of one modality for queries of another, whichever items answer each other."""

from __future__ import annotations

from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from crossmodal.modalities import MODALITIES
from crossmodal.tasks import base

if TYPE_CHECKING:
    import torch

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model


def folder_of(run: Path) -> Path:
    """The folder of a run's rankings: that of the retrieval task which it was asked, made or yet to be made."""
    names = [name for name, task in base.tasks().items() if isinstance(task, Ranked)]
    return next((run / name for name in names if (run / name).is_dir()), run / names[-1])


class Ranked(base.Task):
    """A retrieval task: the model encodes the items of two modalities, or scores their pairs."""

    asks: ClassVar[str] = "encode"
    aspects: ClassVar[tuple[str, ...]] = tuple(
        f"{query}-to-{gallery}" for query, gallery in permutations((*MODALITIES, "class"), 2)
    )
    selection: ClassVar[str] = "crossmodal.tasks.ranked.selection"
    relevance: ClassVar[str]
    """`group` or `label`: by what items are relevant to each other."""

    def hosts(self, relevance: str) -> bool:
        return relevance == self.relevance

    def evaluate(
        self, model: Model, corpus: Corpus, folds: list[int], device: torch.device, folder: Path
    ) -> list[base.Number]:
        """Rank the test items under every protocol; writes `embeddings.npz` and `examples.parquet`.

        Returns
        -------
        Rows of direction, metric, protocol, value, n_queries, n_gallery. A fold protocol's value is the mean over its
        folds, of each of which n_queries and n_gallery tell the size.
        """
        from crossmodal.tasks.ranked.encodings import Pair, encodings_of
        from crossmodal.tasks.ranked.protocols import Items, written

        items, index = Items.of(model, corpus, "test")
        encoded = (encodings_of(model, corpus, pair, index, device) for pair in combinations(model.reads, 2))
        return written((Pair(encodings, items.relevance, model) for encodings in encoded), items, folds, folder)
