"""Where curves of recall against annotation meet: values by hand, and the figure that tells them."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from crossmodal import experiments
from crossmodal.reporting.figures import base, crossovers
from crossmodal.reporting.figures.annotation import annotation
from tests.on_world import on_world
from tests.reporting.drawn import ROOT

SHARES = {"10pct-1cap": 2, "20pct-5cap": 20, "full": 100}


def meetings(numbers: pd.DataFrame) -> pd.DataFrame:
    return crossovers.meetings(numbers, {"a3vse"})


def metrics(curves: dict[str, dict[str, float]], seeds: int = 1, **about: object) -> pd.DataFrame:
    """R@1 of text to image, with 1 added by the second of two seeds, and R@5 that nothing may read."""
    rows = [
        {"split": split, "model": name, "seed": seed, "metric": metric, "value": value + seed + extra}
        for name, curve in curves.items()
        for split, value in curve.items()
        for seed in range(seeds)
        for metric, extra in (("recall@1", 0.0), ("recall@5", 30.0))
    ]
    same = {"paper": "a", "dataset": "world", "variant": "", "aspect": "text-to-image", "protocol": "all"}
    return pd.DataFrame(rows).assign(**{**same, "n_queries": 9, "n_gallery": 9, **about})


def test_the_proposed_system_meets_another_where_their_lines_do():
    found = meetings(
        metrics(
            {
                "a3vse": {"20pct-5cap": 30.0, "full": 40.0, "10pct-1cap": 20.0},
                "scan": {"10pct-1cap": 0.0, "20pct-5cap": 20.0, "full": 50.0},
                "vsepp": {"20pct-5cap": 5.0, "full": 39.0},
                "dan": {"full": 90.0},  # one share: no curve
                "oracle": {"10pct-1cap": 100.0, "full": 100.0},
            },
            seeds=2,
        )
    )
    assert list(found) == list(crossovers.COLUMNS)
    assert found[["system", "other"]].to_numpy().tolist() == [["a3vse", "scan"], ["a3vse", "vsepp"]]
    # Between 20 and 100 %: 30 + 10 t = 20 + 30 t at t = 1/2, so at 20 · 5 ** .5 %, where the mean of seeds is 35.5.
    assert found.share[0] == pytest.approx(20 * np.sqrt(5))
    assert found.value[0] == pytest.approx(35.5)
    assert found[["share", "value"]].iloc[1].isna().all()


def test_what_a_system_without_pairs_is_worth():
    found = meetings(
        metrics(
            {
                "sg": {"none": 10.5},
                "scan": {"10pct-1cap": 0.5, "20pct-5cap": 20.5},
                "a3vse": {"10pct-1cap": 20.0, "full": 30.0},
            }
        )
    )
    told = {(row.system, row.other): (row.share, row.value) for row in found.itertuples()}
    assert set(told) == {("a3vse", "scan"), ("a3vse", "sg"), ("scan", "sg")}
    assert told["scan", "sg"] == pytest.approx((2 * np.sqrt(10), 10.5))  # half of the decade from 2 to 20 %
    assert np.isnan(told["a3vse", "sg"]).all()  # above it at its fewest pairs


def test_two_splits_of_one_share_are_one_point():
    found = meetings(
        metrics(
            {
                "a3vse": {"10pct-2cap": 10.0, "20pct-1cap": 20.0, "full": 15.0},
                "scan": {"10pct-2cap": 0.0, "full": 30.0},
            }
        )
    )
    assert found.share[0] == pytest.approx(10 ** (np.log10(4) + np.log10(25) / 2))  # 15 = 30 t


def test_each_data_set_and_direction_by_itself():
    curves = {"a3vse": {"10pct-1cap": 20.0, "full": 40.0}, "scan": {"10pct-1cap": 0.0, "full": 60.0}}
    other = metrics(curves, dataset="other", aspect="image-to-text")
    other.loc[other.model == "scan", "value"] += 100
    found = meetings(pd.concat([metrics(curves), other]))
    assert found[["dataset", "aspect"]].to_numpy().tolist() == [
        ["other", "image-to-text"],
        ["world", "text-to-image"],
    ]
    assert found.share.isna().tolist() == [True, False]


def test_nothing_is_held_against_nothing():
    assert meetings(metrics({"vsepp": {"10pct-1cap": 1.0, "full": 2.0}, "sm": {"full": 1.0}})).empty
    assert list(meetings(metrics({"sg": {"none": 1.0}}))) == list(crossovers.COLUMNS)


def test_the_figure_tells_where_curves_meet():
    numbers = metrics(
        {
            "a3vse": {"10pct-1cap": 20.0, "full": 40.0},
            "scan": {"10pct-1cap": 0.0, "full": 60.0},
            "vsepp": {"10pct-1cap": 0.0, "full": 10.0},
        }
    )
    found = meetings(numbers)
    drawn = annotation(numbers, {"world": "embedded world"}, "recall@1", found)
    assert drawn == annotation(numbers, {"world": "embedded world"}, "recall@1", found)
    ElementTree.fromstring(drawn)
    assert "R@1 (%)" in drawn
    assert "a3vse meets scan: at 14.1 % of the pairs" in drawn  # 2 · 50 ** .5
    assert "a3vse meets vsepp: none in range" in drawn
    assert "meets" not in annotation(numbers, {}, "recall@1")


def test_without_a_proposed_system_only_levels_are_met():
    curves = {
        "a3vse": {"10pct-1cap": 20.0, "full": 40.0},
        "scan": {"10pct-1cap": 0.0, "full": 50.0},
        "sg": {"none": 5.0},
    }
    found = crossovers.meetings(metrics(curves), set())
    assert found[["system", "other"]].to_numpy().tolist() == [["a3vse", "sg"], ["scan", "sg"]]


def test_the_papers_file_says_which_system_is_proposed(tmp_path):
    value = on_world(papers=["a3vse"], seeds=[0])
    value["paths"] = {"data": "data", "results": str(tmp_path)}
    scope = base.Scope.of(experiments.plan(experiments.from_config(value), ROOT / "papers"))
    metrics({"a3vse": {"10pct-1cap": 20.0, "full": 40.0}, "scan": {"10pct-1cap": 0.0, "full": 50.0}}).to_parquet(
        tmp_path / "metrics.parquet"
    )
    figure = base.figure("crossovers", scope)
    assert figure.meetings[["system", "other"]].to_numpy().tolist() == [["a3vse", "scan"]]
    assert figure.shown()
    assert "a3vse meets scan" in figure.draw()
    metrics({"a3vse": {"full": 40.0}}).to_parquet(tmp_path / "metrics.parquet")
    assert not base.figure("crossovers", base.Scope(scope.plan, scope.jobs, scope.folder)).shown()
