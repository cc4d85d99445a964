"""Sources of scores, read block by block: two sets of vectors, or any function that scores a slice of the queries.

A block of products only approximates the scores; `Products.error` bounds the error, and `Products.reach` decides the
pairs that the bound leaves open, so that every result agrees with the exact scores. This module knows nothing of
relevance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from crossmodal.core.console import progress, tracked
from crossmodal.evaluation.ranking import vectors
from crossmodal.evaluation.ranking.vectors import Array, Vectors

DEFAULT_BUDGET = 128 * 2**20
DENSE = 64  # if more than one pair in 64 is undecided, one float64 matrix product is cheaper than single pairs

Pairs = tuple[np.ndarray, np.ndarray]


class Scores:
    """Scores from a function, for systems that do not compare vectors by inner products (such as cross attention).

    Parameters
    ----------
    function : takes a slice of the queries and returns their (q, G) scores against the whole gallery, larger is better.
        They are compared as float32. The score of a pair must not depend on the slice.
    shape : (Q, G).
    name : how error messages refer to the scores.
    rows : number of queries per call; by default as many as the memory budget holds.
    """

    exact = True

    def __init__(
        self, function: Callable[[slice], Array], shape: tuple[int, int], name: str = "scores", rows: int | None = None
    ):
        self.function, self.shape, self.name, self.rows = function, shape, name, rows

    @classmethod
    def of(cls, matrix: Array) -> Scores:
        """The scores of a (Q, G) matrix that exists already, for instance memory-mapped from disk."""
        return cls(lambda rows: matrix[rows], tuple(matrix.shape))

    def blocks(self, budget: int = DEFAULT_BUDGET) -> Iterator[tuple[slice, slice, Tensor]]:
        """Compute the scores block by block; each block covers the whole gallery.

        Yields
        ------
        A slice of the queries, a slice of the gallery and their (q, g) float32 scores.

        Raises
        ------
        ValueError : the function returns another shape, or values that are not finite.
        """
        n, width = self.shape
        step = min(self.rows or n, max(1, budget // (4 * max(width, 1))))
        for start in tracked(range(0, n, step), "ranking", unit="blocks"):
            rows = slice(start, min(start + step, n))
            block = torch.as_tensor(self.function(rows)).detach().float()
            if block.shape != (rows.stop - rows.start, width):
                expected = (rows.stop - rows.start, width)
                raise ValueError(f"{self.name}: expected a block of shape {expected}, found {tuple(block.shape)}")
            if not torch.isfinite(block).all():
                raise ValueError(f"{self.name}: hold values that are not finite; the model diverged")
            yield rows, slice(0, width), block


class Products:
    """Inner products of two sets of vectors, approximated by matrix products and decided by `vectors.scores`.

    Parameters
    ----------
    queries, gallery : (Q, d) and (G, d) vectors; the products have the shape (Q, G).
    """

    def __init__(self, queries: Vectors, gallery: Vectors):
        self.queries, self.gallery = queries, gallery
        self.shape = (len(queries), len(gallery))
        self.exact = vectors.exact(queries, gallery)
        self._known: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def turned(self) -> Products:
        """The same products with the gallery's items as queries."""
        return Products(self.gallery, self.queries)

    def blocks(
        self, budget: int = DEFAULT_BUDGET, rows: slice | None = None, cols: slice | None = None
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """As `Scores.blocks`, for the pairs of `rows` with `cols`; the next block overwrites the tensor."""
        rows, cols = rows or slice(0, self.shape[0]), cols or slice(0, self.shape[1])
        n, width = rows.stop - rows.start, cols.stop - cols.start
        values = max(1, budget // 4)
        height = min(n, max(values // width, math.isqrt(values)))  # square if possible, since flat products are slower
        step = min(width, max(1, values // height))
        buffer = _room(height * step, self.queries.device)
        tops, starts = range(rows.start, rows.stop, height), range(cols.start, cols.stop, step)
        with progress("ranking", len(tops) * len(starts), unit="blocks") as advance:
            for top in tops:
                part = slice(top, min(top + height, rows.stop))
                left = self.queries.block(part)
                for start in starts:
                    across = slice(start, min(start + step, cols.stop))
                    right = self.gallery.block(across)
                    out = buffer[: len(left) * len(right)].view(len(left), len(right))
                    yield part, across, vectors.product(left, right, out)
                    advance()

    def error(self, rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the error of a block's products: (q,) for each query and (g,) for each gallery item."""
        q, g = self.queries.norms[rows], self.gallery.norms[cols]
        if self.exact:
            return np.zeros(len(q)), np.zeros(len(g))
        each, least = vectors.bound(self.queries, self.gallery), vectors.tiny(self.queries)
        return each * q * g.max() + least, each * g * q.max() + least

    def scores(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """(P,) exact float64 scores of the pairs of queries `i` with gallery items `j`."""
        return vectors.scores(self.queries, self.gallery, i, j)

    def remember(self, i: np.ndarray, j: np.ndarray, scores: np.ndarray) -> None:
        """Keep the scores of at least one pair for `reach`, since the pairs that define levels recur in the blocks."""
        codes = self._codes(i, j)
        order = np.argsort(codes)
        self._known = codes[order], scores[order]

    def _codes(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return i * np.int64(self.shape[1]) + j

    def _scores_or_known(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        if self._known is None:
            return self.scores(i, j)
        codes, scores = self._known
        place = np.searchsorted(codes, wanted := self._codes(i, j)).clip(max=len(codes) - 1)
        known_scores, new = scores[place], codes[place] != wanted
        known_scores[new] = self.scores(i[new], j[new])
        return known_scores

    def reach(self, i: np.ndarray, j: np.ndarray, level: np.ndarray, size: int) -> np.ndarray:
        """(P,) bool, whether the pairs that a block of `size` pairs left undecided score at least `level`."""
        reached = np.empty(len(i), dtype=bool)
        still = np.arange(len(i))
        if len(i) * DENSE > size and len(i) > vectors.MANY:
            near, margin = self._finer(i, j)
            reached = near >= level
            still = np.flatnonzero(np.abs(near - level) <= margin)
        elif closer := vectors.near(self.queries, self.gallery, i, j):
            reached = closer[0] >= level
            still = np.flatnonzero(np.abs(closer[0] - level) <= closer[1])
        if len(still):
            reached[still] = self._scores_or_known(i[still], j[still]) >= level[still]
        return reached

    def _finer(self, i: np.ndarray, j: np.ndarray, budget: int = 2**25) -> tuple[np.ndarray, np.ndarray]:
        """(P,) float64 products of pairs, computed by whole blocks, and (P,) bounds of their errors."""
        rows, row = np.unique(i, return_inverse=True)
        cols, col = np.unique(j, return_inverse=True)
        finer = np.empty(len(i))
        step = max(1, budget // (8 * max(self.queries.dim, len(rows))))
        order = np.argsort(col, kind="stable")
        left = self.queries.block(self.queries.index(rows), torch.float64)
        for start in range(0, len(cols), step):
            right = self.gallery.block(self.gallery.index(cols[start : start + step]), torch.float64)
            here = order[slice(*np.searchsorted(col, [start, start + step], sorter=order))]
            block = (left @ right.T).cpu().numpy()
            finer[here] = block[row[here], col[here] - start]
        each = vectors.bound(self.queries, self.gallery, torch.float64)
        least = vectors.tiny(self.queries, torch.float64)
        return finer, each * self.queries.norms[i] * self.gallery.norms[j] + least


def _room(values: int, device: torch.device) -> Tensor:
    """Memory for float32 values; on the CPU NumPy allocates it, since its huge pages make the first use cheaper."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty(values, np.float32))
    return torch.empty(values, device=device)


Source = Scores | Products


def source(
    queries: Array | Vectors | Scores, gallery: Array | Vectors | None, *, cosine: bool = False
) -> Products | Scores:
    """The (Q, G) scores that `rank_queries` and `rank_both_ways` take, from the arguments of the other functions.

    Parameters
    ----------
    queries : (Q, d) vectors, compared with the gallery by inner product; or `Scores`, which are returned as they are.
    gallery : (G, d) vectors; None with `Scores`.
    cosine : compare by cosine instead (a vector of zeros has cosine 0 with everything).

    Raises
    ------
    ValueError : a gallery beside `Scores`, no gallery beside vectors, or vectors that `Vectors` rejects.
    """
    if isinstance(queries, Scores):
        if gallery is not None:
            raise ValueError("gallery: expected None beside `Scores`, which scores the gallery itself")
        return queries
    if gallery is None:
        raise ValueError("gallery: expected vectors, found None")
    return Products(*vectors.pair(queries, gallery, cosine=cosine))
