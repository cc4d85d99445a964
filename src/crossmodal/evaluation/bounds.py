"""Expected metrics of a random ranking, and the intervals in which they lie, to check the scoring of control runs.

This module knows nothing of tables or runs.
"""

from __future__ import annotations

import math

import numpy as np

ALPHA = 1e-5
"""Probability that a correct control is reported as wrong. Each table has dozens of checks, so it must be small."""


def chance_recall(k: int, n_queries: int, n_gallery: int) -> float:
    """The probability that a random order has a relevant item among the first K (draws without replacement).

    A query is assumed to have n_gallery / n_queries relevant items (five if each image has five captions), at least
    one.

    Returns
    -------
    A probability in [0, 1].
    """
    from scipy.stats import hypergeom

    relevant = max(1, round(n_gallery / n_queries))
    return float(1.0 - hypergeom.pmf(0, n_gallery, relevant, min(k, n_gallery)))


def chance_interval(
    k: int, n_queries: int, n_gallery: int, folds: int = 1, alpha: float = ALPHA
) -> tuple[float, float, float]:
    """Expected recall@K of a random order, and the binomial interval in which it lies with probability 1 - `alpha`.

    Parameters
    ----------
    n_queries, n_gallery : the sizes of one fold.
    folds : number of folds over which the recall is averaged.

    Returns
    -------
    The expected recall, the lower and the upper bound, all in per cent.
    """
    from scipy.stats import binom

    share = chance_recall(k, n_queries, n_gallery)
    n = n_queries * folds
    low, high = (100.0 * float(binom.ppf(q, n, share)) / n for q in (alpha / 2, 1 - alpha / 2))
    return 100.0 * share, low, high


def chance_precision(relevant: np.ndarray, n_gallery: int, at: int | str | None) -> np.ndarray:
    """Expected average precision of a random order for each query.

    If R of N items in random order are relevant, the item at rank i is relevant with probability R / N, and the
    expected precision at that rank is then (1 + (i - 1)(R - 1) / (N - 1)) / i.

    Parameters
    ----------
    relevant : (Q,) number of relevant items of each query, at least one.
    n_gallery : number of items in the gallery.
    at : None for the whole ranking and "R" for the first R ranks, both divided by the number R of relevant items; a
        number for that many first ranks, divided by the relevant items among them (CVS thesis, eq. 4.2.1).

    Returns
    -------
    (Q,) in [0, 1].
    """
    from scipy.stats import hypergeom

    counts, place = np.unique(relevant, return_inverse=True)
    if at is None or at == "R":
        expected = _random_precision(counts, n_gallery, counts if at == "R" else np.full_like(counts, n_gallery))
    else:
        cut = min(int(at), n_gallery)
        inside = np.arange(1, cut + 1)  # possible numbers of relevant items within the cut
        precision = _random_precision(inside, cut, np.full_like(inside, cut))
        expected = np.array([(hypergeom.pmf(inside, n_gallery, n, cut) * precision).sum() for n in counts])
    return expected[place]


def _random_precision(relevant: np.ndarray, n: int, cut: np.ndarray) -> np.ndarray:
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])[cut]
    return (harmonic + (cut - harmonic) * (relevant - 1) / max(n - 1, 1)) / n


def precision_interval(expected: float, n_queries: int, alpha: float = ALPHA) -> tuple[float, float]:
    """An interval in which a mean average precision of random orders lies with probability of at least 1 - `alpha`.

    A value in [0, 1] with mean m has a variance of at most m(1 - m), and the mean of many such values is approximately
    normal.

    Parameters
    ----------
    expected : the expected mean average precision in per cent.

    Returns
    -------
    The lower and the upper bound in per cent.
    """
    from scipy.stats import norm

    share = expected / 100
    slack = 100 * norm.isf(alpha / 2) * math.sqrt(share * (1 - share) / n_queries)
    return max(0.0, expected - slack), min(100.0, expected + slack)
