from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from crossmodal.evaluation import average_precision, retrieval_ranks
from crossmodal.evaluation.bounds import (
    chance_interval,
    chance_precision,
    chance_recall,
    precision_interval,
)


def test_chance_by_hand():
    assert chance_recall(1, 1000, 5000) == pytest.approx(5 / 5000)
    assert chance_recall(10, 5000, 1000) == pytest.approx(10 / 1000)
    assert chance_recall(2, 10, 20) == pytest.approx(1 - 18 / 20 * 17 / 19)
    assert chance_recall(50, 10, 10) == 1.0


def test_random_vectors_are_inside_and_a_leak_is_not():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(400, 8)), rng.normal(size=(400, 8))
    groups = np.arange(400)
    expected, low, high = chance_interval(10, 400, 400)
    assert expected == pytest.approx(2.5)
    assert low <= 100 * (retrieval_ranks(queries, gallery, groups, groups) <= 10).mean() <= high
    leaked = 100 * (retrieval_ranks(queries, gallery + 0.7 * queries, groups, groups) <= 10).mean()
    assert leaked > high


def test_the_chance_interval_is_binomial():
    expected, low, high = chance_interval(5, 40, 40, folds=3, alpha=0.02)
    assert expected == pytest.approx(100 * 5 / 40)
    assert low == pytest.approx(100 * stats.binom.ppf(0.01, 120, 1 / 8) / 120)
    assert high == pytest.approx(100 * stats.binom.ppf(0.99, 120, 1 / 8) / 120)
    assert 0 < low < expected < high < 30
    found = chance_interval(5, 40000, 40, folds=3, alpha=0.02)[1:]  # fine enough for any other level to differ
    shares = stats.binom.ppf([0.01, 0.99], 120000, 5 / 40) / 1200
    assert found == pytest.approx(tuple(shares), rel=1e-12)
    wide = chance_interval(5, 40, 40, folds=3)
    assert (wide[1] < low) & (wide[2] > high)  # by default as seldom as 1 in 100,000


def test_the_precision_interval_by_hand():
    """The variance of a value in [0, 1] of mean 1/2 is at most 1/4: of 100 queries' mean 0.05 squared."""
    low, high = precision_interval(50.0, 100, alpha=0.05)
    assert (low, high) == pytest.approx((50 - 9.79982, 50 + 9.79982), abs=1e-4)
    assert precision_interval(1.0, 10)[0] == 0.0
    assert precision_interval(99.0, 10)[1] == 100.0
    low, high = precision_interval(20.0, 400, alpha=0.3173105)  # one standard deviation, 0.4 / 20
    assert (low, high) == pytest.approx((18.0, 22.0), abs=1e-4)


def test_chance_precision_of_each_query():
    """One relevant item of N: the mean of 1 / rank. All relevant: 1."""
    found = chance_precision(np.array([3, 1, 3, 1]), 3, None)
    np.testing.assert_allclose(found, [1, 11 / 18, 1, 11 / 18], rtol=1e-12)
    np.testing.assert_allclose(chance_precision(np.array([1]), 1, None), [1.0])
    np.testing.assert_allclose(chance_precision(np.array([1, 4]), 4, "R"), [1 / 4, 1], rtol=1e-12)


@pytest.mark.parametrize(("n", "relevant"), [(5, 2), (6, 3), (4, 1), (5, 5)])
@pytest.mark.parametrize("at", [None, "R", 2, 50])
def test_chance_precision_is_the_mean_over_all_orders(n, relevant, at):
    values = []
    for places in combinations(range(n), relevant):
        hits = np.isin(np.arange(n), places)
        precision = np.cumsum(hits) / np.arange(1, n + 1) * hits
        cut = n if at is None else relevant if at == "R" else min(at, n)
        counted = relevant if at in (None, "R") else max(hits[:cut].sum(), 1)
        values.append(precision[:cut].sum() / counted)
    found = chance_precision(np.array([relevant, relevant]), n, at)
    np.testing.assert_allclose(found, [np.mean(values)] * 2, rtol=1e-12)


def test_precision_interval_holds_random_orders():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 200)
    found = average_precision(rng.normal(size=(200, 64)), rng.normal(size=(200, 64)), labels, labels)
    expected = 100 * chance_precision(np.bincount(labels)[labels], 200, 50).mean()
    low, high = precision_interval(expected, 200)
    assert low < 100 * found.mean() < high
    assert high - expected < 20
