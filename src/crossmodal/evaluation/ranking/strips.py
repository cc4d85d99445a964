"""A ranking cut into strips of queries, each against the whole gallery: where queries have many relevant items.

`shards` cuts it into rectangles, which needs the scores of all relevant items of a query. Items that answer each
other by class, or by one of several labels, have too many for that: the whole ranking of a query is sorted, and what
is gathered is bit for bit what one process gives. Reads and writes no files itself.
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

    start: int  # place of the first of them
    ranking: Ranking

    def arrays(self) -> dict[str, np.ndarray]:
        """For `numpy.savez`."""
        kept = {name: getattr(self.ranking, name) for name in ("ranks", "top", "top_scores")}
        return {"start": np.array(self.start), **kept, **self.ranking.precision}

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> Strip:
        """From what `numpy.load` gives of a saved one."""
        precisions = {name: arrays[name] for name in precision.AP_VARIANTS}
        ranking = Ranking(arrays["ranks"], precisions, arrays["top"], arrays["top_scores"])
        return cls(int(arrays["start"]), ranking)


def are_needed(query_labels: np.ndarray, gallery_labels: np.ndarray) -> bool:
    """Whether rectangles will not do: items of several labels, or more than `FEW` relevant ones of a query.

    Parameters
    ----------
    query_labels, gallery_labels : (Q,) and (G,) codes, or (Q, L) and (G, L) tables of zeros and ones.
    """
    return query_labels.ndim == 2 or max(_most(query_labels, gallery_labels), _most(gallery_labels, query_labels)) > FEW


def _most(query_labels: np.ndarray, gallery_labels: np.ndarray) -> int:
    """The largest number of relevant items of a query."""
    known, counts = np.unique(gallery_labels, return_counts=True)
    return int(counts[np.isin(known, query_labels)].max(initial=0))


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
    """Rank strip `number` of `count` of the queries, which may hold none where there are fewer than strips.

    Parameters
    ----------
    queries : (Q, d), gallery : (G, d), all of them; memory-mapped arrays are read only where needed.
    query_labels, gallery_labels : as `are_needed`, all of them.
    k : best items that are kept.

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
        few = _most(query_labels, gallery_labels) <= FEW  # of all queries, as where all are ranked at once
        found = rank_queries(of, *labels, k, precision=few, budget=budget)
        precisions = found.precision if few else precision.of_source(of, *labels, budget=budget)
    except NoRelevantItemError as error:
        raise NoRelevantItemError(f"of the queries from {rows.start} on, {error}") from None
    return Strip(rows.start, Ranking(found.ranks, precisions, found.top, found.top_scores))


def gather(strips: Iterable[Strip], n: int) -> Ranking:
    """The strips of `n` queries together: the same bits as a ranking of all at once.

    Raises
    ------
    ValueError : strips that are missing or overlap.
    """
    ordered = sorted(strips, key=lambda strip: (strip.start, len(strip.ranking.ranks)))
    end = 0
    for strip in ordered:
        if strip.start != end:
            what = "missing" if strip.start > end else "there twice"
            raise ValueError(f"strips: queries {min(strip.start, end)} to {max(strip.start, end) - 1} are {what}")
        end += len(strip.ranking.ranks)
    if end != n:
        raise ValueError(f"strips: {end} of {n} queries are ranked: a strip is missing, or is of another ranking")
    rankings = [strip.ranking for strip in ordered]
    precisions = {name: np.concatenate([one.precision[name] for one in rankings]) for name in precision.AP_VARIANTS}
    ranks, top, scores = (
        np.concatenate([getattr(one, name) for one in rankings]) for name in ("ranks", "top", "top_scores")
    )
    return Ranking(ranks, precisions, top, scores)
