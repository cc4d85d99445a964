"""Tests of contrasts, weighted sums of means over queries and seeds, in which both are random.

A contrast's variance is the sum of two: over groups of queries, whose values of all rows are taken together (so that
rows are compared on the same queries), and over seeds. Its degrees of freedom are Satterthwaite's, and tests and
intervals are Student's. A difference that holds on these queries and seeds alone is not told from 0: the sum of both
variances is what a new draw of queries and of seeds would have (crossed random effects; Clark, 1973). Knows nothing of
tables or claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SEEDS = 100
"""How many seeds an estimate of those needed goes up to."""
POWER = 0.8
SLACK = 1e-9
"""What rounding makes of equal numbers, in the metrics' units."""


@dataclass(frozen=True)
class Contrast:
    """An estimate and what it varies by.

    Parameters
    ----------
    units : name to (S,) what runs that begin from one another add to the estimate, by seed. Units do not depend on each
        other, so that their variances are added; within one, seeds are paired.
    queries : (G,) by how much each group of queries moves the estimate, of sum 0. Empty where numbers are no means over
        queries: the variance is then over seeds alone.
    offset : a number that is subtracted, such as what is expected of chance.
    """

    units: Mapping[str, np.ndarray]
    queries: np.ndarray = field(default_factory=lambda: np.empty(0))
    offset: float = 0.0

    @property
    def estimate(self) -> float:
        return float(sum(unit.mean() for unit in self.units.values()) - self.offset)

    @property
    def seeds(self) -> int:
        return min(len(unit) for unit in self.units.values())

    def variances(self, seeds: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The estimate's variance and degrees of freedom, as they are or with other numbers of seeds.

        NaN where there is one seed: it says nothing of others.

        Parameters
        ----------
        seeds : (n,) numbers of seeds of each unit.

        Returns
        -------
        (n,) each, or (1,).
        """
        own = np.array([len(unit) for unit in self.units.values()])
        counts = own[:, None] if seeds is None else np.broadcast_to(seeds, (len(own), len(seeds)))
        spread = np.array([unit.var(ddof=1) if len(unit) > 1 else np.nan for unit in self.units.values()])
        parts, freedom = spread[:, None] / counts, counts - 1.0
        n = len(self.queries)
        if n > 1:
            of_queries = np.full((1, parts.shape[1]), n / (n - 1) * np.square(self.queries).sum())
            parts, freedom = np.vstack([parts, of_queries]), np.vstack([freedom, np.full_like(of_queries, n - 1)])
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = parts.sum(0)
            found = np.square(variance) / (np.square(parts) / freedom).sum(0)
        return variance, np.where(variance == 0, freedom.sum(0), found)


def above(contrast: Contrast, bound: float = 0.0) -> float:
    """One-sided p-value of the contrast being above a bound; NaN of one seed."""
    from scipy.stats import t

    (variance,), (freedom,) = contrast.variances()
    distance = contrast.estimate - bound
    if np.isnan(variance):
        return float("nan")
    if np.sqrt(variance) <= SLACK * max(abs(contrast.estimate), abs(bound), 1.0):  # nothing varies
        return 0.0 if distance > SLACK else 1.0
    return float(t.sf(distance / np.sqrt(variance), freedom))


def below(contrast: Contrast, bound: float = 0.0) -> float:
    """One-sided p-value of the contrast being below a bound."""
    return above(negative(contrast), -bound)


def negative(contrast: Contrast) -> Contrast:
    units = {name: -unit for name, unit in contrast.units.items()}
    return Contrast(units, -contrast.queries, -contrast.offset)


def interval(contrast: Contrast, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of the contrast; NaN of one seed."""
    from scipy.stats import t

    (variance,), (freedom,) = contrast.variances()
    half = float(t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance)) if variance > 0 else float(variance)
    return contrast.estimate - half, contrast.estimate + half


def mean(contrasts: list[Contrast]) -> Contrast:
    """The mean of several contrasts as one."""
    n = len(contrasts)
    units: dict[str, np.ndarray] = {}
    for contrast in contrasts:
        for name, unit in contrast.units.items():
            units[name] = units.get(name, 0.0) + unit / n
    queries = sum(contrast.queries / n for contrast in contrasts)
    return Contrast(units, np.asarray(queries), sum(contrast.offset for contrast in contrasts) / n)


def seeds_needed(contrast: Contrast, level: float, bound: float = 0.0, power: float = POWER) -> int | None:
    """Seeds of each run with which a one-sided test finds the contrast above or below a bound, on the same queries.

    Taken from the estimate and the spread as they are: the fewest for which their distance from the bound is the sum of
    the quantiles of `1 - level` and of `power` of Student's t, in standard errors. None if `SEEDS` are too few, as when
    the queries are, or if there is one seed, whose spread is not known.
    """
    from scipy.stats import t

    counts = np.arange(2, SEEDS + 1)
    variance, freedom = contrast.variances(counts)
    needed = (t.ppf(1 - level, freedom) + t.ppf(power, freedom)) * np.sqrt(variance)
    enough = np.flatnonzero(abs(contrast.estimate - bound) > needed)
    return int(counts[enough[0]]) if len(enough) else None
