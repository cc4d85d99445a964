"""Retrieval metrics computed from per-query ranks.

Ranks are 1-based (a perfect query has rank 1), so recall@K counts ranks that are at most K.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np


def _checked(ranks: np.ndarray) -> np.ndarray:
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or len(ranks) == 0:
        raise ValueError(f"ranks: expected a non-empty vector with one rank a query, found shape {ranks.shape}")
    if ranks.min() < 1:
        raise ValueError(f"ranks: expected 1-based ranks, found {ranks.min()}")
    return ranks


def recall_at_k(ranks: np.ndarray, ks: Iterable[int] = (1, 5, 10)) -> dict[int, float]:
    """Share of queries, in per cent, whose first relevant item is among the best K.

    Parameters
    ----------
    ranks : (Q,) 1-based rank of the best-ranked relevant item of each query.
    ks : cut-offs.

    Returns
    -------
    {K: per cent}, each in [0, 100].
    """
    ranks = _checked(ranks)
    return {int(k): 100.0 * float(np.count_nonzero(ranks <= k)) / len(ranks) for k in ks}


def median_rank(ranks: np.ndarray) -> float:
    """Median of the 1-based ranks ("Med r" of the papers)."""
    return float(np.median(_checked(ranks)))


def mean_rank(ranks: np.ndarray) -> float:
    """Mean of the 1-based ranks."""
    return float(np.mean(_checked(ranks)))


def folds(n_groups: int, n_folds: int) -> list[np.ndarray]:
    """Consecutive folds of equal size over groups in their stored order.

    MS-COCO's "1K" numbers are the mean over five such folds of 1,000 test images (mFSR, section 4.2).

    Raises
    ------
    ValueError : where the groups cannot be cut into `n_folds` equal parts.
    """
    if n_folds < 1 or n_groups % n_folds:
        raise ValueError(f"folds: {n_groups} groups cannot be cut into {n_folds} equal folds")
    return np.split(np.arange(n_groups), n_folds)


def metrics_of_queries(queries: Mapping[str, np.ndarray], ks: Iterable[int] = (1, 5, 10)) -> dict[str, float]:
    """{metric: value} of one ranking, from its columns of `examples.parquet`; all but the ranks are in per cent.

    `map` is the mean average precision over the whole gallery; `map@50` that of the first 50 ranks, divided by the
    relevant items among them (equation 4.2.1 of the thesis); `map@R` that of as many ranks as there are relevant items,
    divided by their number. Columns that are not there make no metric.
    """
    ranks = np.asarray(queries["rank"])
    found = {f"recall@{k}": value for k, value in recall_at_k(ranks, ks).items()}
    found |= {"median_rank": median_rank(ranks), "mean_rank": mean_rank(ranks)}
    for column in ("average_precision", "average_precision@50", "average_precision@R"):
        if column in queries:
            name = column.replace("average_precision", "map")
            found[name] = 100.0 * float(np.mean(np.asarray(queries[column])))
    return found
