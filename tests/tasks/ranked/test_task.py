"""What the numbers of controls must be: 100 of the oracle, and of chance those of a random order, over its folds."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from crossmodal.tasks.base import tasks


def number(metric, value=0.0, aspect="image-to-text", protocol="all", n_queries=200, n_gallery=200):
    about = {"aspect": aspect, "metric": metric, "protocol": protocol, "value": value}
    return about | {"n_queries": n_queries, "n_gallery": n_gallery}


@pytest.mark.parametrize("name", ["instance_retrieval", "category_retrieval"])
def test_the_oracle_finds_everything(name):
    for metric in ("recall@1", "map@50"):
        assert tasks()[name].expected("oracle", number(metric), []) == (100.0, 100.0, 100.0)
    for metric in ("median_rank", "mean_rank", "recall_sum", "of no task"):  # ranks, sums, others
        assert tasks()[name].expected("oracle", number(metric), []) is None
        assert tasks()[name].expected("chance", number(metric), []) is None


@pytest.mark.parametrize(("protocol", "draws"), [("all", 200), ("fold1", 200), ("fold5", 1000), ("fold12", 2400)])
def test_recall_by_chance_is_averaged_over_all_folds(protocol, draws):
    """One relevant item of 200 is among 5 drawn ones with probability 1 / 40; sizes are those of one fold."""
    found = tasks()["instance_retrieval"].expected("chance", number("recall@5", protocol=protocol), [])
    bounds = (100 * binom.ppf(share, draws, 1 / 40) / draws for share in (0.5e-5, 1 - 0.5e-5))
    assert found == pytest.approx((2.5, *bounds))


def test_precision_by_chance_is_that_of_its_own_direction_and_protocol():
    """The variance of a value of mean .2 is at most .16, so that the mean of 400 has a deviation of .02."""
    others = [
        number("map_chance", 30.0),
        number("map@50_chance", 40.0, aspect="text-to-image"),
        number("map@50_chance", 50.0, protocol="seen"),
        number("map@50_chance", 20.0),
    ]
    found = tasks()["category_retrieval"].expected("chance", number("map@50", n_queries=400), others)
    assert found == pytest.approx((20.0, 20 - 2 * 4.417173, 20 + 2 * 4.417173), abs=1e-5)  # 1 in 100,000, two-sided
    assert tasks()["category_retrieval"].expected("chance", number("map@50"), others[:3]) is None
    assert tasks()["category_retrieval"].expected("chance", number("recall@5"), others) is None
    assert tasks()["instance_retrieval"].expected("chance", number("map@50"), []) is None
