"""Metrics at any cut-off, `recall@K`, `map@K` and `ndcg@K`, and the discounted gain that the last one is made of.

nDCG (Järvelin and Kekäläinen, 2002) in the form of the hashing papers: the item at rank r gives 2^g - 1 over
log2(r + 1), where g is the number of labels that it shares with the query (1 or 0 where items have one label or belong
together); the sum is divided by what the best order gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from crossmodal.evaluation.ranking import average_precision as precision
from crossmodal.evaluation.ranking import vectors
from crossmodal.evaluation.ranking.average_precision import Missing
from crossmodal.evaluation.ranking.relevance import Labels
from crossmodal.evaluation.ranking.scores import DEFAULT_BUDGET, Products, Scores, source
from crossmodal.evaluation.ranking.vectors import Array, Vectors

PATTERN = re.compile(r"(?P<kind>recall|map|ndcg)@(?P<k>[1-9]\d*)")


class CutOff(NamedTuple):
    kind: str  # recall, map or ndcg
    k: int


def parse(metric: str) -> CutOff | None:
    """`recall@50` in its parts; None for a metric without a cut-off of a number."""
    found = PATTERN.fullmatch(metric)
    return CutOff(found["kind"], int(found["k"])) if found else None


def ndcg(
    queries: Array | Vectors | Scores,
    gallery: Array | Vectors | None,
    query_labels: Array,
    gallery_labels: Array,
    at: int,
    *,
    missing: Missing = "raise",
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> np.ndarray:
    """Normalised discounted cumulative gain of the first `at` ranks of each query, ties against the model.

    Parameters
    ----------
    queries, gallery, query_labels, gallery_labels, missing, cosine, budget : as for `average_precision`. Of (N, L)
        tables of labels the gain is graded by how many a query and an item share.

    Returns
    -------
    (Q,) float64 in [0, 1]; NaN for a query without a relevant item if not raised.

    Raises
    ------
    NoRelevantItemError : a query without a relevant item, with `missing="raise"`.
    ValueError : shapes that do not fit, values that are not finite, a cut-off below 1.
    """
    if at < 1:
        raise ValueError(f"at: expected at least 1, found {at}")
    of = source(queries, gallery, cosine=cosine)
    labels = Labels(query_labels, gallery_labels, of.shape)
    found = np.empty(of.shape[0])
    parts = _graded(of, labels, at, budget) if labels.several else _plain(of, labels, at, budget)
    for rows, gained, ideal, total in parts:
        some = precision.any_relevant(rows, total, missing)
        found[rows] = np.where(some, gained / np.where(ideal > 0, ideal, 1), np.nan)
    return found


Part = tuple[slice, np.ndarray, np.ndarray, np.ndarray]  # queries, their gains, the best gains, relevant items


def _discounts(n: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, n + 2))


def _plain(of: Products | Scores, labels: Labels, at: int, budget: int) -> Iterator[Part]:
    for rows, hits, total in precision.hits_in_order(of, labels, at, budget):
        discounts = _discounts(hits.shape[1])
        best = np.concatenate([[0.0], np.cumsum(discounts)])
        yield rows, hits @ discounts, best[np.minimum(total, len(discounts))], total


def _graded(of: Products | Scores, labels: Labels, at: int, budget: int) -> Iterator[Part]:
    length = min(at, of.shape[1])
    discounts = _discounts(length)
    for rows, scores, margin in _rows(of, budget):
        gains = np.exp2(labels.q[rows] @ labels.g.T).astype(np.float64) - 1
        gained = np.empty(len(gains))
        for row, (score, gain) in enumerate(zip(scores, gains, strict=True)):
            # All that may be among the first: what is near the last of them is settled by exact scores.
            cut = np.partition(score, len(score) - length)[len(score) - length] - margin[row]
            near = np.flatnonzero(score >= cut)
            exact = score[near]
            if isinstance(of, Products) and not of.exact:
                exact = of.scores(np.full(len(near), rows.start + row), near)
            order = np.lexsort((gain[near], -exact))[:length]
            gained[row] = gain[near][order] @ discounts
        best = -np.sort(-gains, axis=1)[:, :length]
        yield rows, gained, best @ discounts, (gains > 0).sum(1)


def _rows(of: Products | Scores, budget: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """(slice of the queries, (q, G) scores, (q,) how far two of them may be from their order)."""
    if of.exact:
        for rows, scores in precision.whole_rows(of, budget // 8):
            yield rows, scores, np.zeros(len(scores))
        return
    each, kept = vectors.bound(of.queries, of.gallery, torch.float64), {}
    step = max(1, budget // (32 * of.shape[1]))
    for start in range(0, of.shape[0], step):
        rows = slice(start, min(start + step, of.shape[0]))
        size = of.queries.norms[rows] * of.gallery.norms.max()
        margin = 2 * (each * size + vectors.tiny(of.queries, torch.float64))
        yield rows, precision.scores64(of, rows, kept, budget), margin


def chance_ndcg(query_labels: np.ndarray, gallery_labels: np.ndarray, at: int) -> np.ndarray:
    """(Q,) expected nDCG of a random order: every rank has the mean gain of the gallery.

    Parameters
    ----------
    query_labels, gallery_labels : as for `ndcg`; each query has a relevant item.
    """
    labels = Labels(query_labels, gallery_labels, (len(query_labels), len(gallery_labels)))
    discounts = _discounts(min(at, len(gallery_labels)))
    found = np.empty(len(query_labels))
    step = max(1, DEFAULT_BUDGET // (32 * len(gallery_labels)))
    for start in range(0, len(found), step):
        rows = slice(start, start + step)
        if labels.several:
            gains = np.exp2(labels.q[rows] @ labels.g.T).astype(np.float64) - 1
        else:
            gains = labels.block(rows).astype(np.float64)
        best = -np.sort(-gains, axis=1)[:, : len(discounts)] @ discounts
        found[rows] = gains.mean(1) * discounts.sum() / np.where(best > 0, best, 1)
    return found
