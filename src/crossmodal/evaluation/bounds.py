"""What a metric can and cannot be: bounds of a random ranking, and ranges. Knows nothing of tables or runs."""

from __future__ import annotations

import math

import numpy as np

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


def chance_precision(relevant: np.ndarray, n_gallery: int, at: int | str | None) -> np.ndarray:
    """Expected average precision of a random order, for queries with so many relevant items.

    Parameters
    ----------
    relevant : (Q,) relevant items of each query, at least one. n_gallery : items in all.
    at : None for the whole ranking, "R" for as many ranks as there are relevant items, both divided by these; a number
        for so many ranks, divided by the relevant items among them (CVS thesis, eq. 4.2.1).

    Returns
    -------
    (Q,) in [0, 1]. Of N items in random order, R of them relevant, the one at rank i is with probability R / N, and
    then precision there is (1 + (i - 1)(R - 1) / (N - 1)) / i on average.
    """
    from scipy.stats import hypergeom

    counts, place = np.unique(relevant, return_inverse=True)
    if at is None or at == "R":
        found = _random_precision(counts, n_gallery, counts if at == "R" else np.full_like(counts, n_gallery))
    else:
        cut = min(int(at), n_gallery)
        inside = np.arange(1, cut + 1)  # relevant ones among those: a random order of `cut` items in its turn
        given = _random_precision(inside, cut, np.full_like(inside, cut))
        found = np.array([(hypergeom.pmf(inside, n_gallery, n, cut) * given).sum() for n in counts])
    return found[place]


def _random_precision(relevant: np.ndarray, n: int, cut: np.ndarray) -> np.ndarray:
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])[cut]
    return (harmonic + (cut - harmonic) * (relevant - 1) / max(n - 1, 1)) / n


def precision_interval(expected: float, n_queries: int, alpha: float = ALPHA) -> tuple[float, float]:
    """The interval in per cent that a mean average precision of random orders is in but for `alpha`, or wider.

    A value in [0, 1] of mean m has a variance of at most m(1 - m); the mean of many is normal.
    """
    from scipy.stats import norm

    share = expected / 100
    slack = 100 * norm.isf(alpha / 2) * math.sqrt(share * (1 - share) / n_queries)
    return max(0.0, expected - slack), min(100.0, expected + slack)
