"""The choice of an epoch on validation items: the only part of the retrieval tasks that trained weights depend on."""

from __future__ import annotations

from itertools import combinations

import torch

from crossmodal.corpus.corpus import Corpus
from crossmodal.evaluation.metrics import recall_at_k
from crossmodal.models import base
from crossmodal.tasks.ranked.encodings import Pair, encodings_of

KS = (1, 5, 10)
CRITERION = {False: "recall_sum", True: "map@50_sum"}
"""The criterion by which epochs are chosen: False for relevance by group, True for relevance by class."""


def validate(
    model: base.Model,
    corpus: Corpus,
    partition: str,
    device: torch.device,
    modalities: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """Measure retrieval on a partition, in all directions between the modalities that the model reads.

    Parameters
    ----------
    modalities : the modalities that count; None for all that the model reads.

    Returns
    -------
    Recall@K for the K of `KS` and the sum of all recalls; where relevance is by class, mAP@50 and its sum. All numbers
    are in per cent.
    """
    order = [m for m in model.reads if modalities is None or m in modalities]
    index = {m: corpus.inputs[m].where(partition) for m in order}
    relevance = {m: corpus.relevance(m)[index[m]] for m in order}
    by_class = corpus.classes is not None
    metrics: dict[str, float] = {}
    for a, b in combinations(order, 2):
        pair = Pair(encodings_of(model, corpus, (a, b), index, device), relevance, model)
        for query, ranking in pair.rank(precision=by_class).items():
            aspect = f"{query}-to-{b if query == a else a}"
            if by_class:
                metrics[f"{aspect}_map@50"] = 100 * float(ranking.precision["average_precision@50"].mean())
            else:
                metrics |= {f"{aspect}_recall@{k}": v for k, v in recall_at_k(ranking.ranks, KS).items()}
    return {**metrics, CRITERION[by_class]: float(sum(metrics.values()))}
