"""Intervals and tests of means over queries and seeds: cluster bootstrap, paired permutation test, Holm's correction.

A metric may also be a formula of sums over queries, such as BLEU: the sums of the drawn groups then go through it.

Queries of one group (the captions of one image) are resampled and permuted together, since they are not independent.
The bootstrap resamples the seeds too, and a difference is significant only if it holds over seeds as well as over
queries. Values are first rounded to a grid on which sums are exact, so that results have the same bits with any number
of threads. This module knows nothing of tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
PERMUTATIONS = 9999
BATCH = 2**21  # queries or groups that are drawn in one batch of resamples


Formula = Callable[[np.ndarray], np.ndarray]
"""Takes (..., K) sums over queries, and returns the (...) values of a metric that is no mean, such as BLEU."""


@dataclass(frozen=True)
class Clusters:
    """Sums of the queries' values in each of C groups; means over queries are ratios of sums of these."""

    sums: list[np.ndarray]  # one (S, C) array per row, with the row's own number S of seeds
    sizes: np.ndarray  # (C,) number of queries in each group
    formula: Formula | None = None
    """Takes the sums of K values; the arrays of `sums` are then (S * K, C), the values of a seed side by side."""
    values: int = 1  # K

    @property
    def means(self) -> np.ndarray:
        """(R,) mean of each row over queries and seeds, or the mean over seeds of the formula."""
        if self.formula is not None:
            return np.array([self.of_seeds(row).mean() for row in range(len(self.sums))])
        return np.array([row.sum(1).mean() for row in self.sums]) / self.sizes.sum()

    def of_seeds(self, row: int) -> np.ndarray:
        """(S,) values of a row's seeds: means over queries, or the formula."""
        total = self.sums[row].sum(1)
        return total / self.sizes.sum() if self.formula is None else self.formula(total.reshape(-1, self.values))


def clustered(rows: Sequence[np.ndarray], groups: np.ndarray | None = None, formula: Formula | None = None) -> Clusters:
    """Sum the values of each row over the groups of queries.

    Parameters
    ----------
    rows : values of each row (such as a system), (S, Q) for its own number S of seeds, or (Q,) for one seed. All rows
        have the same Q queries. With a formula, (S, Q, K) of the K values that it takes the sums of.
    groups : (Q,) group of each query; by default each query is a group of its own.
    formula : makes the metric of the sums, if it is no mean.

    Raises
    ------
    ValueError : no row, rows with different numbers of queries, or values that are not finite.

    Examples
    --------
    >>> clustered([[1, 0, 1]], groups=["a", "a", "b"]).means.round(4)
    array([0.6667])
    """
    values = 1 if formula is None else np.asarray(rows[0]).shape[-1]
    if formula is not None:
        rows = [np.moveaxis(np.asarray(row, dtype=np.float64), -1, 1) for row in rows]
        rows = [row.reshape(-1, row.shape[-1]) for row in rows]  # (S * K, Q)
    rows = [np.atleast_2d(np.asarray(row, dtype=np.float64)) for row in rows]
    if not rows or any(row.ndim != 2 or row.shape[1] != rows[0].shape[1] or row.size == 0 for row in rows):
        raise ValueError(f"values: expected (seeds, queries) of the same queries, found {[row.shape for row in rows]}")
    n = rows[0].shape[1]
    if groups is None:
        codes, count = np.arange(n), n
    else:
        names, codes = np.unique(groups, return_inverse=True)
        count = len(names)
        if len(codes) != n:
            raise ValueError(f"groups: {len(codes)} groups for {n} queries")
    largest = max(float(np.abs(row).max()) for row in rows)
    if not math.isfinite(largest):
        raise ValueError("values: some are not finite")
    # Sums of n values stay below 2^52 steps, even when some are drawn several times, so they are exact in any order.
    step = 2.0 ** (math.ceil(math.log2(max(largest, 1e-300) * n)) - 50)
    rows = [np.round(row / step) * step for row in rows]
    sums = [np.stack([np.bincount(codes, seed, count) for seed in row]) for row in rows]
    return Clusters(sums, np.bincount(codes, minlength=count).astype(np.float64), formula, values)


def resampled_means(
    data: Clusters, n_resamples: int = RESAMPLES, seed: int = 0, *, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bootstrap the mean of each row over groups of queries and seeds.

    All rows share the same draws of groups, and rows with the same number of seeds share the draws of seeds.

    Returns
    -------
    (R,) lower and (R,) upper bounds of the percentile interval, and the (R, n_resamples) resampled means.

    Examples
    --------
    >>> low, high, means = resampled_means(clustered([[0, 1]]), n_resamples=500)
    >>> low, high, means.shape
    (array([0.]), array([1.]), (1, 500))
    """
    from scipy.stats import bootstrap

    n_rows, n = len(data.sums), len(data.sizes)
    low, high, drawn = np.empty(n_rows), np.empty(n_rows), np.empty((n_rows, n_resamples))
    for seeds in sorted({len(row) // data.values for row in data.sums}):
        members = [place for place, row in enumerate(data.sums) if len(row) == seeds * data.values]
        table = np.concatenate([*(data.sums[place] for place in members), data.sizes[None]])

        def statistic(groups, runs=None, *, axis=-1, table=table, seeds=seeds):
            """(rows,) or (rows, b) means over resampled groups (b, C) and seeds (b, S)."""
            shape = groups.shape[:-1]
            times = _times(groups.reshape(-1, n), n)
            sums = times @ table.T  # (b, rows * seeds + 1), exact
            weight = np.ones((1, 1)) if runs is None else _times(runs.reshape(-1, seeds), seeds)
            if data.formula is None:
                of_seed, sizes = sums[:, :-1].reshape(len(times), -1, seeds), sums[:, -1:]
            else:
                of_seed, sizes = data.formula(sums[:, :-1].reshape(len(times), -1, seeds, data.values)), 1.0
            means = (of_seed * weight[:, None, :]).sum(2) / seeds / sizes
            return means.T.reshape(-1, *shape)

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
    """(b, n) number of times that each of n elements was drawn in each of b resamples."""
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
    """Percentile bootstrap interval of the mean of (Q,) values, or of (S, Q) values over seeds and queries.

    The method is that of Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. With few seeds
    the variance due to them is underestimated by a factor of about (S - 1) / S, as in every bootstrap.

    Parameters
    ----------
    values : (Q,) or (S, Q).
    groups : (Q,) group of each query; the queries of one group are drawn together.

    Returns
    -------
    The lower and the upper bound.

    Raises
    ------
    ValueError : as for `clustered`.

    Examples
    --------
    >>> bootstrap_interval([0, 1])  # the resampled means are 0, 0.5 and 1
    (0.0, 1.0)
    """
    low, high, _ = resampled_means(clustered([values], groups), n_resamples, seed, confidence=confidence)
    return float(low[0]), float(high[0])


def permutation_p_values(
    data: Clusters, pairs: Sequence[tuple[int, int]], n_permutations: int = PERMUTATIONS, seed: int = 0
) -> np.ndarray:
    """Two-sided p-values of paired differences between rows.

    For the test over queries, each group's difference, averaged over seeds, has its sign flipped at random (with the
    same signs for all pairs); p is the share of permutations whose mean difference is at least as far from 0 as the
    observed one, which is counted too (Phipson and Smyth, 2010). Where both rows have several seeds, the p-value is
    the larger of this one and that of Welch's test between the means of the seeds: a difference is significant only if
    it holds over queries and over seeds (an intersection-union test).

    A formula's sums, averaged over seeds, are exchanged between the two rows, group by group, in place of the signs.

    Parameters
    ----------
    pairs : the indices of two rows for each of P comparisons.

    Returns
    -------
    (P,) float64.

    Examples
    --------
    >>> permutation_p_values(clustered([[1, 0], [1, 0]]), [(0, 1)])  # the rows are equal
    array([1.])
    """
    if not pairs:
        return np.empty(0)
    if data.formula is None:
        mean = [row.mean(0) for row in data.sums]
        differences = np.stack([mean[a] - mean[b] for a, b in pairs])  # (P, C)
        observed = np.abs(differences.sum(1))
        slack = 1e-9 * np.maximum(np.abs(differences).sum(1), 1e-300)  # ties count despite the rounding of the sums

        def moved(signs: np.ndarray) -> np.ndarray:
            return np.abs(signs @ differences.T)
    else:
        moved = _exchanged(data, pairs)
        observed = moved(np.ones((1, len(data.sizes))))[0]
        slack = 1e-9 * np.maximum(observed, 1e-300)
    rng = np.random.default_rng(seed)
    n = len(data.sizes)
    reached, done = np.zeros(len(pairs), np.int64), 0
    while done < n_permutations:
        count = min(n_permutations - done, max(1, BATCH // n))
        bits = rng.integers(0, 256, (count, -(-n // 8)), dtype=np.uint8)
        signs = np.unpackbits(bits, axis=1)[:, :n] * 2.0 - 1.0
        reached += (moved(signs) >= observed - slack).sum(0)
        done += count
    p = (reached + 1) / (n_permutations + 1)
    return np.maximum(p, [_between_seeds(data, *pair) for pair in pairs])


def _exchanged(data: Clusters, pairs: Sequence[tuple[int, int]]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of (b, C) signs that returns the (b, P) distances of the pairs' rows after groups are exchanged."""
    pooled = [row.reshape(-1, data.values, row.shape[1]).mean(0) for row in data.sums]  # (K, C)

    def moved(signs: np.ndarray) -> np.ndarray:
        distances = []
        for a, b in pairs:
            both, apart = (pooled[a] + pooled[b]).sum(1) / 2, signs @ (pooled[a] - pooled[b]).T / 2
            distances.append(np.abs(data.formula(both + apart) - data.formula(both - apart)))
        return np.stack(distances, 1)

    return moved


def _between_seeds(data: Clusters, a: int, b: int) -> float:
    """Welch's p-value between two rows' means of the seeds; 0 where a row has one seed, which allows no such test."""
    from scipy.stats import ttest_ind_from_stats

    left, right = (data.of_seeds(row) for row in (a, b))
    if min(len(left), len(right)) < 2:
        return 0.0
    slack = 1e-9 * max(np.abs(left).max(), np.abs(right).max())
    if np.ptp(left) <= slack and np.ptp(right) <= slack:  # the variance is 0, for which Welch's test is undefined
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
    """Two-sided p-value of the difference between two systems' means on the same queries (`permutation_p_values`).

    Parameters
    ----------
    a, b : (Q,) values of each system, or (S, Q) for its S seeds.
    groups : (Q,) group of each query; the queries of one group change sign together.

    Raises
    ------
    ValueError : as for `clustered`.

    Examples
    --------
    >>> p = permutation_test([1, 1, 1, 1], [0, 0, 0, 0])  # 2 of the 16 sign patterns are as extreme
    >>> abs(p - 2 / 16) < 0.02
    True
    """
    return float(permutation_p_values(clustered([a, b], groups), [(0, 1)], n_permutations, seed)[0])


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust p-values for multiple comparisons (Holm, 1979), which controls the family-wise error rate.

    Parameters
    ----------
    p : p-values in any shape; a NaN stays NaN and does not count as a comparison.

    Returns
    -------
    The adjusted p-values, in the shape of `p`.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(4)
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
