"""Count the items that reach given levels: the inner loop of ranking, with a few vectorised comparisons per score.

Every query has some levels (the exact scores of its relevant items), and for every block of scores the items that reach
each level are counted. On the CPU this runs in NumPy, in pieces that fit into the cache and are spread over torch's
threads; on other devices it runs in torch. This module knows nothing of relevance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossmodal.evaluation.ranking.scores import Products, Scores
from crossmodal.evaluation.ranking.vectors import spread

Settle = Callable[[int, int, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]

HEIGHT, WIDTH = 248, 8192  # size of a piece: sums over at most 255 rows fit one byte, sums over columns fit two


@dataclass
class Bands:
    """(n, m) float32 bounds of levels: a product of at least `high` reaches the level, one below `low` cannot."""

    low: np.ndarray
    high: np.ndarray


def bands(levels: np.ndarray, error: np.ndarray) -> Bands:
    """The bounds of (n, m) float64 levels for products with (n,) errors, rounded outwards."""
    low, high = levels - error[:, None], levels + error[:, None]
    with np.errstate(over="ignore"):
        down, up = low.astype(np.float32), high.astype(np.float32)
    down = np.where(down > low, np.nextafter(down, np.float32(-np.inf)), down)
    return Bands(down, np.where(up < high, np.nextafter(up, np.float32(np.inf)), up))


def count(
    source: Products | Scores,
    rows: slice,
    cols: slice,
    block: Tensor,
    row_levels: np.ndarray | None,
    col_levels: np.ndarray | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Count the scores of a block that reach each level of its rows and of its columns.

    Parameters
    ----------
    block : (q, g) float32, the products of `rows` with `cols`.
    row_levels : (q, m) levels, padded with +inf; None if rows are not counted.
    col_levels : (g, m) levels, padded with +inf; None if columns are not counted.

    Returns
    -------
    (q, m) and (g, m) int64, or None for what is not counted.
    """
    if isinstance(source, Scores):
        errors = np.zeros(block.shape[0]), np.zeros(block.shape[1])
    else:
        errors = source.error(rows, cols)
    both = [
        None if levels is None else bands(levels, error)
        for levels, error in zip((row_levels, col_levels), errors, strict=True)
    ]
    counts = [None if band is None else np.zeros(band.low.shape, np.int64) for band in both]

    def settle(axis: int, slot: int, row: np.ndarray, col: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Decide by exact scores which undecided pairs of a piece of `size` scores reach their level.

        Returns
        -------
        The rows (axis 0) or columns (axis 1) with such pairs, and the number of these in each.
        """
        indices = row if axis == 0 else col
        level = (row_levels, col_levels)[axis][indices, slot]
        reached = source.reach(row + rows.start, col + cols.start, level, size)
        return np.unique(indices[reached], return_counts=True)

    (_in_numpy if block.device.type == "cpu" else _in_torch)(block, both, counts, settle)
    return counts[0], counts[1]


def _in_numpy(block: Tensor, bands: list[Bands | None], counts: list[np.ndarray | None], settle: Settle) -> None:
    scores = block.numpy()
    height, width = scores.shape

    def strip(top: int) -> np.ndarray | None:
        """Count one strip of rows: counts of rows are written directly, counts of columns are returned."""
        columns = None if bands[1] is None else np.zeros_like(counts[1])
        buffers = np.empty((2, min(HEIGHT, height) * min(WIDTH, width)), bool)
        for left in range(0, width, WIDTH):
            piece = scores[top : top + HEIGHT, left : left + WIDTH]
            low, high = (buffer[: piece.size].reshape(piece.shape) for buffer in buffers)
            for axis, (band, start) in enumerate(zip(bands, (top, left), strict=True)):
                if band is None:
                    continue
                part = slice(start, start + piece.shape[axis])
                above = counts[0] if axis == 0 else columns
                for slot in range(band.low.shape[1]):
                    lows, highs = band.low[part, slot], band.high[part, slot]
                    shape = (-1, 1) if axis == 0 else (1, -1)
                    np.greater_equal(piece, highs.reshape(shape), out=high)
                    if axis == 0:
                        # Count bits, since one call per row would make the threads wait for each other.
                        above[part, slot] += np.bitwise_count(np.packbits(high, axis=1)).sum(1, dtype=np.uint16)
                    else:
                        above[part, slot] += high.view(np.uint8).sum(0, dtype=np.uint8)
                    if (lows < highs).any():
                        np.greater_equal(piece, lows.reshape(shape), out=low)
                        low ^= high
                        row, col = np.divmod(np.flatnonzero(low.ravel()), piece.shape[1])
                        if len(row):
                            place, more = settle(axis, slot, row + top, col + left, piece.size)
                            above[place, slot] += more
        return columns

    strips = spread(strip, range(0, height, HEIGHT))
    if bands[1] is not None:
        for columns in strips:
            counts[1] += columns


def _in_torch(block: Tensor, bands: list[Bands | None], counts: list[np.ndarray | None], settle: Settle) -> None:
    for axis, band in enumerate(bands):
        if band is None:
            continue
        for slot in range(band.low.shape[1]):
            low, high = (
                torch.from_numpy(np.ascontiguousarray(x[:, slot])).to(block.device) for x in (band.low, band.high)
            )
            low, high = (x[:, None] if axis == 0 else x[None, :] for x in (low, high))
            sure = block >= high
            counts[axis][:, slot] += sure.sum(1 - axis).cpu().numpy()
            opened = ((block >= low) & ~sure).nonzero()
            for part in opened.split(2**21):
                row, col = part.cpu().numpy().T
                place, more = settle(axis, slot, row, col, block.numel())
                counts[axis][place, slot] += more
