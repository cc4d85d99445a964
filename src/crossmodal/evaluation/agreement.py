"""Agreement of two orders of the same systems, such as a published and a measured one: Kendall's tau-b."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEAST = 4
"""The smallest number of rows for which an interval is given."""


@dataclass(frozen=True)
class Ordered:
    """N numbers of a table, whose order within each column is compared with the order of reference numbers.

    Parameters
    ----------
    reference : (N,) reference numbers.
    values : N arrays of (S,) values, one per seed of each number's own run.
    columns : (N,) codes of the columns; a number is compared only with numbers of the same column.
    rows : (N,) codes of the rows; the numbers of one row are resampled together.
    runs : (N,) codes of the runs; the numbers of one run share their draws of seeds.
    """

    reference: np.ndarray
    values: Sequence[np.ndarray]
    columns: np.ndarray
    rows: np.ndarray
    runs: np.ndarray

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The (P,) left and right indices of all pairs of numbers within one column."""
        left, right = np.triu_indices(len(self.reference), 1)
        alike = self.columns[left] == self.columns[right]
        return left[alike], right[alike]


def kendall_tau(data: Ordered) -> float:
    """Kendall's tau-b between the reference order and that of the means over seeds, over the pairs of all columns.

    It is the number of concordant minus discordant pairs, divided by the square root of the number of pairs untied in
    one order times the number of pairs untied in the other (Kendall, 1945). With one column it equals
    `scipy.stats.kendalltau`.

    Returns
    -------
    A number in [-1, 1]; NaN where all pairs are ties in one of the orders.
    """
    left, right = data.pairs
    means = np.array([value.mean() for value in data.values])
    return float(
        _tau(np.sign(data.reference[left] - data.reference[right]), np.sign(means[left] - means[right])[None])[0]
    )


def _tau(reference: np.ndarray, signs: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(B,) tau-b of the (P,) reference signs and (B, P) signs of pairs, which are counted (B, P) `weights` times."""
    weights = np.ones_like(signs) if weights is None else weights
    concordant = (weights * signs * reference).sum(1)
    untied = (weights * np.square(reference)).sum(1) * (weights * np.square(signs)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return concordant / np.sqrt(untied)


def tau_interval(
    data: Ordered, confidence: float = 0.95, n_resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of Kendall's tau by a bootstrap over rows (with all their columns) and over each run's seeds.

    A row that is drawn twice is not compared with itself.

    Returns
    -------
    The lower and the upper bound; NaN with fewer than `LEAST` rows, or where no resample has a defined tau.
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
