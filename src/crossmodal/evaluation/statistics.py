"""Intervals and tests of means over queries and seeds: cluster bootstrap, paired permutation, Holm's correction.

Queries of one group (the captions of an image) are drawn and swapped together, since they are not independent. Seeds
are drawn again in the bootstrap, and a difference must hold over seeds as well as over queries to be called one.
Values are first rounded to a grid on which sums are exact, so results have the same bits with any number of threads.
Knows nothing of tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
PERMUTATIONS = 9999
BATCH = 2**21  # drawn places together


@dataclass(frozen=True)
class Clusters:
    """Sums of queries' values by group; means over queries are ratios of sums of these."""

    sums: list[np.ndarray]  # for each row (S, C)
    sizes: np.ndarray  # (C,) queries of each group

    @property
    def means(self) -> np.ndarray:
        """(R,) means over queries and seeds."""
        return np.array([row.sum(1).mean() for row in self.sums]) / self.sizes.sum()


def clustered(rows: Sequence[np.ndarray], groups: np.ndarray | None = None) -> Clusters:
    """Rows of values, each (S, Q) for its own number S of seeds and the same Q queries, by the (Q,) queries' groups.

    Raises
    ------
    ValueError : no row, rows of other lengths, values that are not finite.
    """
    rows = [np.atleast_2d(np.asarray(row, dtype=np.float64)) for row in rows]
    if not rows or any(row.ndim != 2 or row.shape[1] != rows[0].shape[1] or row.size == 0 for row in rows):
        raise ValueError(f"values: expected (seeds, queries) of the same queries, found {[row.shape for row in rows]}")
    n = rows[0].shape[1]
    if groups is None:
        codes, count = np.arange(n), n
    else:
        known, codes = np.unique(groups, return_inverse=True)
        count = len(known)
        if len(codes) != n:
            raise ValueError(f"groups: {len(codes)} groups for {n} queries")
    largest = max(float(np.abs(row).max()) for row in rows)
    if not math.isfinite(largest):
        raise ValueError("values: hold some that are not finite")
    # Sums of n values stay below 2^52 steps, also when some are drawn several times: exact in any order.
    step = 2.0 ** (math.ceil(math.log2(max(largest, 1e-300) * n)) - 50)
    rows = [np.round(row / step) * step for row in rows]
    sums = [np.stack([np.bincount(codes, seed, count) for seed in row]) for row in rows]
    return Clusters(sums, np.bincount(codes, minlength=count).astype(np.float64))


def resampled_means(
    data: Clusters, n_resamples: int = RESAMPLES, seed: int = 0, *, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bootstrap means: the same groups of queries drawn for all rows, seeds drawn for each number of seeds.

    Returns
    -------
    (R,) lower and (R,) upper bounds of the percentile interval, and the (R, n_resamples) means they are taken from.
    """
    from scipy.stats import bootstrap

    n_rows, n = len(data.sums), len(data.sizes)
    low, high, drawn = np.empty(n_rows), np.empty(n_rows), np.empty((n_rows, n_resamples))
    for seeds in sorted({len(row) for row in data.sums}):
        members = [place for place, row in enumerate(data.sums) if len(row) == seeds]
        table = np.concatenate([*(data.sums[place] for place in members), data.sizes[None]])

        def statistic(groups, runs=None, *, axis=-1, table=table, seeds=seeds):
            """(rows,) or (rows, b) means of drawn groups (b, C) and runs (b, S)."""
            shape = groups.shape[:-1]
            times = _times(groups.reshape(-1, n), n)
            sums = times @ table.T  # (b, rows * seeds + 1), exact
            weight = np.ones((1, 1)) if runs is None else _times(runs.reshape(-1, seeds), seeds)
            of_seed = sums[:, :-1].reshape(len(times), -1, seeds)
            found = (of_seed * weight[:, None, :]).sum(2) / seeds / sums[:, -1:]
            return found.T.reshape(-1, *shape)

        result = bootstrap(
            (np.arange(n),) if seeds == 1 else (np.arange(n), np.arange(seeds)),
            statistic,
            n_resamples=n_resamples,
            batch=max(1, BATCH // n),
            vectorized=True,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        low[members], high[members] = result.confidence_interval
        drawn[members] = result.bootstrap_distribution
    return low, high, drawn


def _times(drawn: np.ndarray, n: int) -> np.ndarray:
    """(b, n) how often each of n was drawn in each of b draws."""
    offsets = np.arange(len(drawn))[:, None] * n
    return np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * n).reshape(len(drawn), n).astype(np.float64)


def bootstrap_interval(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    confidence: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean of (Q,) values, or of (S, Q) values over seeds and queries.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. With few seeds their part of the
    interval is too small by about (S - 1) / S, as in every bootstrap.
    """
    low, high, _ = resampled_means(clustered([values], groups), n_resamples, seed, confidence=confidence)
    return float(low[0]), float(high[0])


def permutation_tests(
    data: Clusters, pairs: Sequence[tuple[int, int]], n_permutations: int = PERMUTATIONS, seed: int = 0
) -> np.ndarray:
    """Two-sided p-values of paired differences between rows.

    The difference, averaged over seeds, changes sign group by group at random (the same signs for all pairs); p is the
    share of draws at least as far from 0, the observed one included (Phipson and Smyth, 2010). That is of the queries.
    Where both rows have several seeds the p-value is the larger of this and of Welch's test between the seeds' means:
    a difference is called one only if it holds over queries and over seeds (an intersection-union test).

    Parameters
    ----------
    pairs : places of two rows each.

    Returns
    -------
    (P,) float64.
    """
    if not pairs:
        return np.empty(0)
    mean = [row.mean(0) for row in data.sums]
    differences = np.stack([mean[a] - mean[b] for a, b in pairs])  # (P, C)
    observed = np.abs(differences.sum(1))
    slack = 1e-9 * np.maximum(np.abs(differences).sum(1), 1e-300)  # a tie counts, whatever the order of the sum
    rng = np.random.default_rng(seed)
    n = differences.shape[1]
    reached, done = np.zeros(len(pairs), np.int64), 0
    while done < n_permutations:
        count = min(n_permutations - done, max(1, BATCH // n))
        bits = rng.integers(0, 256, (count, -(-n // 8)), dtype=np.uint8)
        signs = np.unpackbits(bits, axis=1)[:, :n] * 2.0 - 1.0
        reached += (np.abs(signs @ differences.T) >= observed - slack).sum(0)
        done += count
    p = (reached + 1) / (n_permutations + 1)
    return np.maximum(p, [_between_seeds(data, *pair) for pair in pairs])


def _between_seeds(data: Clusters, a: int, b: int) -> float:
    """Welch's p-value between the means of two rows' seeds; 0 where there is one seed only, which tells nothing."""
    from scipy.stats import ttest_ind_from_stats

    left, right = (data.sums[row].sum(1) / data.sizes.sum() for row in (a, b))
    if min(len(left), len(right)) < 2:
        return 0.0
    slack = 1e-9 * max(np.abs(left).max(), np.abs(right).max())
    if np.ptp(left) <= slack and np.ptp(right) <= slack:  # seeds that make no difference
        return 0.0 if abs(left[0] - right[0]) > slack else 1.0
    moments = [moment for x in (left, right) for moment in (x.mean(), x.std(ddof=1), len(x))]
    return float(ttest_ind_from_stats(*moments, equal_var=False).pvalue)


def permutation_test(
    a: np.ndarray,
    b: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    n_permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """p-value of the difference between two systems on the same queries: (Q,) or (S, Q) values each."""
    return float(permutation_tests(clustered([a, b], groups), [(0, 1)], n_permutations, seed)[0])


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for being many (Holm, 1979): below a level, they keep the chance of any false call below it.

    NaN stays NaN and is not counted.
    """
    p = np.asarray(p, dtype=np.float64)
    found = np.full(p.shape, np.nan)
    there = np.flatnonzero(~np.isnan(p))
    order = there[np.argsort(p[there], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return found
