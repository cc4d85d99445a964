"""The k items of a gallery that are nearest to one vector, exactly, without torch: what a search waits for.

One matrix product in float32 is a filter, as in `vectors`: it lies within a proven distance of the exact score (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.5, which holds for any order of summation). The items that
this distance leaves open get their exact scores, which alone order them. The result therefore depends neither on the
blocks nor on the threads of the product.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BLOCK = 2**18  # values of the gallery that are multiplied at once: 1 MiB, whose lengths are then read from the cache
PAIRS = 2**17  # values of the gallery whose scores are computed exactly at once, in float64
TINY = 2.0**-124  # bounds the underflow of one product in float32


def halving_sums(x: Any) -> Any:
    """(n,) sums of the rows of (n, d), by adding the right half to the left until one column is left; x is overwritten.

    There are elementwise additions only, so that the order is the same on every device, in NumPy and in torch.
    """
    width = x.shape[1]
    while width > 1:
        half = (width + 1) // 2
        x[:, : width - half] += x[:, half:width]
        width = half
    return x[:, 0]


def nearest(vector: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k items of a gallery with the largest inner products with a vector; equal ones in the gallery's order.

    Parameters
    ----------
    vector : (d,) of any real type.
    gallery : (G, d) of any real type, memory-mapped too; it is read once, a block at a time.
    k : number of items, at least 1; a number larger than the gallery returns all of it.

    Returns
    -------
    (k,) int64 indices and (k,) float64 scores, best first. A score is the sum of the products in float64, as
    `vectors.scores` defines it.

    Raises
    ------
    ValueError : the vector or an item that may be among the best has values that are not finite.

    Examples
    --------
    >>> nearest(np.array([1.0]), np.array([[1.0], [3.0], [2.0], [3.0]]), 2)
    (array([1, 3]), array([3., 3.]))
    """
    candidates = np.arange(len(gallery))
    if k < len(gallery):
        # Values beyond the range of float32 give infinite or undefined bounds, which leave their items open.
        with np.errstate(over="ignore", invalid="ignore"):
            candidates = _candidates(vector, gallery, k)
    scores = _scores(vector, gallery, candidates)
    if not np.isfinite(scores).all():
        raise ValueError("vectors have values that are not finite; a model that diverged cannot be searched with")
    order = np.lexsort((candidates, -scores))[:k]
    return candidates[order], scores[order]


def _candidates(vector: np.ndarray, gallery: np.ndarray, k: int) -> np.ndarray:
    """(n,) indices, ascending, of the items that may be among the k best.

    The bound of a product's error is that of its block, whose length as one long vector is an upper bound of each
    item's: one dot product of the block with itself, where the lengths of all items would cost as much as the products.
    """
    count, dim = gallery.shape
    rows = max(1, BLOCK // max(dim, 1))
    single = np.ascontiguousarray(vector, np.float32)
    products, blocks = np.empty(count, np.float32), -(-count // rows)
    squares, best = np.empty(blocks), np.empty(blocks)
    for place, start in enumerate(range(0, count, rows)):
        block = np.ascontiguousarray(gallery[start : start + rows], np.float32)
        best[place] = np.matmul(block, single, out=products[start : start + rows]).max()
        squares[place] = np.vdot(block, block)
    # Roundings: one per dimension, two for the conversion to float32, and those of the exact score in float64. The
    # factor covers the terms of second order and the rounding of the squares, of which a dot product adds many at once.
    unit = (dim + 3) * (2.0**-24 + 2.0**-53) if dim * 2.0**-24 <= 0.01 else math.inf
    length = 1.1 * math.sqrt(float(np.vdot(single, single)) + dim * TINY)
    errors = unit * length * 1.1 * np.sqrt(squares + rows * dim * TINY) + dim * TINY
    # The best items of k blocks have at least the score `least`, so that blocks below it have none of the k best.
    least = np.partition(best - errors, blocks - k)[blocks - k] if k <= blocks else -math.inf
    kept = np.flatnonzero(~(best + errors < least))
    items = (kept[:, None] * rows + np.arange(rows)).ravel()
    items = items[items < count]
    near, error = products[items].astype(np.float64), np.repeat(errors[kept], rows)[: len(items)]
    least = np.partition(near - error, len(items) - k)[len(items) - k]
    return items[~(near + error < least)]


def _scores(vector: np.ndarray, gallery: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n,) exact scores of some items of the gallery."""
    double = np.asarray(vector, np.float64)
    rows = max(1, PAIRS // max(len(double), 1))
    scores = np.empty(len(items))
    for start in range(0, len(items), rows):
        part = slice(start, start + rows)
        scores[part] = halving_sums(gallery[items[part]].astype(np.float64) * double)
    return scores
