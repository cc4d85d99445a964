"""Kendall's tau over several columns: by hand, against SciPy, and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from crossmodal.evaluation.agreement import Ordered, kendall_tau, tau_interval


def ordered(reference: list, values: list, columns: list | None = None, rows: list | None = None) -> Ordered:
    n = len(reference)
    rows = np.arange(n) if rows is None else np.array(rows)
    values = [np.atleast_1d(np.asarray(value, float)) for value in values]
    return Ordered(np.array(reference, float), values, np.array(columns or [0] * n), rows, rows)


def test_one_column_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.integers(0, 6, 12), rng.integers(0, 6, 12)  # with ties in both
        assert kendall_tau(ordered(list(a), list(b))) == pytest.approx(stats.kendalltau(a, b).statistic)


def test_columns_count_together_and_are_not_mixed() -> None:
    """Three pairs agree in one column; in the other one agrees, one does not, one ties: (4 - 1) / (6 * 5) ** 0.5."""
    data = ordered([1, 2, 3, 10, 20, 30], [5, 6, 7, 2, 1, 2], [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
    assert kendall_tau(data) == pytest.approx(3 / 30**0.5)


def test_the_mean_over_seeds_is_ordered() -> None:
    assert kendall_tau(ordered([1, 2], [[0, 9], [1, 2]])) == -1.0  # 4.5 and 1.5
    assert np.isnan(kendall_tau(ordered([1, 1], [3, 4])))  # nothing is published to be in any order
    assert np.isnan(kendall_tau(ordered([1, 2], [3, 4], [0, 1])))


def test_an_order_that_nothing_shakes_is_certain() -> None:
    data = ordered([1, 2, 3, 4, 5], [[1, 1.1], [2, 2.1], [3, 3.1], [4, 4.1], [5, 5.1]])
    assert tau_interval(data) == (1.0, 1.0)
    low, high = tau_interval(ordered([1, 2, 3], [1, 2, 3]))
    assert np.isnan(low)
    assert np.isnan(high)  # three rows


def test_seeds_widen_the_interval() -> None:
    """Rows that change places from seed to seed, though their means are in order."""
    steady = ordered([1, 2, 3, 4, 5], [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]])
    shaken = ordered([1, 2, 3, 4, 5], [[-9, 11], [-8, 12], [-7, 13], [-6, 14], [-5, 15]])
    assert kendall_tau(shaken) == 1.0
    assert tau_interval(steady)[0] == 1.0
    assert tau_interval(shaken)[0] < 0.0
    assert tau_interval(shaken) == tau_interval(shaken)  # drawn from a seed


def test_rows_are_drawn_with_all_their_columns() -> None:
    """One row of six is wrong in every column: draws without it are perfect, those with it far from it."""
    reference = [1, 2, 3, 4, 5, 6]
    ours = [6.5, 2, 3, 4, 5, 6]
    columns = [0] * 6 + [1] * 6
    low, high = tau_interval(ordered(reference * 2, ours * 2, columns, [*range(6)] * 2))
    assert high == 1.0
    assert low < 0.0
    one = tau_interval(ordered(reference, ours))
    assert (low, high) == pytest.approx(one)  # a second column that says the same tells nothing more
