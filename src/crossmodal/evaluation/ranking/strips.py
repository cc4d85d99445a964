"""A ranking cut into strips of queries, each against the whole gallery, for queries with many relevant items.

`shards` cuts a ranking into rectangles, which needs the scores of all relevant items of a query. Queries have too many
relevant items for that where relevance is by class or by shared labels. Here the whole ranking of a query is sorted,
and the gathered result is bit for bit that of one process. This module itself reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crossmodal.evaluation.ranking import average_precision as precision
from crossmodal.evaluation.ranking.ranks import FEW, Ranking, rank_queries
from crossmodal.evaluation.ranking.relevance import NoRelevantItemError
from crossmodal.evaluation.ranking.scores import DEFAULT_BUDGET, source
from crossmodal.evaluation.ranking.several_labels import rank_several
from crossmodal.evaluation.ranking.vectors import Array


@dataclass(frozen=True)
class Strip:
    """The ranking of some of the queries."""

    start: int  # index of the first of these queries
    ranking: Ranking

    def arrays(self) -> dict[str, np.ndarray]:
        """The strip as named arrays, for `numpy.savez`."""
        kept = {name: getattr(self.ranking, name) for name in ("ranks", "top", "top_scores")}
        return {"start": np.array(self.start), **kept, **self.ranking.precision}

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> Strip:
        """The strip whose arrays `numpy.load` returned."""
        precisions = {name: arrays[name] for name in precision.AP_VARIANTS}
        ranking = Ranking(arrays["ranks"], precisions, arrays["top"], arrays["top_scores"])
        return cls(int(arrays["start"]), ranking)


def are_needed(query_labels: np.ndarray, gallery_labels: np.ndarray) -> bool:
    """Whether a ranking needs strips: items have several labels, or some query has more than `FEW` relevant items.

    Parameters
    ----------
    query_labels, gallery_labels : (Q,) and (G,) codes, or (Q, L) and (G, L) tables of zeros and ones.
    """
    return query_labels.ndim == 2 or max(_most(query_labels, gallery_labels), _most(gallery_labels, query_labels)) > FEW


def _most(query_labels: np.ndarray, gallery_labels: np.ndarray) -> int:
    """The largest number of relevant items that any query has."""
    labels, counts = np.unique(gallery_labels, return_counts=True)
    return int(counts[np.isin(labels, query_labels)].max(initial=0))


def rank_strip(
    queries: Array,
    gallery: Array,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    number: int,
    count: int,
    k: int = 0,
    *,
    budget: int = DEFAULT_BUDGET,
) -> Strip:
    """Rank the queries of strip `number` of `count`; a strip is empty where there are more strips than queries.

    Parameters
    ----------
    queries, gallery : all (Q, d) and (G, d) vectors; memory-mapped arrays are read only where needed.
    query_labels, gallery_labels : all labels, as for `are_needed`.
    number, count : the strip, from 0, and the number of strips.
    k : number of best items that are kept per query.
    budget : as for `retrieval_ranks`.

    Raises
    ------
    NoRelevantItemError : a query without a relevant item in the gallery.
    ValueError : shapes that do not fit, values that are not finite.
    """
    rows = slice(len(queries) * number // count, len(queries) * (number + 1) // count)
    if rows.start == rows.stop:
        none, width = np.zeros(0), min(k, len(gallery))
        top = np.zeros((0, width), np.int64), np.zeros((0, width), np.float32)
        return Strip(rows.start, Ranking(none.astype(np.int64), dict.fromkeys(precision.AP_VARIANTS, none), *top))
    of, labels = source(queries[rows], gallery), (query_labels[rows], gallery_labels)
    try:
        if query_labels.ndim == 2:
            return Strip(rows.start, rank_several(of, *labels, k, budget=budget))
        few = _most(query_labels, gallery_labels) <= FEW  # over all queries, so that strips agree with a whole ranking
        ranking = rank_queries(of, *labels, k, precision=few, budget=budget)
        precisions = ranking.precision if few else precision.of_source(of, *labels, budget=budget)
    except NoRelevantItemError as error:
        raise NoRelevantItemError(f"queries from {rows.start} on: {error}") from None
    return Strip(rows.start, Ranking(ranking.ranks, precisions, ranking.top, ranking.top_scores))


def gather(strips: Iterable[Strip], n: int) -> Ranking:
    """Join the strips of `n` queries; the result has the same bits as a ranking of all queries at once.

    Raises
    ------
    ValueError : strips that are missing or overlap.
    """
    ordered = sorted(strips, key=lambda strip: (strip.start, len(strip.ranking.ranks)))
    end = 0
    for strip in ordered:
        if strip.start != end:
            what = "missing" if strip.start > end else "repeated"
            raise ValueError(f"strips: queries {min(strip.start, end)} to {max(strip.start, end) - 1} are {what}")
        end += len(strip.ranking.ranks)
    if end != n:
        raise ValueError(f"strips: {end} of {n} queries are ranked: a strip is missing, or belongs to another ranking")
    rankings = [strip.ranking for strip in ordered]
    precisions = {name: np.concatenate([r.precision[name] for r in rankings]) for name in precision.AP_VARIANTS}
    ranks, top, scores = (
        np.concatenate([getattr(ranking, name) for ranking in rankings]) for name in ("ranks", "top", "top_scores")
    )
    return Ranking(ranks, precisions, top, scores)
