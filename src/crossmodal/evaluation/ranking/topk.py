"""The k best items of a gallery, gathered block by block: products give candidates, exact scores their order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossmodal.evaluation.ranking.scores import Products, Scores
from crossmodal.evaluation.ranking.vectors import unscaled

SPARE = 8  # candidates beyond k that are examined before a whole row is searched


class Best:
    """The k best items of each query so far. Equal scores are ordered by index, whatever the order of the blocks."""

    def __init__(self, of: Products | Scores, k: int):
        self.of, self.k = of, min(k, of.shape[1])
        self.items = np.full((of.shape[0], self.k), -1, np.int64)
        self.scores = np.full((of.shape[0], self.k), -np.inf)

    def update(self, rows: slice, cols: slice, block: Tensor) -> None:
        """Add the items of a block: the (q, g) products of `rows` with `cols`."""
        if self.k == 0:
            return
        n, width = block.shape
        error = np.zeros(n) if isinstance(self.of, Scores) else self.of.error(rows, cols)[0]
        ask = min(self.k + SPARE, width)
        near, place = (x.cpu().numpy() for x in block.topk(ask, dim=1))
        cut = self.scores[rows, -1] - error
        if width >= self.k:
            cut = np.maximum(cut, near[:, self.k - 1] - 2 * error)
        keep = near >= cut[:, None]
        whole = keep[:, -1] & (ask < width)  # further items may reach the cut, so these rows are searched as a whole
        keep[whole] = False
        row, slot = np.nonzero(keep)
        parts = [(row, place[row, slot], self._score(block, row, place[row, slot], rows, cols))]
        for row in np.flatnonzero(whole):
            columns = (block[row].double() >= cut[row]).nonzero()[:, 0].cpu().numpy()
            columns = np.full(len(columns), row), columns
            score = self._score(block, *columns, rows, cols)
            parts.append((*columns, score))
            parts[-1] = tuple(x[np.lexsort((columns[1], -score))[: self.k]] for x in parts[-1])
        row, col, score = (np.concatenate(x) for x in zip(*parts, strict=True))
        before = self.items[rows] >= 0
        old, slot = np.nonzero(before)
        row = np.concatenate([old, row])
        item = np.concatenate([self.items[rows][before], col + cols.start])
        score = np.concatenate([self.scores[rows][before], score])
        order = np.lexsort((item, -score, row))
        row, item, score = row[order], item[order], score[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        first = rank < self.k
        self.items[rows.start + row[first], rank[first]] = item[first]
        self.scores[rows.start + row[first], rank[first]] = score[first]

    def _score(self, block: Tensor, row: np.ndarray, col: np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        if isinstance(self.of, Products):
            return self.of.scores(row + rows.start, col + cols.start)
        at = (torch.from_numpy(x).to(block.device) for x in (row, col))
        return block[tuple(at)].double().cpu().numpy()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(Q, k) int64 indices in the gallery and (Q, k) float32 scores, best first."""
        scores = self.scores
        if isinstance(self.of, Products):
            scores = unscaled(self.of.queries, self.of.gallery, scores)
        return self.items, scores.astype(np.float32)


def best_of(parts: list[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The (n, k) best of several (n, k') items and scores of the same queries, padded with -1 and -inf."""
    items, scores = (np.concatenate(x, axis=1) for x in zip(*parts, strict=True))
    order = np.lexsort((items, -scores), axis=-1)[:, :k]
    return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
