"""How an epoch is chosen on validation items: all that trained weights depend on of the retrieval tasks."""

from __future__ import annotations

from itertools import combinations

import torch

from crossmodal.corpus.corpus import Corpus
from crossmodal.evaluation.metrics import recall_at_k
from crossmodal.models import base
from crossmodal.tasks.ranked.encodings import Pair, encodings_of

KS = (1, 5, 10)
CRITERION = {False: "recall_sum", True: "map@50_sum"}
"""By what epochs are chosen where items are relevant by group, and by class."""


def validate(
    model: base.Model,
    corpus: Corpus,
    partition: str,
    device: torch.device,
    modalities: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """All directions on a partition: recall@K and their sum, or mAP@50 (by class) and its sum."""
    order = [m for m in model.reads if modalities is None or m in modalities]
    index = {m: corpus.inputs[m].where(partition) for m in order}
    relevance = {m: corpus.relevance(m)[index[m]] for m in order}
    by_class = corpus.classes is not None
    found: dict[str, float] = {}
    for a, b in combinations(order, 2):
        pair = Pair(encodings_of(model, corpus, (a, b), index, device), relevance, model)
        for query, ranking in pair.rank(precision=by_class).items():
            direction = f"{query}-to-{b if query == a else a}"
            if by_class:
                found[f"{direction}_map@50"] = 100 * float(ranking.precision["average_precision@50"].mean())
            else:
                found |= {f"{direction}_recall@{k}": v for k, v in recall_at_k(ranking.ranks, KS).items()}
    return {**found, CRITERION[by_class]: float(sum(found.values()))}
