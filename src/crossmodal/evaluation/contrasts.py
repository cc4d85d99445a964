"""Tests of contrasts: weighted sums of means over queries and seeds, in which both queries and seeds are random.

The variance of a contrast is the sum of its variance over groups of queries, for which the values of all rows are taken
together (so that rows are compared on the same queries), and its variance over seeds. Tests and intervals use Student's
t distribution with Satterthwaite's degrees of freedom. The sum of both variances is that under a new draw of queries
and of seeds (crossed random effects; Clark, 1973), so a difference that holds on these queries and seeds alone is not
significant. This module knows nothing of tables or claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SEEDS = 100
"""The largest number of seeds that `seeds_needed` tries."""
POWER = 0.8
SLACK = 1e-9
"""The largest difference of numbers that are equal but for rounding, in the metrics' units."""


@dataclass(frozen=True)
class Contrast:
    """An estimate and the contributions of seeds and queries from which its variance is computed.

    Parameters
    ----------
    units : name of a unit to its (S,) contributions to the estimate, one per seed. A unit is a set of runs that begin
        from one another. Units are independent, so that their variances are added; within a unit, seeds are paired.
    queries : (G,) the deviation that each group of queries contributes to the estimate; the sum is 0. It is empty where
        the numbers are not means over queries; the variance is then over seeds alone.
    offset : a number that is subtracted from the estimate, such as the value expected by chance.
    """

    units: Mapping[str, np.ndarray]
    queries: np.ndarray = field(default_factory=lambda: np.empty(0))
    offset: float = 0.0

    @property
    def estimate(self) -> float:
        """The sum of the units' means over seeds, minus the offset."""
        return float(sum(unit.mean() for unit in self.units.values()) - self.offset)

    @property
    def seeds(self) -> int:
        """The smallest number of seeds of any unit."""
        return min(len(unit) for unit in self.units.values())

    def variances(self, seeds: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The variance and the degrees of freedom of the estimate, with its own or with other numbers of seeds.

        Parameters
        ----------
        seeds : (n,) numbers of seeds that each unit would have; None for the units' own numbers.

        Returns
        -------
        (n,) variances and (n,) degrees of freedom, or (1,) of each without `seeds`. They are NaN where a unit has one
        seed, whose variance is unknown.
        """
        n_seeds = np.array([len(unit) for unit in self.units.values()])
        counts = n_seeds[:, None] if seeds is None else np.broadcast_to(seeds, (len(n_seeds), len(seeds)))
        spread = np.array([unit.var(ddof=1) if len(unit) > 1 else np.nan for unit in self.units.values()])
        parts, freedom = spread[:, None] / counts, counts - 1.0
        n = len(self.queries)
        if n > 1:
            of_queries = np.full((1, parts.shape[1]), n / (n - 1) * np.square(self.queries).sum())
            parts, freedom = np.vstack([parts, of_queries]), np.vstack([freedom, np.full_like(of_queries, n - 1)])
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = parts.sum(0)
            degrees = np.square(variance) / (np.square(parts) / freedom).sum(0)
        return variance, np.where(variance == 0, freedom.sum(0), degrees)


def above(contrast: Contrast, bound: float = 0.0) -> float:
    """One-sided p-value for the contrast being above a bound; NaN where a unit has one seed."""
    from scipy.stats import t

    (variance,), (freedom,) = contrast.variances()
    distance = contrast.estimate - bound
    if np.isnan(variance):
        return float("nan")
    if np.sqrt(variance) <= SLACK * max(abs(contrast.estimate), abs(bound), 1.0):  # the t statistic is undefined
        return 0.0 if distance > SLACK else 1.0
    return float(t.sf(distance / np.sqrt(variance), freedom))


def below(contrast: Contrast, bound: float = 0.0) -> float:
    """One-sided p-value for the contrast being below a bound; NaN where a unit has one seed."""
    return above(negative(contrast), -bound)


def negative(contrast: Contrast) -> Contrast:
    """The contrast with the opposite sign."""
    units = {name: -unit for name, unit in contrast.units.items()}
    return Contrast(units, -contrast.queries, -contrast.offset)


def interval(contrast: Contrast, confidence: float = 0.95) -> tuple[float, float]:
    """The lower and the upper bound of the contrast's two-sided interval; NaN where a unit has one seed."""
    from scipy.stats import t

    (variance,), (freedom,) = contrast.variances()
    half = float(t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance)) if variance > 0 else float(variance)
    return contrast.estimate - half, contrast.estimate + half


def mean(contrasts: list[Contrast]) -> Contrast:
    """The mean of several contrasts as one contrast; contributions of the same unit are added."""
    n = len(contrasts)
    units: dict[str, np.ndarray] = {}
    for contrast in contrasts:
        for name, unit in contrast.units.items():
            units[name] = units.get(name, 0.0) + unit / n
    queries = sum(contrast.queries / n for contrast in contrasts)
    return Contrast(units, np.asarray(queries), sum(contrast.offset for contrast in contrasts) / n)


def seeds_needed(contrast: Contrast, level: float, bound: float = 0.0, power: float = POWER) -> int | None:
    """The number of seeds per run with which a one-sided test would separate the contrast from a bound.

    The estimate, its spread and the queries are taken as they are. The number is the smallest for which the distance
    of the estimate from the bound exceeds the sum of the quantiles `1 - level` and `power` of Student's t, in standard
    errors.

    Returns
    -------
    A number of seeds from 2 to `SEEDS`. None if even `SEEDS` seeds are too few, as when there are too few queries, or
    if a unit has one seed, whose spread is unknown.
    """
    from scipy.stats import t

    counts = np.arange(2, SEEDS + 1)
    variance, freedom = contrast.variances(counts)
    needed = (t.ppf(1 - level, freedom) + t.ppf(power, freedom)) * np.sqrt(variance)
    enough = np.flatnonzero(abs(contrast.estimate - bound) > needed)
    return int(counts[enough[0]]) if len(enough) else None
