"""Ranks, average precision and the best items, exact, in blocks: never the whole query-by-gallery matrix in memory.

An item's score is its inner product with the query as `vectors` defines it (or what a function gives, `Scores`). Ties
count against the model: an item that scores as much as a relevant one and is not relevant itself is ranked before it,
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

FEW = 16  # relevant items a query, on average, up to which all of them are scored before the blocks are made


@dataclass(frozen=True)
class Ranking:
    """What is kept of each query's ranking."""

    ranks: np.ndarray  # (Q,) int64, 1-based, of the best-ranked relevant item
    precision: dict[str, np.ndarray]  # (Q,) float64 average precision by its name (`AP_VARIANTS`); may be empty
    top: np.ndarray  # (Q, k) int64, best items of the gallery
    top_scores: np.ndarray  # (Q, k) float32


@dataclass(frozen=True)
class Levels:
    """What other items must reach to be ranked before a relevant one."""

    scores: np.ndarray  # (Q, m) float64 scores of relevant items, best first; +inf where there are fewer
    own: np.ndarray  # (Q, m) int64, relevant items that reach each of them

    @property
    def there(self) -> np.ndarray:
        return np.isfinite(self.scores)


def levels_from(scores: np.ndarray, starts: np.ndarray, every: bool) -> Levels:
    """Of flat scores of relevant items: of all of them, or of the best of each query."""
    counts = np.diff(starts)
    query = np.repeat(np.arange(len(counts)), counts)
    if not every:
        best = np.maximum.reduceat(scores, starts[:-1])
        return Levels(best[:, None], np.add.reduceat(scores == best[query], starts[:-1], dtype=np.int64)[:, None])
    ordered = scores[np.lexsort((-scores, query))]
    place = np.arange(len(scores)) - np.repeat(starts[:-1], counts)
    table = np.full((len(counts), counts.max()), np.inf)
    table[query, place] = ordered
    own = np.zeros(table.shape, np.int64)
    for slot in range(table.shape[1]):  # relevant items of the same score reach each other's level
        own += table[:, slot, None] >= table
    return Levels(table, own - (~np.isfinite(table)).sum(1)[:, None])


def _best_levels(products: Products, relevant: Relevant, budget: int) -> Levels:
    """The best relevant score of each query where there are many: a matrix product of each group picks candidates."""
    q, g = products.queries, products.gallery
    n = len(relevant.starts) - 1
    best, own = np.empty((n, 1)), np.empty((n, 1), np.int64)
    _, group = np.unique(relevant.items[relevant.starts[:-1]], return_inverse=True)  # same first item: same group
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
            found = levels_from(products.scores(part[row], items[col]), begins, False)
            best[part], own[part] = found.scores, found.own
    return Levels(best, own)


def levels(products: Products, relevant: Relevant, every: bool = False, budget: int = DEFAULT_BUDGET) -> Levels:
    """Exact scores of the relevant items of each query: of the best, or of `every` one."""
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
    """`levels` of both directions, whose relevant pairs are the same ones: scored once where they are few."""
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
    """1-based rank of each query's best-ranked relevant item, ties against the model.

    Parameters
    ----------
    queries : (Q, d), gallery : (G, d), compared by inner product; or `Scores` and None.
    query_groups : (Q,), gallery_groups : (G,): an item is relevant where the groups are equal.
    cosine : compare by cosine instead (a vector of zeros has cosine 0 with everything).
    budget : bytes that a block of float32 scores may take; the result does not depend on it.

    Returns
    -------
    (Q,) int64.

    Raises
    ------
    NoRelevantItemError : a query whose group the gallery lacks.
    ValueError : shapes that do not fit, values that are not finite.
    """
    of = source(queries, gallery, cosine=cosine)
    return rank_queries(of, query_groups, gallery_groups, budget=budget, precision=False).ranks


def ranks_both_ways(
    queries: Array | Vectors,
    gallery: Array | Vectors,
    query_groups: Array,
    gallery_groups: Array,
    *,
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> tuple[np.ndarray, np.ndarray]:
    """`retrieval_ranks` of the queries among the gallery and of the gallery among the queries, from one product.

    Returns
    -------
    (Q,) and (G,) int64.
    """
    of = source(queries, gallery, cosine=cosine)
    there, back = rank_both_ways(of, query_groups, gallery_groups, budget=budget, precision=False)
    return there.ranks, back.ranks


def rank_queries(
    of: Products | Scores,
    query_groups: Array,
    gallery_groups: Array,
    k: int = 0,
    *,
    precision: bool = True,
    budget: int = DEFAULT_BUDGET,
) -> Ranking:
    """Ranks, average precision and the best `k` in one pass over the blocks of a `source`.

    Raises
    ------
    NoRelevantItemError : a query whose group the gallery lacks.
    ValueError : shapes that do not fit, values that are not finite.
    """
    check_groups(of.shape, query_groups, gallery_groups)
    relevant = relevant_items(query_groups, gallery_groups)
    every = precision and relevant.counts.max() <= FEW
    wanted = levels(of, relevant, every, budget) if isinstance(of, Products) else None
    shape = wanted.scores.shape if wanted else (of.shape[0], int(relevant.counts.max()) if every else 1)
    above, best = np.zeros(shape, np.int64), Best(of, k)
    kept = []
    for rows, cols, block in of.blocks(budget):
        if wanted is None:  # the function's scores are all there is: those of the relevant items are in the block
            part = relevant.starts[rows.start : rows.stop + 1]
            query = relevant.queries[part[0] : part[-1]] - rows.start
            own = block[query, relevant.items[part[0] : part[-1]]].double().cpu().numpy()
            here = levels_from(own, part - part[0], every)
            padded = np.full((len(part) - 1, shape[1]), np.inf)
            padded[:, : here.scores.shape[1]] = here.scores
            kept.append(Levels(padded, np.pad(here.own, ((0, 0), (0, shape[1] - here.own.shape[1])))))
            asked = padded
        else:
            asked = wanted.scores[rows]
        above[rows] += count(of, rows, cols, block, asked)[0]
        best.update(rows, cols, block)
    if wanted is None:
        wanted = Levels(np.concatenate([p.scores for p in kept]), np.concatenate([p.own for p in kept]))
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
    """`rank_queries` in both directions, each product made once and counted for both."""
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
        found = count(of, rows, cols, block, wanted[0].scores[rows], wanted[1].scores[cols])
        above[0][rows] += found[0]
        above[1][cols] += found[1]
        best[0].update(rows, cols, block)
        best[1].update(cols, rows, block.T)
    there, back = (
        _ranking(sides[n], wanted[n], above[n], best[n], *groups[n], precision, every[n], budget) for n in (0, 1)
    )
    return there, back


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
    others = above - wanted.own
    found = {}
    if precision:
        if every:
            found = average_precision.of_ranks(np.where(wanted.there, others + np.arange(1, others.shape[1] + 1), 0))
        else:
            found = average_precision.of_source(of, query_groups, gallery_groups, budget=budget)
    return Ranking(others[:, 0] + 1, found, *best.result())


def top_k(
    queries: Array | Vectors | Scores,
    gallery: Array | Vectors | None,
    k: int,
    *,
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of the gallery for each query: (Q, k) int64 indices and float32 scores, best first.

    Equal scores come in the gallery's order, so that the answer is the same on every machine. A `k` larger than the
    gallery gives all of it.

    Raises
    ------
    ValueError : a `k` below 1, shapes that do not fit, values that are not finite.
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1, found {k}")
    of = source(queries, gallery, cosine=cosine)
    best = Best(of, k)
    for rows, cols, block in of.blocks(budget):
        best.update(rows, cols, block)
    return best.result()
