"""Instance retrieval after re-ranking by the query's rank in each item's own list (MTFN, Wang et al., 2019).

It is evaluated where an experiment names it in `also`. mFSR cites AMF (Niu et al., 2020), which re-ranks by several
metrics that are fused; no program of it is public, and this documented relative stands for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.tasks import base
from crossmodal.tasks.ranked.metrics import among_first

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model
    from crossmodal.tasks.ranked.protocols import Items

PAIR = ("image", "text")
KS = (1, 5, 10)


class Task(base.Task):
    """Recall of images and texts in both directions, after the first items of each query are re-ranked."""

    name: ClassVar[str] = "reranked_retrieval"
    title: ClassVar[str] = "Re-ranked retrieval"
    place: ClassVar[int] = 15
    asks: ClassVar[str] = "rerank"  # no model has a method of its own, so that the task must be named in `also`
    on_request: ClassVar[tuple[str, ...]] = ("encode",)
    metrics: ClassVar[tuple[base.Metric, ...]] = (
        base.Metric(
            "reranked_recall@K", "re-ranked R@K", "recall in per cent after re-ranking", ("rank",), among_first
        ),
    )
    aspects: ClassVar[tuple[str, ...]] = ("image-to-text", "text-to-image")
    controls: ClassVar[tuple[str, ...]] = ()

    def hosts(self, relevance: str) -> bool:
        return relevance == "group"

    def targets(self, corpus: Corpus) -> Items:
        """The test images and texts, with their groups."""
        from crossmodal.tasks.ranked.protocols import Items

        return Items.of(corpus, PAIR, "test")

    def predict(self, model: Model, corpus: Corpus, targets: Items, device: torch.device) -> np.ndarray:
        """(I, T) float32 scores of all images with all texts; a large matrix is kept on disk."""
        from crossmodal.tasks.ranked.encodings import encodings_of, scored

        pair = tuple(m for m in model.reads if m in PAIR)  # in the order in which the model scores them
        encodings = encodings_of(model, corpus, pair, targets.places, device)
        scores = scored(model, *(encodings[m] for m in pair))
        return scores if pair == PAIR else scores.T

    def score(self, targets: Items, predictions: np.ndarray, folds: list[int]) -> tuple[DataFrame, list[base.Number]]:
        """One row per query, protocol and direction, and the recalls per protocol and direction.

        Raises
        ------
        UserError : scores that cannot be ranked, or groups that cannot be cut into the folds.
        """
        import pandas as pd

        from crossmodal.evaluation.ranking.reciprocal import reranked

        frames, numbers = [], []
        for protocol, parts in targets.parts(PAIR, folds):
            for query, gallery, axis in (("image", "text", 0), ("text", "image", 1)):
                of_folds = []
                for number, inside in enumerate(parts):
                    places = dict(zip(PAIR, inside, strict=True))
                    scores = predictions if len(parts) == 1 else predictions[np.ix_(*inside)]
                    groups = (targets.groups[m][places[m]] for m in (query, gallery))
                    try:
                        ranks = reranked(scores.T if axis else scores, *groups)
                    except ValueError as error:
                        raise UserError(f"image and text: {error}") from None
                    about = {"protocol": protocol, "aspect": f"{query}-to-{gallery}", "fold": number}
                    ids = {"query_id": targets.ids[query][places[query]]}
                    of_folds.append(
                        pd.DataFrame(
                            {**about, **ids, "query_group": targets.groups[query][places[query]], "rank": ranks}
                        )
                    )
                sizes = {"n_queries": len(of_folds[0]), "n_gallery": len(places[gallery])}
                for k in KS:
                    metric = self.metric(f"reranked_recall@{k}")
                    value = float(np.mean([metric.value(part) for part in of_folds]))
                    about = {"protocol": protocol, "aspect": f"{query}-to-{gallery}", "metric": metric.name}
                    numbers.append({**about, "value": value, **sizes})
                frames += of_folds
        return pd.concat(frames, ignore_index=True), numbers
