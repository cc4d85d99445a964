"""A ranking too large for one process, cut into rectangles of queries by gallery that are counted separately.

Every shard computes the exact scores of the relevant items of its queries, wherever in the gallery these are, so that
the counts of the shards only have to be added: the result is bit for bit that of one process. Vectors may be
memory-mapped; a shard reads its own part and the relevant items. This module itself reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from crossmodal.evaluation.ranking.average_precision import of_ranks
from crossmodal.evaluation.ranking.counting import count
from crossmodal.evaluation.ranking.ranks import FEW, Levels, Ranking, levels_from
from crossmodal.evaluation.ranking.relevance import Relevant, check_groups, relevant_items
from crossmodal.evaluation.ranking.scores import DEFAULT_BUDGET, Products
from crossmodal.evaluation.ranking.topk import Best, best_of
from crossmodal.evaluation.ranking.vectors import Array, Vectors, unscaled

Rectangle = tuple[slice, slice]
SIDES = ("queries", "gallery")


def cut(shape: tuple[int, int], n: int) -> list[Rectangle]:
    """`n` rectangles that cover a (Q, G) ranking, as near to squares as `n` allows, since squares read the least.

    Raises
    ------
    ValueError : the ranking cannot be cut into `n` rectangles.
    """
    sizes = [
        (shape[0] / rows + shape[1] / (n // rows), rows)
        for rows in range(1, n + 1)
        if n % rows == 0 and rows <= shape[0] and n // rows <= shape[1]
    ]
    if not sizes:
        raise ValueError(f"shards: a ranking of {shape[0]} by {shape[1]} cannot be cut into {n} rectangles")
    rows = min(sizes)[1]
    return [(r, c) for r in _even(shape[0], rows) for c in _even(shape[1], n // rows)]


def _even(length: int, n: int) -> list[slice]:
    edges = [length * place // n for place in range(n + 1)]
    return [slice(*edge) for edge in pairwise(edges)]


@dataclass(frozen=True)
class Side:
    """A shard's results for n consecutive queries, as plain arrays that can be saved in one file."""

    start: int  # index of the first of the n queries
    above: np.ndarray  # (n, m) int64, number of the shard's items that reach the level of each relevant item
    reaching: np.ndarray  # (n, m) int64, number of relevant items of the whole gallery that reach it
    valid: np.ndarray  # (n, m) bool, False for padding
    items: np.ndarray  # (n, k) int64 best items, padded with -1
    scores: np.ndarray  # (n, k) float64


@dataclass(frozen=True)
class Shard:
    """The counts of one rectangle, in both directions."""

    queries: Side
    gallery: Side
    k: int  # number of best items per query
    precise: bool  # whether all relevant items were counted, or only the best of each query

    def arrays(self) -> dict[str, np.ndarray]:
        """The shard as named arrays, for `numpy.savez`."""
        sides = {f"{name}.{key}": value for name in SIDES for key, value in vars(self.side(name)).items()}
        return {**sides, "k": np.array(self.k), "precise": np.array(self.precise)}

    def side(self, name: str) -> Side:
        """The results with the `queries` or the `gallery` as queries."""
        return getattr(self, name)

    @classmethod
    def of_arrays(cls, arrays: dict[str, np.ndarray]) -> Shard:
        """The shard whose arrays `numpy.load` returned."""
        sides = []
        for name in SIDES:
            values = {key: arrays[f"{name}.{key}"] for key in Side.__annotations__}
            sides.append(Side(**(values | {"start": int(values["start"])})))
        return cls(*sides, int(arrays["k"]), bool(arrays["precise"]))


def rank_shard(
    queries: Array,
    gallery: Array,
    query_groups: Array,
    gallery_groups: Array,
    rectangle: Rectangle,
    k: int = 0,
    *,
    precision: bool = True,
    cosine: bool = False,
    budget: int = DEFAULT_BUDGET,
) -> Shard:
    """Count one rectangle of a ranking, in both directions.

    Parameters
    ----------
    queries, gallery : all (Q, d) and (G, d) vectors; memory-mapped arrays are read only where needed.
    query_groups, gallery_groups : all (Q,) and (G,) groups.
    rectangle : one of the rectangles of `cut`.
    k : number of best items that are kept per query.
    precision : whether the counts for average precision are made too.
    cosine, budget : as for `retrieval_ranks`.

    Raises
    ------
    NoRelevantItemError : a query whose group the gallery lacks.
    ValueError : shapes that do not fit, values that are not finite, or, with `precision`, more than `FEW` relevant
        items of a query.
    """
    rows, cols = rectangle
    check_groups((len(queries), len(gallery)), query_groups, gallery_groups)
    q = Vectors(queries[rows], "queries", cosine=cosine)
    g = Vectors(gallery[cols], "gallery", cosine=cosine)
    of = Products(q, g)
    groups, items = np.asarray(query_groups), np.asarray(gallery_groups)
    wanted = [
        _levels_of(q, gallery, relevant_items(groups[rows], items), precision, cosine),
        _levels_of(g, queries, relevant_items(items[cols], groups), precision, cosine),
    ]
    shift = sum(v.exponent for v in (q, g) if not cosine)
    levels = [np.ldexp(level.scores, shift) for level in wanted]
    above = [np.zeros(level.scores.shape, np.int64) for level in wanted]
    best = [Best(of, k), Best(of.turned, k)]
    for part, across, block in of.blocks(budget):
        counts = count(of, part, across, block, levels[0][part], levels[1][across])
        above[0][part] += counts[0]
        above[1][across] += counts[1]
        best[0].update(part, across, block)
        best[1].update(across, part, block.T)
    sides = []
    for level, counted, kept, start, offset in zip(
        wanted, above, best, (rows.start, cols.start), (cols.start, rows.start), strict=True
    ):
        places = np.where(kept.items < 0, -1, kept.items + offset)
        sides.append(Side(start, counted, level.reaching, level.valid, places, unscaled(q, g, kept.scores)))
    return Shard(*sides, k, precision)


def _levels_of(queries: Vectors, others: Array, relevant: Relevant, every: bool, cosine: bool) -> Levels:
    """Exact scores of the relevant items of `queries`, in the units of the vectors as they were passed in."""
    if every and relevant.counts.max() > FEW:
        raise ValueError(
            f"shards: a query has {relevant.counts.max()} relevant items, and average precision is counted for up to "
            f"{FEW}; rank without it (precision=False), or call average_precision on a part of the queries"
        )
    needed, place = np.unique(relevant.items, return_inverse=True)
    picked = Vectors(others[needed], "relevant items", cosine=cosine)
    scores = unscaled(queries, picked, Products(queries, picked).scores(relevant.queries, place))
    if not np.isfinite(scores).all():
        raise ValueError("shards: scores are too large for float64; scale the vectors down")
    return levels_from(scores, relevant.starts, every)


def gather(shards: Iterable[Shard], shape: tuple[int, int]) -> tuple[Ranking, Ranking]:
    """Add up the shards of a (Q, G) ranking; the result has the same bits as that of `rank_both_ways`.

    Returns
    -------
    The ranking of the gallery for the queries, and that of the queries for the gallery's items.

    Raises
    ------
    ValueError : shards that are missing or overlap.
    """
    kept = list(shards)
    if not kept:
        raise ValueError("shards: none to gather")
    rankings = []
    for axis, name in enumerate(SIDES):
        sides = [shard.side(name) for shard in kept]
        width = max(side.above.shape[1] for side in sides)
        above, reaching = np.zeros((shape[axis], width), np.int64), np.zeros((shape[axis], width), np.int64)
        valid, n_compared = np.zeros((shape[axis], width), bool), np.zeros(shape[axis], np.int64)
        k = min(kept[0].k, shape[1 - axis])
        items, scores = np.full((shape[axis], k), -1, np.int64), np.full((shape[axis], k), -np.inf)
        for side, shard in zip(sides, kept, strict=True):
            n, m = side.above.shape
            part = slice(side.start, side.start + n)
            above[part, :m] += side.above
            reaching[part, :m], valid[part, :m] = side.reaching, side.valid
            n_compared[part] += len(shard.side(SIDES[1 - axis]).above)
            merged = best_of([(items[part], scores[part]), (side.items, side.scores)], k)
            items[part], scores[part] = merged
        if (n_compared != shape[1 - axis]).any():
            lone = int(np.argmax(n_compared != shape[1 - axis]))
            raise ValueError(
                f"shards: {name} {lone} was compared with {n_compared[lone]:,} of {shape[1 - axis]:,} items: a shard "
                "is missing or occurs twice"
            )
        others = above - reaching
        ranks = np.where(valid, others + np.arange(1, width + 1), 0)
        precision = of_ranks(ranks) if all(shard.precise for shard in kept) else {}
        rankings.append(Ranking(others[:, 0] + 1, precision, items, scores.astype(np.float32)))
    return rankings[0], rankings[1]
