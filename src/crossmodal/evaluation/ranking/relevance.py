"""Relevance of gallery items to queries: by the same group, or by at least one label in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from crossmodal.evaluation.ranking.scores import DEFAULT_BUDGET
from crossmodal.evaluation.ranking.vectors import Array


class NoRelevantItemError(ValueError):
    """A query has no relevant item in the gallery, so that its rank and its average precision are not defined."""


@dataclass(frozen=True)
class Relevant:
    """The relevant gallery items of each query, in one flat array of P pairs."""

    items: np.ndarray  # (P,) int64 indices of gallery items, query by query
    starts: np.ndarray  # (Q + 1,) int64 place of each query's first item

    @property
    def counts(self) -> np.ndarray:
        """(Q,) number of relevant items of each query."""
        return np.diff(self.starts)

    @property
    def queries(self) -> np.ndarray:
        """(P,) index of the query of each pair."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)


def relevant_items(query_groups: Array, gallery_groups: Array) -> Relevant:
    """Find the gallery items of each query's group.

    Parameters
    ----------
    query_groups, gallery_groups : (Q,) and (G,) group of each item.

    Raises
    ------
    NoRelevantItemError : a query whose group the gallery lacks.
    ValueError : groups that are not vectors.
    """
    query_groups, gallery_groups = _vector(query_groups, "query_groups"), _vector(gallery_groups, "gallery_groups")
    order = np.argsort(gallery_groups, kind="stable")
    ordered = gallery_groups[order]
    left = np.searchsorted(ordered, query_groups, "left")
    counts = np.searchsorted(ordered, query_groups, "right") - left
    if (counts == 0).any():
        lone = query_groups[np.argmax(counts == 0)]
        raise NoRelevantItemError(f"query group {lone} has no item in the gallery: its rank is not defined")
    starts = np.concatenate([[0], np.cumsum(counts)])
    offsets = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
    return Relevant(order[np.repeat(left, counts) + offsets], starts)


def _vector(values: Array, name: str) -> np.ndarray:
    values = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"{name}: expected a vector with one group per item, found shape {values.shape}")
    return values


def check_groups(shape: tuple[int, int], query_groups: Array, gallery_groups: Array) -> None:
    """Raise ValueError unless each side has one group per item."""
    for n, groups, name in zip(shape, (query_groups, gallery_groups), ("query", "gallery"), strict=True):
        if len(groups) != n:
            raise ValueError(f"{name}_groups: {len(groups)} groups for {n} items")


class Labels:
    """Relevance by labels: items are relevant to queries with the same label, or with at least one label in common.

    Parameters
    ----------
    query_labels, gallery_labels : (Q,) and (G,) labels, or (Q, L) and (G, L) tables of zeros and ones.
    shape : (Q, G).

    Raises
    ------
    ValueError : shapes that do not fit.
    """

    def __init__(self, query_labels: Array, gallery_labels: Array, shape: tuple[int, int]):
        q, g = (
            x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
            for x in (query_labels, gallery_labels)
        )
        for labels, n, name in ((q, shape[0], "query_labels"), (g, shape[1], "gallery_labels")):
            if labels.ndim not in (1, 2) or len(labels) != n:
                raise ValueError(f"{name}: expected ({n},) labels or an ({n}, L) table, found shape {labels.shape}")
        if q.ndim != g.ndim or (q.ndim == 2 and q.shape[1] != g.shape[1]):
            raise ValueError(f"labels: the queries have shape {q.shape}, the gallery {g.shape}: not the same kinds")
        self.several = q.ndim == 2
        if self.several:
            self.q, self.g = (q != 0).astype(np.float32), (g != 0).astype(np.float32)
        else:
            _, codes = np.unique(np.concatenate([q, g]), return_inverse=True)
            codes = codes.astype(np.int32)
            self.q, self.g = codes[: len(q)], codes[len(q) :]

    def block(self, rows: slice) -> np.ndarray:
        """(q, G) bool, whether each gallery item is relevant to each query of the slice."""
        if self.several:
            return self.q[rows] @ self.g.T > 0
        return self.q[rows, None] == self.g[None, :]


def relevant_counts(query_labels: np.ndarray, gallery_labels: np.ndarray, budget: int = DEFAULT_BUDGET) -> np.ndarray:
    """(Q,) number of relevant items of each query, for labels as `Labels` takes them."""
    labels = Labels(query_labels, gallery_labels, (len(query_labels), len(gallery_labels)))
    step = max(1, budget // (8 * max(len(gallery_labels), 1)))
    parts = (labels.block(slice(n, n + step)).sum(1) for n in range(0, len(query_labels), step))
    return np.concatenate([*parts])
