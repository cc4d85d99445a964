"""Where scores come from, a block at a time: two sets of vectors, or any function that scores a slice of the queries.

A block of products is only near the scores; `Products.error` says how near, and `Products.decide` settles what that
leaves open, so that every answer made of blocks is that of the exact scores. Knows nothing of relevance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from crossmodal.evaluation.ranking import vectors
from crossmodal.evaluation.ranking.vectors import Array, Vectors

DEFAULT_BUDGET = 128 * 2**20
DENSE = 64  # one pair in so many open: a float64 product of the part is cheaper than its pairs one by one

Pairs = tuple[np.ndarray, np.ndarray]


class Scores:
    """Scores from a function, for systems that have no vectors to multiply (cross attention).

    Parameters
    ----------
    function : takes a slice of the queries, gives their (q, G) scores against the whole gallery, larger is better.
        They are compared as float32. What the function gives for a pair must not depend on the slice.
    shape : (Q, G).
    rows : queries of one call; by default as many as the memory budget holds.
    """

    exact = True

    def __init__(
        self, function: Callable[[slice], Array], shape: tuple[int, int], name: str = "scores", rows: int | None = None
    ):
        self.function, self.shape, self.name, self.rows = function, shape, name, rows

    @classmethod
    def of(cls, matrix: Array) -> Scores:
        """Of a (Q, G) matrix that lies somewhere already, on disk for one."""
        return cls(lambda rows: matrix[rows], tuple(matrix.shape))

    def blocks(self, budget: int = DEFAULT_BUDGET) -> Iterator[tuple[slice, slice, Tensor]]:
        """(slice of the queries, slice of the gallery, (q, g) float32 scores), row by row; here all of the gallery."""
        n, width = self.shape
        step = min(self.rows or n, max(1, budget // (4 * max(width, 1))))
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            block = torch.as_tensor(self.function(rows)).detach().float()
            if block.shape != (rows.stop - rows.start, width):
                expected = (rows.stop - rows.start, width)
                raise ValueError(f"{self.name}: expected a block of shape {expected}, found {tuple(block.shape)}")
            if not torch.isfinite(block).all():
                raise ValueError(f"{self.name}: hold values that are not finite; the model diverged")
            yield rows, slice(0, width), block


class Products:
    """Inner products of two sets of vectors: what `Vectors` calls their scores, filtered through a matrix product."""

    def __init__(self, queries: Vectors, gallery: Vectors):
        self.queries, self.gallery = queries, gallery
        self.shape = (len(queries), len(gallery))
        self.exact = vectors.exact(queries, gallery)
        self._known: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def turned(self) -> Products:
        """The gallery's items as queries."""
        return Products(self.gallery, self.queries)

    def blocks(
        self, budget: int = DEFAULT_BUDGET, rows: slice | None = None, cols: slice | None = None
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """As `Scores.blocks`, of a part of the pairs if asked for. The tensor is used again for the next block."""
        rows, cols = rows or slice(0, self.shape[0]), cols or slice(0, self.shape[1])
        n, width = rows.stop - rows.start, cols.stop - cols.start
        values = max(1, budget // 4)
        height = min(n, max(values // width, math.isqrt(values)))  # square if need be: flat products are slower
        step = min(width, max(1, values // height))
        buffer = _room(height * step, self.queries.device)
        for top in range(rows.start, rows.stop, height):
            part = slice(top, min(top + height, rows.stop))
            left = self.queries.block(part)
            for start in range(cols.start, cols.stop, step):
                across = slice(start, min(start + step, cols.stop))
                right = self.gallery.block(across)
                out = buffer[: len(left) * len(right)].view(len(left), len(right))
                yield part, across, vectors.product(left, right, out)

    def error(self, rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        """How far the products of a block may be from the scores: (q,) for each query, (g,) for each of the gallery."""
        q, g = self.queries.norms[rows], self.gallery.norms[cols]
        if self.exact:
            return np.zeros(len(q)), np.zeros(len(g))
        each, least = vectors.bound(self.queries, self.gallery), vectors.tiny(self.queries)
        return each * q * g.max() + least, each * g * q.max() + least

    def scores(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """(P,) float64 scores of pairs."""
        return vectors.scores(self.queries, self.gallery, i, j)

    def remember(self, i: np.ndarray, j: np.ndarray, scores: np.ndarray) -> None:
        """Keep the scores of pairs, at least one, that `reach` will be asked for: levels are reached by their own."""
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
        found, new = scores[place], codes[place] != wanted
        found[new] = self.scores(i[new], j[new])
        return found

    def reach(self, i: np.ndarray, j: np.ndarray, level: np.ndarray, size: int) -> np.ndarray:
        """(P,) bool: whether pairs that a block of `size` pairs left open score at least `level`."""
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
        """Float64 products of pairs by whole blocks, and how far each may be from the score."""
        rows, row = np.unique(i, return_inverse=True)
        cols, col = np.unique(j, return_inverse=True)
        found = np.empty(len(i))
        step = max(1, budget // (8 * max(self.queries.dim, len(rows))))
        order = np.argsort(col, kind="stable")
        left = self.queries.block(self.queries.index(rows), torch.float64)
        for start in range(0, len(cols), step):
            right = self.gallery.block(self.gallery.index(cols[start : start + step]), torch.float64)
            here = order[slice(*np.searchsorted(col, [start, start + step], sorter=order))]
            block = (left @ right.T).cpu().numpy()
            found[here] = block[row[here], col[here] - start]
        each = vectors.bound(self.queries, self.gallery, torch.float64)
        least = vectors.tiny(self.queries, torch.float64)
        return found, each * self.queries.norms[i] * self.gallery.norms[j] + least


def _room(values: int, device: torch.device) -> Tensor:
    """Memory for float32 values, on the CPU from NumPy: it asks for huge pages, so that the first use costs less."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty(values, np.float32))
    return torch.empty(values, device=device)


Source = Scores | Products


def source(
    queries: Array | Vectors | Scores, gallery: Array | Vectors | None, *, cosine: bool = False
) -> Products | Scores:
    """What the public functions are given as a source: `Scores` alone, or queries and gallery."""
    if isinstance(queries, Scores):
        if gallery is not None:
            raise ValueError("gallery: expected None beside `Scores`, which scores the gallery itself")
        return queries
    if gallery is None:
        raise ValueError("gallery: expected vectors, found None")
    return Products(*vectors.pair(queries, gallery, cosine=cosine))
