"""Re-ranking of a query's first items by the rank that the query has in each item's own list (MTFN, Wang et al., 2019).

Only scores are used, so that it applies to any trained system. The program of MTFN (MTFN-RR) re-ranks the first 15
texts of an image thus. For a text's images it takes the best rank over the four other captions of the same image,
which uses what belongs together; here both directions follow the first rule.
"""

from __future__ import annotations

import numpy as np

FIRST = 15  # items per query that are put into a new order, as in the program
BLOCK = 2**24  # scores of a block


def reranked(
    scores: np.ndarray, query_groups: np.ndarray, gallery_groups: np.ndarray, first: int = FIRST
) -> np.ndarray:
    """1-based rank of each query's best-ranked relevant item, after its `first` best items are put into a new order.

    They are ordered by the rank of the query in each item's own list of all queries, and among equal ranks as before.
    Items behind them keep their places. Where scores are equal, an irrelevant item (or query) comes before a relevant
    one, as in `retrieval_ranks`.

    Parameters
    ----------
    scores : (Q, G) scores of queries with gallery items, larger is better; may be memory-mapped.
    query_groups, gallery_groups : (Q,) and (G,) group of each item; an item is relevant if its group is the query's.
    first : number of items per query that are put into a new order, at least 1.

    Returns
    -------
    (Q,) int64.

    Raises
    ------
    ValueError : `first` below 1, shapes that do not fit, scores that are not finite, or a query without a relevant
        item.

    Examples
    --------
    >>> scores = np.array([[3.0, 2.0], [4.0, 1.0]])  # item 0 prefers query 1, item 1 prefers query 0
    >>> reranked(scores, np.array([7, 8]), np.array([8, 7]))
    array([1, 1])
    """
    n, width = scores.shape
    if first < 1:
        raise ValueError(f"first: expected at least 1, found {first}")
    if (n, width) != (len(query_groups), len(gallery_groups)):
        raise ValueError(f"scores: expected {(len(query_groups), len(gallery_groups))}, found {(n, width)}")
    k = min(first, width)
    candidates, before = np.empty((n, k), np.int64), np.empty(n, np.int64)
    levels = np.empty((n, k))
    step = max(1, BLOCK // width)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        block, relevant = _strict(scores[rows], query_groups[rows], gallery_groups)
        lonely = ~relevant.any(1)
        if lonely.any():
            raise ValueError(f"query {start + int(lonely.argmax())} has no relevant item")
        best = np.where(relevant, block, -np.inf).max(1)
        before[rows] = 1 + (block > best[:, None]).sum(1)
        likely = np.argpartition(-block, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(block, likely, 1), axis=1, kind="stable")
        candidates[rows] = np.take_along_axis(likely, order, 1)
        levels[rows] = np.take_along_axis(block, candidates[rows], 1)
    own = _ranks_in_own_lists(scores, query_groups, gallery_groups, candidates, levels)
    order = np.argsort(own, axis=1, kind="stable")
    relevant = gallery_groups[np.take_along_axis(candidates, order, 1)] == query_groups[:, None]
    return np.where(relevant.any(1), 1 + relevant.argmax(1), before)


def _strict(scores: np.ndarray, query_groups: np.ndarray, gallery_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores in float64, by which no relevant pair ties with an irrelevant one, and the (q, g) mask of the relevant."""
    block = np.asarray(scores, np.float32).astype(np.float64)  # the step below is far smaller than one of float32
    if not np.isfinite(block).all():
        raise ValueError("scores: hold values that are not finite; the model diverged")
    relevant = query_groups[:, None] == gallery_groups[None]
    block[relevant] = np.nextafter(block[relevant], -np.inf)
    return block, relevant


def _ranks_in_own_lists(
    scores: np.ndarray,
    query_groups: np.ndarray,
    gallery_groups: np.ndarray,
    candidates: np.ndarray,
    levels: np.ndarray,
) -> np.ndarray:
    """(Q, k) the rank of each query among all queries of each of its (Q, k) candidates, with the (Q, k) scores."""
    n, width = scores.shape
    pairs = np.argsort(candidates, axis=None, kind="stable")
    starts = np.searchsorted(candidates.ravel()[pairs], np.arange(width + 1))
    own = np.empty(candidates.size, np.int64)
    step = max(1, BLOCK // n)
    for start in range(0, width, step):
        cols = slice(start, min(start + step, width))
        block, _ = _strict(scores[:, cols], query_groups, gallery_groups[cols])
        block = np.sort(block.T, axis=1)
        for item in range(cols.start, cols.stop):
            of = pairs[starts[item] : starts[item + 1]]
            own[of] = 1 + n - np.searchsorted(block[item - start], levels.ravel()[of], "right")
    return own.reshape(candidates.shape)
