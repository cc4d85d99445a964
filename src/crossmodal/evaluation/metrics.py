"""Retrieval metrics computed from per-query ranks.

Ranks are 1-based (a perfect query has rank 1), so recall@K counts ranks that are at most K.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np


def _checked(ranks: np.ndarray) -> np.ndarray:
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or len(ranks) == 0:
        raise ValueError(f"ranks: expected a non-empty vector with one rank per query, found shape {ranks.shape}")
    if ranks.min() < 1:
        raise ValueError(f"ranks: expected 1-based ranks, found {ranks.min()}")
    return ranks


def recall_at_k(ranks: np.ndarray, ks: Iterable[int] = (1, 5, 10)) -> dict[int, float]:
    """Recall@K: the percentage of queries whose best-ranked relevant item is among the first K.

    Parameters
    ----------
    ranks : (Q,) 1-based rank of the best-ranked relevant item of each query.
    ks : the cut-offs K.

    Returns
    -------
    {K: percentage}, each in [0, 100].

    Raises
    ------
    ValueError : no rank, more than one dimension, or a rank below 1.

    Examples
    --------
    >>> recall_at_k([1, 3, 7, 20], ks=(1, 5))
    {1: 25.0, 5: 50.0}
    """
    ranks = _checked(ranks)
    return {int(k): 100.0 * float(np.count_nonzero(ranks <= k)) / len(ranks) for k in ks}


def median_rank(ranks: np.ndarray) -> float:
    """Median of the 1-based ranks ("Med r" in the papers).

    Parameters
    ----------
    ranks : (Q,), as for `recall_at_k`.

    Raises
    ------
    ValueError : as for `recall_at_k`.

    Examples
    --------
    >>> median_rank([1, 3, 7, 20])
    5.0
    """
    return float(np.median(_checked(ranks)))


def mean_rank(ranks: np.ndarray) -> float:
    """Mean of the 1-based ranks.

    Parameters
    ----------
    ranks : (Q,), as for `recall_at_k`.

    Raises
    ------
    ValueError : as for `recall_at_k`.

    Examples
    --------
    >>> mean_rank([1, 3, 7, 20])
    7.75
    """
    return float(np.mean(_checked(ranks)))


def folds(n_groups: int, n_folds: int) -> list[np.ndarray]:
    """Cut the groups 0 to `n_groups` - 1 into consecutive folds of equal size, in their stored order.

    The "1K" numbers of MS-COCO are means over five such folds of 1,000 test images (mFSR, section 4.2).

    Parameters
    ----------
    n_groups : number of groups, such as the images with their captions.

    Returns
    -------
    (n_groups / n_folds,) int64 group indices of each fold.

    Raises
    ------
    ValueError : the groups cannot be cut into `n_folds` equal parts.

    Examples
    --------
    >>> folds(6, 3)
    [array([0, 1]), array([2, 3]), array([4, 5])]
    """
    if n_folds < 1 or n_groups % n_folds:
        raise ValueError(f"folds: {n_groups} groups cannot be cut into {n_folds} equal folds")
    return np.split(np.arange(n_groups), n_folds)


def metrics_of_queries(queries: Mapping[str, np.ndarray], ks: Iterable[int] = (1, 5, 10)) -> dict[str, float]:
    """Metrics of one ranking, computed from its columns of `examples.parquet`.

    `map` is the mean average precision over the whole gallery. `map@50` is that over the first 50 ranks, divided by the
    number of relevant items among them (CVS thesis, eq. 4.2.1). `map@R` is that over the first R ranks, divided by R,
    where R is the number of the query's relevant items. A metric is left out where its column is missing.

    Parameters
    ----------
    queries : column name to (Q,) values: `rank`, and any of `average_precision`, `average_precision@50` and
        `average_precision@R`.
    ks : the cut-offs of the recalls.

    Returns
    -------
    {metric: value}, in per cent except for the median and the mean rank.

    Examples
    --------
    >>> metrics_of_queries({"rank": [1, 3, 7, 20]}, ks=(5,))
    {'recall@5': 50.0, 'median_rank': 5.0, 'mean_rank': 7.75}
    """
    ranks = np.asarray(queries["rank"])
    metrics = {f"recall@{k}": value for k, value in recall_at_k(ranks, ks).items()}
    metrics |= {"median_rank": median_rank(ranks), "mean_rank": mean_rank(ranks)}
    for column in ("average_precision", "average_precision@50", "average_precision@R"):
        if column in queries:
            name = column.replace("average_precision", "map")
            metrics[name] = 100.0 * float(np.mean(np.asarray(queries[column])))
    return metrics
