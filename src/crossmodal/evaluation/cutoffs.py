"""Metrics at any cut-off of the ranking: nDCG and the recall of pairs.

nDCG (Järvelin and Kekäläinen, 2002) is computed in the form of the hashing papers: the item at rank r contributes
(2^g - 1) / log2(r + 1), where g is the number of labels that it shares with the query (1 or 0 where each item has one
label or group); the sum is divided by that of the best possible order.

The recall of pairs is what the word means in information retrieval: the share of a query's relevant items that are
among its first K. `recall@K` of the cross-modal papers asks for any one of them instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from crossmodal.evaluation.ranking import average_precision as precision
from crossmodal.evaluation.ranking import vectors
from crossmodal.evaluation.ranking.average_precision import Missing
from crossmodal.evaluation.ranking.relevance import Labels
from crossmodal.evaluation.ranking.scores import DEFAULT_BUDGET, Products, Scores, source
from crossmodal.evaluation.ranking.vectors import Array, Vectors


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
    """Normalised discounted cumulative gain over the first `at` ranks of each query; ties count against the model.

    Parameters
    ----------
    queries, gallery, query_labels, gallery_labels, missing, cosine, budget : as for `average_precision`. With (Q, L)
        and (G, L) tables of labels the gain is graded by the number of labels that a query and an item share.
    at : the cut-off, at least 1.

    Returns
    -------
    (Q,) float64 in [0, 1]; NaN for a query without a relevant item, with `missing="nan"`.

    Raises
    ------
    NoRelevantItemError : a query without a relevant item, with `missing="raise"`.
    ValueError : shapes that do not fit, values that are not finite, or a cut-off below 1.

    Examples
    --------
    >>> gallery = np.array([[3.0], [2.0], [1.0]])
    >>> ndcg(np.array([[1.0]]), gallery, [1], [0, 1, 1], at=2).round(4)  # 0.6309 / (1 + 0.6309)
    array([0.3869])
    """

    def parts(of: Products | Scores, labels: Labels) -> Iterator[Part]:
        return _graded(of, labels, at, budget) if labels.several else _plain(of, labels, at, budget)

    _check(at)
    return _shares(source(queries, gallery, cosine=cosine), query_labels, gallery_labels, parts, missing)


def pair_recall(
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
    """Share of each query's relevant items that are among its first `at` answers; ties count against the model.

    It is the function `recall_at_k` of LAION-AI/CLIP_benchmark, whose printed recalls are the shares of queries where
    it is above zero: `recall@K`.

    Parameters
    ----------
    queries, gallery, query_labels, gallery_labels, missing, cosine, budget : as for `average_precision`.
    at : the cut-off, at least 1.

    Returns
    -------
    (Q,) float64 in [0, 1]; NaN for a query without a relevant item, with `missing="nan"`.

    Raises
    ------
    NoRelevantItemError : a query without a relevant item, with `missing="raise"`.
    ValueError : shapes that do not fit, values that are not finite, or a cut-off below 1.

    Examples
    --------
    >>> gallery = np.array([[3.0], [2.0], [1.0]])
    >>> pair_recall(np.array([[1.0]]), gallery, [1], [0, 1, 1], at=2)
    array([0.5])
    """

    def parts(of: Products | Scores, labels: Labels) -> Iterator[Part]:
        for rows, hits, total in precision.hits_in_order(of, labels, at, budget):
            yield rows, hits.sum(1), total, total

    _check(at)
    return _shares(source(queries, gallery, cosine=cosine), query_labels, gallery_labels, parts, missing)


Part = tuple[slice, np.ndarray, np.ndarray, np.ndarray]  # queries; (q,) gain, best possible gain, relevant items


def _check(at: int) -> None:
    if at < 1:
        raise ValueError(f"at: expected at least 1, found {at}")


def _shares(
    of: Products | Scores,
    query_labels: Array,
    gallery_labels: Array,
    parts: Callable[[Products | Scores, Labels], Iterator[Part]],
    missing: Missing,
) -> np.ndarray:
    """(Q,) gains divided by the best possible ones; NaN for a query without a relevant item."""
    values = np.empty(of.shape[0])
    for rows, gained, ideal, total in parts(of, Labels(query_labels, gallery_labels, of.shape)):
        some = precision.any_relevant(rows, total, missing)
        values[rows] = np.where(some, gained / np.where(ideal > 0, ideal, 1), np.nan)
    return values


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
            # Take every item that may be among the first `length`; exact scores decide between those near the cut.
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
    """(slice of the queries, (q, G) scores, (q,) largest score difference at which an order is uncertain)."""
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
    """Expected nDCG of a random order, in which the expected gain at every rank is the mean gain of the gallery.

    Parameters
    ----------
    query_labels, gallery_labels : as for `ndcg`; each query has a relevant item.
    at : the cut-off.

    Returns
    -------
    (Q,) float64 in [0, 1].

    Examples
    --------
    >>> chance_ndcg([1], [0, 1, 1], at=2).round(4)
    array([0.6667])
    """
    labels = Labels(query_labels, gallery_labels, (len(query_labels), len(gallery_labels)))
    discounts = _discounts(min(at, len(gallery_labels)))
    values = np.empty(len(query_labels))
    step = max(1, DEFAULT_BUDGET // (32 * len(gallery_labels)))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        if labels.several:
            gains = np.exp2(labels.q[rows] @ labels.g.T).astype(np.float64) - 1
        else:
            gains = labels.block(rows).astype(np.float64)
        best = -np.sort(-gains, axis=1)[:, : len(discounts)] @ discounts
        values[rows] = gains.mean(1) * discounts.sum() / np.where(best > 0, best, 1)
    return values
