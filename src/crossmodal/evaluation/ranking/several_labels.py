"""Ranking of items with several labels each: an item is relevant to a query if they share a label.

Whole rankings are sorted, since the items relevant to different queries overlap and form no groups.
"""

from __future__ import annotations

import numpy as np

from crossmodal.evaluation.ranking import average_precision as precision
from crossmodal.evaluation.ranking.ranks import Ranking
from crossmodal.evaluation.ranking.relevance import Labels, NoRelevantItemError
from crossmodal.evaluation.ranking.scores import DEFAULT_BUDGET, Products, Scores
from crossmodal.evaluation.ranking.topk import Best


def rank_several(
    of: Products | Scores,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    k: int = 0,
    *,
    budget: int = DEFAULT_BUDGET,
) -> Ranking:
    """Ranks, average precision and the best `k` items, as `rank_queries` returns; ties count against the model.

    Parameters
    ----------
    query_labels, gallery_labels : (Q, L) and (G, L) tables of zeros and ones.

    Raises
    ------
    NoRelevantItemError : a query that shares no label with any item of the gallery.
    ValueError : shapes that do not fit, values that are not finite.
    """
    labels = Labels(query_labels, gallery_labels, of.shape)
    ranks = np.empty(of.shape[0], np.int64)
    precisions = {name: np.empty(of.shape[0]) for name in precision.AP_VARIANTS}
    for rows, hits, total in precision.hits_in_order(of, labels, None, budget):
        if (total == 0).any():
            lone = rows.start + int(np.argmax(total == 0))
            raise NoRelevantItemError(f"query {lone} shares no label with any item of the gallery")
        ranks[rows] = hits.argmax(1) + 1
        for name, (at, normalise) in precision.AP_VARIANTS.items():
            precisions[name][rows] = precision.precision_of_hits(hits, total, at, normalise)
    best = Best(of, k)
    if k:
        for rows, cols, block in of.blocks(budget):
            best.update(rows, cols, block)
    return Ranking(ranks, precisions, *best.result())
