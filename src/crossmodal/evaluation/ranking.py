"""Exact ranking in blocks: never the whole query-by-gallery score matrix in memory.

A score is compared as float32. Ties count against the model: an item that scores as much as the best relevant
one and is not relevant itself is ranked before it, so that a collapsed model (all vectors equal) gets the worst rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

ScoreBlock = Callable[[slice], torch.Tensor]
"""Takes a slice of the queries, gives their (q, G) scores against the whole gallery; larger is better."""

DEFAULT_BUDGET = 256 * 2**20


def score_blocks(
    queries: np.ndarray | torch.Tensor,
    gallery: np.ndarray | torch.Tensor,
    *,
    budget: int = DEFAULT_BUDGET,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Inner products of all queries with all of the gallery, a block of queries at a time.

    Parameters
    ----------
    queries : (Q, d). gallery : (G, d).
    budget : bytes that one block of float32 scores may take.

    Yields
    ------
    (slice of the queries, (q, G) float32 scores). The tensor is reused: use it before asking for the next one.
    """
    queries, gallery = _as_float(queries, "queries"), _as_float(gallery, "gallery")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} dimensions, the gallery has {gallery.shape[1]}")
    step = block_size(len(gallery), budget)
    buffer = torch.empty(min(step, len(queries)), len(gallery), device=queries.device)
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        out = buffer[: rows.stop - rows.start]
        torch.mm(queries[rows], gallery.T, out=out)
        yield rows, out


def block_size(n_gallery: int, budget: int = DEFAULT_BUDGET) -> int:
    """Queries in a block of float32 scores that stays within `budget` bytes."""
    return max(1, budget // (4 * max(n_gallery, 1)))


def _as_float(x: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    x = torch.as_tensor(x)
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"{name}: expected (items, dimensions) with at least one item, found {tuple(x.shape)}")
    x = x.detach().float()
    if not torch.isfinite(x).all():
        raise ValueError(f"{name}: holds values that are not finite; a model that diverged cannot be ranked")
    return x


def retrieval_ranks(
    queries: np.ndarray | torch.Tensor,
    gallery: np.ndarray | torch.Tensor,
    query_groups: np.ndarray,
    gallery_groups: np.ndarray,
    *,
    budget: int = DEFAULT_BUDGET,
) -> np.ndarray:
    """1-based rank of each query's best-ranked relevant item, ties against the model.

    Parameters
    ----------
    queries : (Q, d), gallery : (G, d), compared by inner product.
    query_groups : (Q,), gallery_groups : (G,): an item is relevant where the groups are equal.

    Returns
    -------
    (Q,) int64.

    Raises
    ------
    ValueError : a query without a relevant item, shapes that do not fit, values that are not finite.
    """
    blocks = score_blocks(queries, gallery, budget=budget)
    return ranks_from_blocks(blocks, query_groups, gallery_groups)


def ranks_from_blocks(
    blocks: Iterator[tuple[slice, torch.Tensor]], query_groups: np.ndarray, gallery_groups: np.ndarray
) -> np.ndarray:
    """As `retrieval_ranks`, from any source of score blocks (cross attention has no vectors to multiply)."""
    relevant, starts = _relevant_items(query_groups, gallery_groups)
    ranks = np.empty(len(starts) - 1, dtype=np.int64)
    for rows, scores in blocks:
        counts = torch.as_tensor(np.diff(starts[rows.start : rows.stop + 1]))
        row_of = torch.repeat_interleave(torch.arange(len(counts)), counts)
        items = torch.as_tensor(relevant[starts[rows.start] : starts[rows.stop]])
        row_of, items = row_of.to(scores.device), items.to(scores.device)
        own = scores[row_of, items]
        if not torch.isfinite(own).all():
            raise ValueError("scores: hold values that are not finite; a model that diverged cannot be ranked")
        best = torch.full((len(counts),), -torch.inf, device=scores.device)
        best.scatter_reduce_(0, row_of, own, "amax")
        # Items at or above the best relevant score, without the relevant ones among them, stand before it.
        above = (scores >= best[:, None]).sum(1)
        own_above = torch.zeros_like(above).scatter_add_(0, row_of, (own >= best[row_of]).to(above.dtype))
        ranks[rows] = (above - own_above + 1).cpu().numpy()
    return ranks


def _relevant_items(query_groups: np.ndarray, gallery_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each query the gallery's items of its group, as one flat array and the (Q + 1,) places where each begins."""
    query_groups, gallery_groups = np.asarray(query_groups), np.asarray(gallery_groups)
    order = np.argsort(gallery_groups, kind="stable")
    ordered = gallery_groups[order]
    left = np.searchsorted(ordered, query_groups, "left")
    counts = np.searchsorted(ordered, query_groups, "right") - left
    if (counts == 0).any():
        lone = query_groups[np.argmax(counts == 0)]
        raise ValueError(f"query group {lone} has no item in the gallery: recall is not defined for it")
    starts = np.concatenate([[0], np.cumsum(counts)])
    offsets = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
    return order[np.repeat(left, counts) + offsets], starts


def top_k(
    queries: np.ndarray | torch.Tensor, gallery: np.ndarray | torch.Tensor, k: int, *, budget: int = DEFAULT_BUDGET
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of the gallery for each query: (Q, k) int64 indices and float32 scores, best first.

    Equal scores come in the gallery's order, so that the answer is the same on every machine.
    """
    k = min(k, len(gallery))
    indices = np.empty((len(queries), k), dtype=np.int64)
    values = np.empty((len(queries), k), dtype=np.float32)
    for rows, scores in score_blocks(queries, gallery, budget=budget):
        ordered, order = torch.sort(scores, dim=1, descending=True, stable=True)
        indices[rows], values[rows] = order[:, :k].cpu().numpy(), ordered[:, :k].cpu().numpy()
    return indices, values


@dataclass(frozen=True)
class Ranking:
    """What is kept of each query's ranking."""

    ranks: np.ndarray  # (Q,) int64, 1-based, of the best-ranked relevant item
    average_precision: np.ndarray  # (Q,) float64 in (0, 1], over the whole gallery
    top: np.ndarray  # (Q, k) int64, best items of the gallery
    top_scores: np.ndarray  # (Q, k) float32


def rank_queries(
    blocks: Iterator[tuple[slice, torch.Tensor]], query_groups: np.ndarray, gallery_groups: np.ndarray, k: int = 10
) -> Ranking:
    """Ranks, average precision and the best `k`, in one pass over the score blocks.

    Average precision is the mean over the relevant items of (relevant ones at or before it) / (its rank), ties against
    the model.

    Raises
    ------
    ValueError : a query without a relevant item, scores that are not finite.
    """
    relevant, starts = _relevant_items(query_groups, gallery_groups)
    n = len(starts) - 1
    k = min(k, len(gallery_groups))
    ranks, precision = np.empty(n, dtype=np.int64), np.empty(n)
    top, top_scores = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    for rows, scores in blocks:
        counts = np.diff(starts[rows.start : rows.stop + 1])
        slots = np.arange(counts.max())
        there = torch.as_tensor(slots[None, :] < counts[:, None], device=scores.device)  # (q, r)
        places = np.minimum(starts[rows, None] + slots[None, :], len(relevant) - 1)
        items = torch.as_tensor(relevant[places], device=scores.device)
        own = scores.gather(1, items)
        if not torch.isfinite(own[there]).all():
            raise ValueError("scores: hold values that are not finite; a model that diverged cannot be ranked")
        own = own.masked_fill(~there, -torch.inf).sort(1, descending=True).values
        # Of everything that scores at least as much as the j-th relevant item, the relevant ones are taken out.
        reach = torch.stack([(scores >= own[:, j, None]).sum(1) for j in range(own.shape[1])], 1)
        reach -= (own[:, None, :] >= own[:, :, None]).sum(2)
        position = torch.arange(1, own.shape[1] + 1, device=scores.device)
        own_rank = reach + position
        ranks[rows] = own_rank[:, 0].cpu().numpy()
        terms = (position / own_rank.double()).masked_fill(~there, 0).sum(1)
        precision[rows] = (terms / there.sum(1)).cpu().numpy()
        if k:
            best = scores.topk(k, 1)
            top[rows], top_scores[rows] = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return Ranking(ranks, precision, top, top_scores)
