"""Exact average precision and precision-recall curves, for items with one or several labels.

Ties count against the model. The CVS thesis, eq. 4.2.1, AP = (1/R) sum over r up to 50 of P(r) rel(r), where R is the
number of relevant items among those retrieved, is `at=50, normalise="retrieved"`; trec_eval's `map_cut` divides by the
number of all relevant items instead. Both need whole rankings, so that products are computed in float64 and sorted as
integers that carry the relevance in their last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from crossmodal.evaluation.ranking import vectors
from crossmodal.evaluation.ranking.relevance import Labels, NoRelevantItemError
from crossmodal.evaluation.ranking.scores import DEFAULT_BUDGET, Products, Scores, source
from crossmodal.evaluation.ranking.vectors import Array, Vectors

Normalise = Literal["retrieved", "relevant"]
Missing = Literal["raise", "nan"]

AP_VARIANTS: dict[str, tuple[int | Literal["R"] | None, Normalise]] = {
    "average_precision": (None, "relevant"),
    "average_precision@50": (50, "retrieved"),
    "average_precision@R": ("R", "relevant"),
}
"""Name to cut-off and normalisation of each average precision that is kept per query."""

SPARE = 14  # ranks beyond the cut that are sorted too, since items there may tie with the last one
STRIP = 64  # rows that a thread sorts at a time


def scores64(of: Products, rows: slice, kept: dict[int, torch.Tensor], budget: int) -> np.ndarray:
    """(q, G) float64 products; blocks of the gallery in float64 are kept in `kept` where they take little memory."""
    n, dim = of.shape[1], of.gallery.dim
    step = max(1, budget // (16 * dim))
    left = of.queries.block(rows, torch.float64)
    scores = torch.empty(len(left), n, dtype=torch.float64, device=left.device)
    for start in range(0, n, step):
        right = kept.get(start)
        if right is None:
            right = of.gallery.block(slice(start, min(start + step, n)), torch.float64)
            if n <= 2 * step:
                kept[start] = right
        torch.mm(left, right.T, out=scores[:, start : start + step])
    return scores.cpu().numpy()


def _keys(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """int64 keys in the order of the scores, with the last bit set where an item is not relevant.

    A sort by these keys thus ranks irrelevant items before relevant ones of the same score. float64 scores lose their
    last bit to it, float32 scores lose nothing.
    """
    if scores.dtype == np.float32:
        bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)  # -0.0 is 0.0
        keys = (bits ^ ((bits >> 63) & 0x7FFFFFFF)) << 1
    else:
        bits = scores.view(np.int64)
        keys = bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)
        keys &= ~1
    keys |= ~relevant
    return keys


def _values(keys: np.ndarray) -> np.ndarray:
    """The float64 scores from which keys were made, but for the last bit."""
    return (keys ^ ((keys >> 63) & 0x7FFFFFFFFFFFFFFF)).view(np.float64)


def hits_in_order(
    of: Products | Scores, labels: Labels, at: int | None, budget: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rank the gallery for blocks of queries, up to rank `at` (None for all ranks).

    Yields
    ------
    A slice of the queries, (q, K) bool whether the item at each rank is relevant, and (q,) the number of relevant items
    in the whole gallery.
    """
    n, width = of.shape
    length = width if at is None else min(at, width)
    if of.exact:
        for rows, scores in whole_rows(of, budget // 8):
            relevant = labels.block(rows)
            yield rows, _hits(scores, relevant, length)[0], relevant.sum(1)
        return
    each, kept = vectors.bound(of.queries, of.gallery, torch.float64), {}
    step = max(1, budget // (32 * width))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        scores, relevant = scores64(of, rows, kept, budget), labels.block(rows)
        # Each of two compared scores may be off by the bound, and the keys have lost the last bit.
        size = of.queries.norms[rows] * of.gallery.norms.max()
        margin = 2 * (each * size + vectors.tiny(of.queries, torch.float64)) + 2.0**-50 * size
        hits, doubt = _hits(scores, relevant, length, margin)
        for row in np.flatnonzero(doubt):
            hits[row] = _settled(of, rows.start + row, scores[row], relevant[row], margin[row])[:length]
        yield rows, hits, relevant.sum(1)


def _hits(
    scores: np.ndarray, relevant: np.ndarray, length: int, margin: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sort the scores, and report whether the item at each rank is relevant.

    Parameters
    ----------
    scores, relevant : (q, G).
    margin : (q,) largest difference of float64 scores at which their order is uncertain; None for exact scores.

    Returns
    -------
    (q, length) bool, and (q,) bool whether scores within `margin` of each other leave a query's row uncertain.
    """
    width = scores.shape[1]
    kept = min(length + SPARE, width) if margin is not None else length
    hits, doubt = np.empty((len(scores), length), bool), np.zeros(len(scores), bool)

    def strip(start: int) -> None:
        part = slice(start, start + STRIP)
        keys = _keys(scores[part], relevant[part])
        if kept < width:
            keys.partition(width - kept, axis=1)
            keys = keys[:, -kept:]
        keys.sort(axis=1)
        keys = keys[:, ::-1]
        is_hit = keys & 1 == 0
        hits[part] = is_hit[:, :length]
        if margin is None:
            return
        value = _values(keys)
        near = value[:, :-1] - value[:, 1:] <= margin[part, None]
        open_ = (near & (is_hit[:, :-1] != is_hit[:, 1:])).any(1)
        if kept < width:
            open_ |= value[:, length - 1] - value[:, -1] <= margin[part]
        doubt[part] = open_

    vectors.spread(strip, range(0, len(scores), STRIP))
    return hits, doubt


def whole_rows(of: Products | Scores, budget: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of the queries with their (q, G) float32 scores against the whole gallery, for products too."""
    if isinstance(of, Scores):
        yield from ((rows, block.cpu().numpy()) for rows, _, block in of.blocks(budget))
        return
    step = max(1, budget // (4 * of.shape[1]))
    for start in range(0, of.shape[0], step):
        rows = slice(start, min(start + step, of.shape[0]))
        parts = [block.cpu().numpy().copy() for _, _, block in of.blocks(2**60, rows)]
        yield rows, np.concatenate(parts)


def _settled(of: Products, query: int, near: np.ndarray, relevant: np.ndarray, margin: float) -> np.ndarray:
    """(G,) bool relevance in the exact order of one query; exact scores decide where products are too close."""
    order = np.argsort(-near, kind="stable")
    value, hit = near[order], relevant[order]
    cluster = np.concatenate([[0], np.cumsum(value[:-1] - value[1:] > margin)])
    mixed = np.bincount(cluster, hit) * np.bincount(cluster, ~hit) > 0
    place = np.flatnonzero(mixed[cluster])
    exact = of.scores(np.full(len(place), query), order[place])
    hit[place] = hit[place][np.lexsort((hit[place], -exact, cluster[place]))]
    return hit


def precision_of_hits(hits: np.ndarray, total: np.ndarray, at: int | str | None, normalise: Normalise) -> np.ndarray:
    """Average precision from the relevance of the item at each rank.

    Parameters
    ----------
    hits : (q, K) bool, whether the item at each rank is relevant.
    total : (q,) number of relevant items in the gallery.
    at : number of ranks that count; "R" for as many as the query has relevant items; None for all.
    normalise : as for `average_precision`.

    Returns
    -------
    (q,) float64 in [0, 1].

    Examples
    --------
    >>> precision_of_hits(np.array([[False, True, True]]), np.array([2]), None, "relevant").round(4)  # (1/2 + 2/3) / 2
    array([0.5833])
    """
    hits = hits & (np.arange(hits.shape[1]) < total[:, None]) if at == "R" else hits[:, :at]
    row, place = np.divmod(np.flatnonzero(hits), hits.shape[1])  # several times quicker than np.nonzero
    n_hits = np.bincount(row, minlength=len(hits))
    number = np.arange(len(row)) - np.repeat(np.cumsum(n_hits) - n_hits, n_hits)
    terms = np.bincount(row, (number + 1) / (place + 1), minlength=len(hits))
    return terms / np.maximum(n_hits if normalise == "retrieved" else total, 1)


def of_ranks(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Average precision from the ranks of all relevant items.

    It agrees with `average_precision` to the last bit of a sum.

    Parameters
    ----------
    ranks : (Q, m) 1-based ranks of each query's relevant items, ascending, padded with 0.

    Returns
    -------
    {name: (Q,) float64} for all of `AP_VARIANTS`.

    Examples
    --------
    >>> of_ranks(np.array([[2, 3]]))["average_precision"].round(4)  # (1/2 + 2/3) / 2
    array([0.5833])
    """
    valid, place = ranks > 0, np.arange(1, ranks.shape[1] + 1)
    precisions = {}
    for name, (at, normalise) in AP_VARIANTS.items():
        cut = valid.sum(1, keepdims=True) if at == "R" else at
        inside = valid if cut is None else valid & (ranks <= cut)
        # Sum from left to right, so that a wider table, padded with zeros, gives the same last bits.
        terms = np.cumsum(np.where(inside, place / np.maximum(ranks, 1), 0.0), axis=1)[:, -1]
        precisions[name] = terms / np.maximum((inside if normalise == "retrieved" else valid).sum(1), 1)
    return precisions


def of_source(
    of: Products | Scores, query_labels: Array, gallery_labels: Array, *, budget: int = DEFAULT_BUDGET
) -> dict[str, np.ndarray]:
    """{name: (Q,) float64} for all of `AP_VARIANTS`; each query's scores are sorted once."""
    labels = Labels(query_labels, gallery_labels, of.shape)
    precisions = {name: np.empty(of.shape[0]) for name in AP_VARIANTS}
    for rows, hits, total in hits_in_order(of, labels, None, budget):
        for name, (at, normalise) in AP_VARIANTS.items():
            precisions[name][rows] = precision_of_hits(hits, total, at, normalise)
    return precisions


def average_precision(
    queries: Array | Vectors | Scores,
    gallery: Array | Vectors | None,
    query_labels: Array,
    gallery_labels: Array,
    at: int | None = 50,
    normalise: Normalise = "retrieved",
    *,
    missing: Missing = "raise",
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> np.ndarray:
    """Average precision of each query: the mean, over relevant items, of the precision at their ranks.

    Parameters
    ----------
    queries : (Q, d) vectors, compared with the gallery by inner product; or `Scores`.
    gallery : (G, d) vectors; None with `Scores`.
    query_labels, gallery_labels : (Q,) and (G,) labels, where an item is relevant if its label equals the query's; or
        (Q, L) and (G, L) tables of zeros and ones, where an item is relevant if it shares at least one label.
    at : only the first `at` ranks count; None for all.
    normalise : the sum of precisions is divided by the number of relevant items within the first `at` ranks
        ("retrieved"; CVS thesis, eq. 4.2.1; the result is 0 where there is none), or by the number of relevant items in
        the gallery ("relevant"). For `at=None` both are the same.
    missing : whether a query without any relevant item in the gallery raises an error ("raise") or yields NaN ("nan").
    cosine, budget : as for `retrieval_ranks`.

    Returns
    -------
    (Q,) float64 in [0, 1].

    Raises
    ------
    NoRelevantItemError : a query without a relevant item, with `missing="raise"`.
    ValueError : shapes that do not fit, values that are not finite, or unknown options.

    Examples
    --------
    >>> gallery = np.array([[3.0], [2.0], [1.0]])  # the relevant items have the ranks 2 and 3
    >>> average_precision(np.array([[1.0]]), gallery, [1], [0, 1, 1], at=None).round(4)  # (1/2 + 2/3) / 2
    array([0.5833])
    """
    _choices(at, normalise, missing)
    of = source(queries, gallery, cosine=cosine)
    labels = Labels(query_labels, gallery_labels, of.shape)
    precisions = np.empty(of.shape[0])
    for rows, hits, total in hits_in_order(of, labels, at, budget):
        precisions[rows] = np.where(
            any_relevant(rows, total, missing), precision_of_hits(hits, total, at, normalise), np.nan
        )
    return precisions


def _choices(at: int | None, normalise: str, missing: str) -> None:
    if at is not None and at < 1:
        raise ValueError(f"at: expected at least 1 or None, found {at}")
    if normalise not in ("retrieved", "relevant"):
        raise ValueError(f'normalise: expected "retrieved" or "relevant", found {normalise!r}')
    if missing not in ("raise", "nan"):
        raise ValueError(f'missing: expected "raise" or "nan", found {missing!r}')


def any_relevant(rows: slice, total: np.ndarray, missing: Missing) -> np.ndarray:
    """(q,) bool whether each query of the slice `rows` has a relevant item, of which it has `total`.

    Raises
    ------
    NoRelevantItemError : a query has none, with `missing="raise"`.
    """
    if missing == "raise" and (total == 0).any():
        lone = rows.start + int(np.argmax(total == 0))
        raise NoRelevantItemError(
            f"query {lone} has no relevant item in the gallery: its average precision is not defined"
        )
    return total > 0


def precision_recall_curve(
    queries: Array | Vectors | Scores,
    gallery: Array | Vectors | None,
    query_labels: Array,
    gallery_labels: Array,
    levels: int = 11,
    *,
    missing: Missing = "raise",
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated precision of each query at equally spaced levels of recall (TREC's eleven points by default).

    The interpolated precision at a recall is the highest precision at that recall or beyond. The mean of the rows is
    the curve that papers draw.

    Parameters
    ----------
    queries, gallery, query_labels, gallery_labels, missing, cosine, budget : as for `average_precision`.
    levels : number L of levels of recall, at least 2.

    Returns
    -------
    (L,) recalls from 0 to 1 and (Q, L) float64 precisions, NaN for a query without a relevant item with
    `missing="nan"`.

    Raises
    ------
    NoRelevantItemError : a query without a relevant item, with `missing="raise"`.
    ValueError : as for `average_precision`, or fewer than two levels.

    Examples
    --------
    >>> gallery = np.array([[3.0], [2.0], [1.0]])  # the relevant items have the ranks 1 and 3
    >>> recalls, precisions = precision_recall_curve(np.array([[1.0]]), gallery, [1], [1, 0, 1], levels=3)
    >>> recalls, precisions.round(2)
    (array([0. , 0.5, 1. ]), array([[1.  , 1.  , 0.67]]))
    """
    if levels < 2:
        raise ValueError(f"levels: expected at least 2, found {levels}")
    _choices(None, "relevant", missing)
    of = source(queries, gallery, cosine=cosine)
    labels = Labels(query_labels, gallery_labels, of.shape)
    steps = np.arange(levels)
    curves = np.full((of.shape[0], levels), np.nan)
    for rows, hits, total in hits_in_order(of, labels, None, budget):
        some = any_relevant(rows, total, missing)
        for row in np.flatnonzero(some):
            place = np.flatnonzero(hits[row])
            precision = np.arange(1, len(place) + 1) / (place + 1)
            best = np.maximum.accumulate(precision[::-1])[::-1]
            # Find the first relevant item at which recall reaches the level, in integers so that nothing is rounded.
            first = np.maximum(-(-steps * len(place) // (levels - 1)) - 1, 0)
            curves[rows.start + row] = best[first]
    return steps / (levels - 1), curves
