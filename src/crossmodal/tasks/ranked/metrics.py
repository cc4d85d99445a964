"""The metrics of rankings: by the rank of the first relevant item, and by the order of all relevant items."""

from __future__ import annotations

import math

import numpy as np

from crossmodal.tasks.base import Examples, Metric


def among_first(examples: Examples, k: int) -> np.ndarray:
    return 100.0 * (np.asarray(examples["rank"]) <= k)


def _rank(examples: Examples, k: int) -> np.ndarray:
    return np.asarray(examples["rank"]).astype(np.float64)


def _median(examples: Examples, k: int) -> float:
    return float(np.median(examples["rank"]))


def _precision(column: str, name: str, label: str, meaning: str, *, headline: bool = False) -> Metric:
    def per_cent(examples: Examples, k: int) -> np.ndarray:
        return 100.0 * np.asarray(examples[column])

    return Metric(name, label, meaning, (column,), per_cent, headline=headline)


RECALL_SUM = Metric("recall_sum", "Sum", "sums of recalls in per cent", high=math.inf, headline=True)
RANKS = (
    Metric("recall@K", "R@K", "recall in per cent", ("rank",), among_first),
    Metric(
        "median_rank",
        "median rank",
        "of ranks the lower is the better",
        ("rank",),
        whole=_median,
        better="lower",
        low=1,
        of_gallery=True,
    ),
    Metric(
        "mean_rank",
        "mean rank",
        "of ranks the lower is the better",
        ("rank",),
        _rank,
        better="lower",
        low=1,
        of_gallery=True,
    ),
)
"""Metrics of the rank of a query's first relevant item."""

PRECISIONS = (
    _precision(
        "average_precision@50",
        "map@50",
        "mAP@50",
        "mAP@K in per cent: mean precision at the relevant ones among a query's first K answers, averaged over queries",
        headline=True,
    ),
    _precision("average_precision", "map", "mAP", "mean average precision in per cent", headline=True),
    _precision(
        "average_precision@R",
        "map@R",
        "mAP@R",
        "mAP@R in per cent: average precision of as many answers as there are relevant ones",
    ),
    Metric(
        "map@K",
        "mAP@K",
        "mAP@K in per cent: mean precision at the relevant ones among a query's first K answers, averaged over queries",
    ),
    Metric(
        "ndcg@K",
        "nDCG@K",
        "nDCG@K in per cent: the discounted gain of the first K answers, 2^g - 1 for g shared labels, over that of the "
        "best order",
    ),
    Metric(
        "pair_recall@K",
        "pair R@K",
        "recall over pairs in per cent: the share of a query's relevant items among its first K answers",
        high=math.inf,  # no order reaches 100 where a query has more than K relevant items
    ),
)
"""Metrics of the order of all relevant items, from the values per query of `average_precision.AP_VARIANTS`."""
