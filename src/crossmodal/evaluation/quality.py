"""What a metric can and cannot be: bounds of a random ranking, and ranges. Knows nothing of tables or runs."""

from __future__ import annotations

import math
import re

ALPHA = 1e-5
"""How seldom a sound control is called off. Each table is checked some dozen times, so this is far out in the tail."""


def chance_recall(k: int, n_queries: int, n_gallery: int) -> float:
    """The probability that a random order has a relevant item among the best K: draws without replacement.

    A query's relevant items are taken to be n_gallery / n_queries (five captions an image), at least one.
    """
    from scipy.stats import hypergeom

    relevant = max(1, round(n_gallery / n_queries))
    return float(1.0 - hypergeom.pmf(0, n_gallery, relevant, min(k, n_gallery)))


def chance_interval(
    k: int, n_queries: int, n_gallery: int, folds: int = 1, alpha: float = ALPHA
) -> tuple[float, float, float]:
    """Expected recall@K of a random order in per cent, and the binomial interval that it is in but for `alpha`."""
    from scipy.stats import binom

    share = chance_recall(k, n_queries, n_gallery)
    n = n_queries * folds
    low, high = (100.0 * float(binom.ppf(q, n, share)) / n for q in (alpha / 2, 1 - alpha / 2))
    return 100.0 * share, low, high


def out_of_range(metric: str, value: float, n_gallery: int) -> str | None:
    """Why a metric cannot have a value, or None: recall and precision are per cent, ranks those of the gallery."""
    if not math.isfinite(value):
        return f"{metric} is {value}"
    if re.match(r"(recall|map)(@(\d+|R))?$", metric):
        low, high = 0.0, 100.0
    elif metric in ("median_rank", "mean_rank"):
        low, high = 1.0, float(n_gallery)
    elif metric == "recall_sum":
        low, high = 0.0, math.inf
    else:
        return None
    slack = 1e-9 * max(1.0, abs(value))
    return None if low - slack <= value <= high + slack else f"{metric} is {value:.6g}, expected {low:g} to {high:g}"
