"""Variances of many small groups of numbers, each steadied by the others (moderated t tests; Smyth, 2004).

A variance of three numbers is hardly known. Where many groups are measured alike, the variances of the others say what
to expect: they are taken as draws from a scaled inverse chi-squared distribution, whose scale and degrees of freedom
follow from the mean and the spread of their logarithms. This module knows nothing of runs or metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma


@dataclass(frozen=True)
class Prior:
    """What the variances of groups say of the variance of any group."""

    variance: float
    df: float
    """How many degrees of freedom the variance is worth for a group that is not measured; infinite where all groups
    have one variance."""
    most: float
    """The degrees of freedom of all groups together: a moderated variance has no more."""

    def moderated(self, variance: float = 0.0, df: float = 0.0) -> tuple[float, float]:
        """A group's variance and its degrees of freedom, from its own variance with `df` and from the prior."""
        total = self.df + df
        if np.isinf(total):
            return self.variance, self.most
        return (self.df * self.variance + df * variance) / total, min(total, self.most)


def prior_of(variances: Sequence[float], df: Sequence[float]) -> Prior | None:
    """The prior that groups' variances give; None without a group of at least two numbers.

    Groups without any spread, such as recalls of 100 for all seeds, do not count: they are no draws of that
    distribution, and would make the others look more different than they are. The spread of the logarithms is taken one
    standard error larger than it is measured: where few groups look alike by chance, bounds would be too narrow.

    Parameters
    ----------
    variances, df : (G,) unbiased variances and their degrees of freedom, at least 1.
    """
    values, weights = np.asarray(variances, np.float64), np.asarray(df, np.float64)
    if not len(values):
        return None
    kept = values > 0
    values, weights = (values[kept], weights[kept]) if kept.any() else (values, weights)
    pooled, most = float(np.average(values, weights=weights)), float(weights.sum())
    if len(values) < 2 or pooled == 0:
        return Prior(pooled, most, most)
    centred = np.log(values) - digamma(weights / 2) + np.log(weights / 2)
    spread = float(centred.var(ddof=1))
    excess = spread * (1 + float(np.sqrt(2 / (len(values) - 1)))) - float(polygamma(1, weights / 2).mean())
    if excess <= 0:
        return Prior(pooled, np.inf, most)
    half = inverse_trigamma(excess)
    return Prior(float(np.exp(centred.mean() + digamma(half) - np.log(half))), 2 * half, most)


def inverse_trigamma(value: float) -> float:
    """The x > 0 whose trigamma function is `value` > 0, by Newton's method (Smyth, 2004, appendix).

    >>> round(inverse_trigamma(float(polygamma(1, 2.5))), 9)
    2.5
    """
    if value > 1e7:
        return float(value**-0.5)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-12:
            break
    return x
