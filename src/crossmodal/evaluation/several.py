"""Ranking of items of several labels each: an item is relevant to a query that it shares a label with.

Whole rankings are sorted, since an item may be relevant to any number of queries: a query's items are no group.
"""

from __future__ import annotations

import numpy as np

from crossmodal.evaluation import precision
from crossmodal.evaluation.blocks import DEFAULT_BUDGET, Products, Scores
from crossmodal.evaluation.ranking import NoRelevantItemError, Ranking
from crossmodal.evaluation.topk import Best


def rank_several(
    of: Products | Scores,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    k: int = 0,
    *,
    budget: int = DEFAULT_BUDGET,
) -> Ranking:
    """What `rank_queries` gives, of (Q, L) and (G, L) tables of zeros and ones; ties against the model.

    Raises
    ------
    NoRelevantItemError : a query that shares no label with any item of the gallery.
    ValueError : shapes that do not fit, values that are not finite.
    """
    labels = precision._Labels(query_labels, gallery_labels, of.shape)
    ranks = np.empty(of.shape[0], np.int64)
    found = {name: np.empty(of.shape[0]) for name in precision.NAMES}
    for rows, hits, total in precision._ordered(of, labels, None, budget):
        if (total == 0).any():
            lone = rows.start + int(np.argmax(total == 0))
            raise NoRelevantItemError(f"query {lone} shares no label with any item of the gallery")
        ranks[rows] = hits.argmax(1) + 1
        for name, (at, normalise) in precision.NAMES.items():
            found[name][rows] = precision._precision(hits, total, at, normalise)
    best = Best(of, k)
    if k:
        for rows, cols, block in of.blocks(budget):
            best.update(rows, cols, block)
    return Ranking(ranks, found, *best.result())


def relevant_counts(query_labels: np.ndarray, gallery_labels: np.ndarray, budget: int = DEFAULT_BUDGET) -> np.ndarray:
    """(Q,) relevant items of each query, of (Q,) and (G,) labels or (Q, L) and (G, L) tables."""
    labels = precision._Labels(query_labels, gallery_labels, (len(query_labels), len(gallery_labels)))
    step = max(1, budget // (8 * max(len(gallery_labels), 1)))
    parts = (labels.block(slice(n, n + step)).sum(1) for n in range(0, len(query_labels), step))
    return np.concatenate([*parts])
