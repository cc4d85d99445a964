from itertools import combinations

import numpy as np
import pytest

from crossmodal.evaluation import average_precision, retrieval_ranks
from crossmodal.evaluation.quality import (
    chance_interval,
    chance_precision,
    chance_recall,
    out_of_range,
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


@pytest.mark.parametrize(
    ("metric", "value", "fine"),
    [
        ("recall@5", 100.0, True),
        ("recall@5", 100.1, False),
        ("map@50", -1.0, False),
        ("median_rank", 0.5, False),
        ("mean_rank", 50.0, True),
        ("mean_rank", 51.0, False),
        ("recall_sum", 412.0, True),
        ("recall@1", float("nan"), False),
    ],
)
def test_ranges(metric, value, fine):
    assert (out_of_range(metric, value, 50) is None) == fine


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
