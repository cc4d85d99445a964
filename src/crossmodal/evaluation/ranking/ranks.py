"""Exact ranks, average precision and the k best items, computed in blocks so that memory never holds all scores.

An item's score is its inner product with the query as `vectors` defines it, or the value of a scoring function
(`Scores`). Ties count against the model: an irrelevant item with the same score as a relevant one is ranked before it,
so that a collapsed model (all vectors equal) gets the worst rank. No result depends on the block size, the number of
threads, the device or the order of the gallery.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmodal.evaluation.ranking import average_precision
from crossmodal.evaluation.ranking.counting import count
from crossmodal.evaluation.ranking.relevance import Relevant, check_groups, relevant_items
from crossmodal.evaluation.ranking.scores import DEFAULT_BUDGET, Products, Scores, source
from crossmodal.evaluation.ranking.topk import Best
from crossmodal.evaluation.ranking.vectors import Array, Vectors, bound, product, tiny

FEW = 16  # relevant items per query up to which all of them are scored exactly before the blocks are computed


@dataclass(frozen=True)
class Ranking:
    """The results of ranking a gallery for each query."""

    ranks: np.ndarray
    """(Q,) int64 1-based rank of the best-ranked relevant item."""
    precision: dict[str, np.ndarray]
    """(Q,) float64 average precision by its name (`AP_VARIANTS`); may be empty."""
    top: np.ndarray
    """(Q, k) int64 indices of the best items of the gallery, best first."""
    top_scores: np.ndarray
    """(Q, k) float32 scores of these items."""


@dataclass(frozen=True)
class Levels:
    """Scores that an irrelevant item must reach to be ranked before each relevant one."""

    scores: np.ndarray  # (Q, m) float64 scores of relevant items, best first, padded with +inf
    reaching: np.ndarray  # (Q, m) int64, number of relevant items that reach each of them

    @property
    def valid(self) -> np.ndarray:
        """(Q, m) bool, False for padding."""
        return np.isfinite(self.scores)


def levels_from(scores: np.ndarray, starts: np.ndarray, every: bool) -> Levels:
    """Build the levels from the scores of relevant items.

    Parameters
    ----------
    scores : (P,) scores of the relevant items, query by query.
    starts : (Q + 1,) place of each query's first score.
    every : whether all relevant items give levels, or only the best of each query.
    """
    counts = np.diff(starts)
    query = np.repeat(np.arange(len(counts)), counts)
    if not every:
        best = np.maximum.reduceat(scores, starts[:-1])
        return Levels(best[:, None], np.add.reduceat(scores == best[query], starts[:-1], dtype=np.int64)[:, None])
    ordered = scores[np.lexsort((-scores, query))]
    place = np.arange(len(scores)) - np.repeat(starts[:-1], counts)
    table = np.full((len(counts), counts.max()), np.inf)
    table[query, place] = ordered
    reaching = np.zeros(table.shape, np.int64)
    for slot in range(table.shape[1]):  # relevant items with the same score reach each other's level
        reaching += table[:, slot, None] >= table
    return Levels(table, reaching - (~np.isfinite(table)).sum(1)[:, None])


def _best_levels(products: Products, relevant: Relevant, budget: int) -> Levels:
    """The best relevant score of each query with many relevant items; one matrix product per group picks candidates."""
    q, g = products.queries, products.gallery
    n = len(relevant.starts) - 1
    best, reaching = np.empty((n, 1)), np.empty((n, 1), np.int64)
    _, group = np.unique(relevant.items[relevant.starts[:-1]], return_inverse=True)  # a group shares its first item
    order = np.argsort(group, kind="stable")
    margin = 0.0 if products.exact else 2 * bound(q, g)
    for members in np.split(order, np.cumsum(np.bincount(group))[:-1]):
        items = relevant.items[slice(*relevant.starts[members[0] : members[0] + 2])]
        right, step = g.block(g.index(items)), max(1, budget // (4 * len(items)))
        for start in range(0, len(members), step):
            part = members[start : start + step]
            near = product(q.block(q.index(part)), right)
            cut = near.amax(1).double().cpu().numpy() - margin * q.norms[part] * g.norms[items].max() - 2 * tiny(q)
            row, col = (near.double() >= q.index(cut)[:, None]).nonzero(as_tuple=True)
            row, col = row.cpu().numpy(), col.cpu().numpy()
            begins = np.searchsorted(row, np.arange(len(part) + 1))
            levels = levels_from(products.scores(part[row], items[col]), begins, False)
            best[part], reaching[part] = levels.scores, levels.reaching
    return Levels(best, reaching)


def levels(products: Products, relevant: Relevant, every: bool = False, budget: int = DEFAULT_BUDGET) -> Levels:
    """Exact scores of each query's best relevant item, or of `every` relevant item."""
    if not every and len(relevant.items) > FEW * max(products.shape):
        return _best_levels(products, relevant, budget)
    return levels_from(_scores_of(products, relevant), relevant.starts, every)


def _scores_of(products: Products, relevant: Relevant) -> np.ndarray:
    scores = products.scores(relevant.queries, relevant.items)
    products.remember(relevant.queries, relevant.items, scores)
    return scores


def _levels_both_ways(
    sides: tuple[Products, Products], relevant: list[Relevant], every: list[bool], budget: int
) -> list[Levels]:
    """`levels` of both directions, which share their relevant pairs; few pairs are scored only once."""
    if len(relevant[0].items) > FEW * max(sides[0].shape):
        return [levels(*which, budget) for which in zip(sides, relevant, every, strict=True)]
    scores = _scores_of(sides[0], relevant[0])
    turned = scores[np.lexsort((relevant[0].queries, relevant[0].items))]
    return [levels_from(s, r.starts, e) for s, r, e in zip((scores, turned), relevant, every, strict=True)]


def retrieval_ranks(
    queries: Array | Vectors | Scores,
    gallery: Array | Vectors | None,
    query_groups: Array,
    gallery_groups: Array,
    *,
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> np.ndarray:
    """1-based rank of each query's best-ranked relevant item; ties count against the model.

    Parameters
    ----------
    queries : (Q, d) vectors, compared with the gallery by inner product; or `Scores`.
    gallery : (G, d) vectors; None with `Scores`.
    query_groups, gallery_groups : (Q,) and (G,) group of each item; an item is relevant if its group is the query's.
    cosine : compare by cosine instead (a vector of zeros has cosine 0 with everything).
    budget : bytes that a block of float32 scores may take; the result does not depend on it.

    Returns
    -------
    (Q,) int64.

    Raises
    ------
    NoRelevantItemError : a query whose group the gallery lacks.
    ValueError : shapes that do not fit, values that are not finite.

    Examples
    --------
    >>> gallery = np.array([[3.0], [2.0], [1.0]])
    >>> retrieval_ranks(np.array([[1.0]]), gallery, query_groups=[7], gallery_groups=[5, 7, 7])
    array([2])
    """
    of = source(queries, gallery, cosine=cosine)
    return rank_queries(of, query_groups, gallery_groups, budget=budget, precision=False).ranks


def retrieval_ranks_both_ways(
    queries: Array | Vectors,
    gallery: Array | Vectors,
    query_groups: Array,
    gallery_groups: Array,
    *,
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> tuple[np.ndarray, np.ndarray]:
    """`retrieval_ranks` in both directions, with each product computed once.

    Parameters
    ----------
    queries, gallery, query_groups, gallery_groups, cosine, budget : as for `retrieval_ranks`.

    Returns
    -------
    (Q,) int64 ranks for the queries in the gallery, and (G,) int64 ranks for the gallery's items in the queries.

    Raises
    ------
    NoRelevantItemError : an item of either side whose group the other side lacks.
    ValueError : shapes that do not fit, values that are not finite.

    Examples
    --------
    >>> images, captions = np.array([[1.0, 0.0], [1.0, 1.0]]), np.eye(2)
    >>> retrieval_ranks_both_ways(images, captions, [0, 1], [0, 1])  # ties count against the model
    (array([1, 2]), array([2, 1]))
    """
    of = source(queries, gallery, cosine=cosine)
    forth, back = rank_both_ways(of, query_groups, gallery_groups, budget=budget, precision=False)
    return forth.ranks, back.ranks


def rank_queries(
    of: Products | Scores,
    query_groups: Array,
    gallery_groups: Array,
    k: int = 0,
    *,
    precision: bool = True,
    budget: int = DEFAULT_BUDGET,
) -> Ranking:
    """Ranks, average precision and the best `k` items in one pass over the blocks of scores.

    Parameters
    ----------
    of : the scores, from `crossmodal.evaluation.source`.
    query_groups, gallery_groups, budget : as for `retrieval_ranks`.
    k : number of best items that are kept per query.
    precision : whether average precision is computed too.

    Returns
    -------
    The (Q,) ranks, the (Q,) average precisions by their names, and the (Q, k) best items with their scores.

    Raises
    ------
    NoRelevantItemError : a query whose group the gallery lacks.
    ValueError : shapes that do not fit, values that are not finite.

    Examples
    --------
    >>> gallery = np.array([[3.0], [2.0], [1.0]])
    >>> found = rank_queries(source(np.array([[1.0]]), gallery), [7], [5, 7, 7], k=1)
    >>> found.ranks, found.precision["average_precision"].round(4), found.top
    (array([2]), array([0.5833]), array([[0]]))
    """
    check_groups(of.shape, query_groups, gallery_groups)
    relevant = relevant_items(query_groups, gallery_groups)
    every = precision and relevant.counts.max() <= FEW
    wanted = levels(of, relevant, every, budget) if isinstance(of, Products) else None
    shape = wanted.scores.shape if wanted else (of.shape[0], int(relevant.counts.max()) if every else 1)
    above, best = np.zeros(shape, np.int64), Best(of, k)
    kept = []
    for rows, cols, block in of.blocks(budget):
        if wanted is None:  # a scoring function cannot score pairs, so levels are taken from the block of whole rows
            part = relevant.starts[rows.start : rows.stop + 1]
            query = relevant.queries[part[0] : part[-1]] - rows.start
            scores = block[query, relevant.items[part[0] : part[-1]]].double().cpu().numpy()
            here = levels_from(scores, part - part[0], every)
            padded = np.full((len(part) - 1, shape[1]), np.inf)
            padded[:, : here.scores.shape[1]] = here.scores
            kept.append(Levels(padded, np.pad(here.reaching, ((0, 0), (0, shape[1] - here.reaching.shape[1])))))
            thresholds = padded
        else:
            thresholds = wanted.scores[rows]
        above[rows] += count(of, rows, cols, block, thresholds)[0]
        best.update(rows, cols, block)
    if wanted is None:
        wanted = Levels(np.concatenate([p.scores for p in kept]), np.concatenate([p.reaching for p in kept]))
    return _ranking(of, wanted, above, best, query_groups, gallery_groups, precision, every, budget)


def rank_both_ways(
    of: Products,
    query_groups: Array,
    gallery_groups: Array,
    k: int = 0,
    *,
    precision: bool = True,
    budget: int = DEFAULT_BUDGET,
) -> tuple[Ranking, Ranking]:
    """`rank_queries` in both directions, with each product computed once and counted for both.

    Parameters
    ----------
    of, query_groups, gallery_groups, k, precision, budget : as for `rank_queries`; `of` must compare vectors.

    Returns
    -------
    The ranking of the gallery for the queries, and that of the queries for the gallery's items.

    Raises
    ------
    NoRelevantItemError : an item of either side whose group the other side lacks.
    ValueError : `Scores`, shapes that do not fit, values that are not finite.

    Examples
    --------
    >>> of = source(np.array([[1.0, 0.0], [1.0, 1.0]]), np.eye(2))
    >>> forth, back = rank_both_ways(of, [0, 1], [0, 1])
    >>> forth.ranks, back.ranks  # ties count against the model
    (array([1, 2]), array([2, 1]))
    """
    if not isinstance(of, Products):
        raise ValueError("queries: expected vectors; `Scores` are ranked one way at a time")
    check_groups(of.shape, query_groups, gallery_groups)
    sides = (of, of.turned)
    groups = ((query_groups, gallery_groups), (gallery_groups, query_groups))
    relevant = [relevant_items(*pair) for pair in groups]
    every = [bool(precision and r.counts.max() <= FEW) for r in relevant]
    wanted = _levels_both_ways(sides, relevant, every, budget)
    above = [np.zeros(level.scores.shape, np.int64) for level in wanted]
    best = [Best(side, k) for side in sides]
    for rows, cols, block in of.blocks(budget):
        counts = count(of, rows, cols, block, wanted[0].scores[rows], wanted[1].scores[cols])
        above[0][rows] += counts[0]
        above[1][cols] += counts[1]
        best[0].update(rows, cols, block)
        best[1].update(cols, rows, block.T)
    forth, back = (
        _ranking(sides[n], wanted[n], above[n], best[n], *groups[n], precision, every[n], budget) for n in (0, 1)
    )
    return forth, back


def _ranking(
    of: Products | Scores,
    wanted: Levels,
    above: np.ndarray,
    best: Best,
    query_groups: Array,
    gallery_groups: Array,
    precision: bool,
    every: bool,
    budget: int,
) -> Ranking:
    others = above - wanted.reaching
    precisions = {}
    if precision:
        if every:
            precisions = average_precision.of_ranks(
                np.where(wanted.valid, others + np.arange(1, others.shape[1] + 1), 0)
            )
        else:
            precisions = average_precision.of_source(of, query_groups, gallery_groups, budget=budget)
    return Ranking(others[:, 0] + 1, precisions, *best.result())


def top_k(
    queries: Array | Vectors | Scores,
    gallery: Array | Vectors | None,
    k: int,
    *,
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of the gallery for each query.

    Items with equal scores come in the gallery's order, so that the result is the same on every machine. A `k` larger
    than the gallery returns all of it.

    Parameters
    ----------
    queries, gallery, cosine, budget : as for `retrieval_ranks`.
    k : number of items, at least 1.

    Returns
    -------
    (Q, k) int64 indices and (Q, k) float32 scores, best first.

    Raises
    ------
    ValueError : a `k` below 1, shapes that do not fit, values that are not finite.

    Examples
    --------
    >>> top_k(np.array([[1.0]]), np.array([[1.0], [3.0], [2.0]]), k=2)
    (array([[1, 2]]), array([[3., 2.]], dtype=float32))
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, found {k}")
    of = source(queries, gallery, cosine=cosine)
    best = Best(of, k)
    for rows, cols, block in of.blocks(budget):
        best.update(rows, cols, block)
    return best.result()
