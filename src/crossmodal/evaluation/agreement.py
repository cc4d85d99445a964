"""Agreement of two orders of the same systems: Kendall's tau-b over several numbers of each, and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEAST = 4
"""Rows of which an interval is given at least."""


@dataclass(frozen=True)
class Ordered:
    """Numbers whose order is compared with that of others.

    Parameters
    ----------
    reference : (N,) the other order's numbers. values : N arrays of (S,), by seed, each number's own.
    columns : (N,) codes; numbers are compared with those of the same column. rows : (N,) codes of what is drawn
        together. runs : (N,) codes; numbers of one run have the same seeds.
    """

    reference: np.ndarray
    values: Sequence[np.ndarray]
    columns: np.ndarray
    rows: np.ndarray
    runs: np.ndarray

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of each two numbers of one column."""
        left, right = np.triu_indices(len(self.reference), 1)
        alike = self.columns[left] == self.columns[right]
        return left[alike], right[alike]


def kendall_tau(data: Ordered) -> float:
    """Kendall's tau-b of two orders, over the pairs of all columns; NaN where there is none that tells them apart.

    Concordant less discordant pairs, over the root of the pairs that are no ties in one order times those that are none
    in the other (Kendall, 1945); of one column that of `scipy.stats.kendalltau`.
    """
    left, right = data.pairs
    means = np.array([value.mean() for value in data.values])
    return float(
        _tau(np.sign(data.reference[left] - data.reference[right]), np.sign(means[left] - means[right])[None])[0]
    )


def _tau(reference: np.ndarray, signs: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(B,) of (P,) and (B, P) signs of pairs, which count (B, P) `weights` times."""
    weights = np.ones_like(signs) if weights is None else weights
    concordant = (weights * signs * reference).sum(1)
    untied = (weights * np.square(reference)).sum(1) * (weights * np.square(signs)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return concordant / np.sqrt(untied)


def tau_interval(
    data: Ordered, confidence: float = 0.95, n_resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of Kendall's tau by bootstrap over rows, all columns of one together, and the seeds of each.

    A row that is drawn twice is not compared with itself. NaN of fewer than `LEAST` rows.
    """
    rows, places = np.unique(data.rows, return_inverse=True)
    if len(rows) < LEAST:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), n_resamples).astype(np.float32)
    drawn = np.empty((n_resamples, len(data.values)), np.float64)
    for run in np.unique(data.runs):
        members = np.flatnonzero(data.runs == run)
        shares = rng.random((n_resamples, max(len(data.values[place]) for place in members)))
        for place in members:
            n = len(data.values[place])
            drawn[:, place] = data.values[place][(shares[:, :n] * n).astype(np.int64)].mean(1)
    left, right = data.pairs
    weights = times[:, places[left]]
    apart = places[left] != places[right]
    weights[:, apart] *= times[:, places[right[apart]]]
    signs = np.sign(drawn[:, left] - drawn[:, right]).astype(np.float32)
    reference = np.sign(data.reference[left] - data.reference[right]).astype(np.float32)
    taus = _tau(reference, signs, weights)
    taus = taus[~np.isnan(taus)]
    if not len(taus):
        return float("nan"), float("nan")
    low, high = np.quantile(taus, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
