"""Annotation efficiency of runs: the library's numbers on the means of the metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal.evaluation import annotations_to_reach, area
from crossmodal.experiments import Plan
from crossmodal.reporting.results import efficiency


@pytest.fixture(scope="module")
def frame(made: Path, plan: Plan) -> pd.DataFrame:
    return efficiency.efficiency(plan, plan.jobs, made / "runs")


def test_area_and_pairs_follow_from_the_metrics(made: Path, frame: pd.DataFrame) -> None:
    row = frame[(frame.aspect == "text-to-image") & (frame.metric == "recall@10")].iloc[0]
    assert row.system == "vsepp"
    metrics = pd.read_parquet(made / "metrics.parquet").drop(columns="paper").drop_duplicates()
    own = metrics[(metrics.model == "vsepp") & (metrics.variant == "") & (metrics.aspect == row.aspect)]
    means = own[own.metric == row.metric].groupby("split").value.mean()
    splits = row.splits.split()
    assert splits == ["10pct-1cap", "10pct-5cap", "50pct-2cap", "full"]
    pairs = np.array([100.0, 500.0, 1000.0, 5000.0])  # what the manifests of the fixture say
    recalls = means[splits].to_numpy()
    assert (row.pairs_least, row.pairs_most, row.n_seeds) == (100, 5000, 3)
    assert row.area == pytest.approx(area(pairs, recalls))
    assert row.target == pytest.approx(0.9 * recalls.max(), abs=0.051)
    assert row.pairs_needed == pytest.approx(annotations_to_reach(pairs, recalls, row.target))
    assert row.area_low < row.area < row.area_high
    assert pd.isna(row.reference)  # the only system with several amounts


def test_two_systems_are_compared_by_ratio() -> None:
    rng = np.random.default_rng(0)
    ids, groups = np.arange(400), np.arange(400)
    amounts = {name: np.array([10.0, 100.0, 1000.0]) for name in ("a", "b")}
    found = {}
    for name, shares in (("a", (0.3, 0.5, 0.7)), ("b", (0.1, 0.3, 0.5))):
        for split, share in zip("xyz", shares, strict=True):
            found[name, split] = (100.0 * (rng.random((2, 400)) < share), ids, groups)
    rows = {row["system"]: row for row in efficiency._rows(["a", "b"], ("x", "y", "z"), amounts, found)}
    assert "reference" not in rows["a"]
    assert rows["b"]["reference"] == "a"
    assert rows["b"]["ratio"] == pytest.approx(rows["b"]["pairs_needed"] / rows["a"]["pairs_needed"])
    assert 5 < rows["b"]["ratio"] < 20  # a decade apart, by construction
    assert rows["b"]["ratio_low"] < rows["b"]["ratio"] < rows["b"]["ratio_high"]


def test_two_systems_by_hand() -> None:
    """Two queries alike, so that nothing is drawn by chance: `a` has 20, 50, 80 of 10, 100, 1,000 pairs."""
    ids = np.arange(2)
    amounts = {name: np.array([10.0, 100.0, 1000.0]) for name in ("a", "b")}
    recalls = {"a": (20.0, 50.0, 80.0), "b": (10.0, 20.0, 60.0)}
    found = {(n, s): (np.full((1, 2), v), ids, ids) for n, r in recalls.items() for s, v in zip("xyz", r, strict=True)}
    rows = {row["system"]: row for row in efficiency._rows(["a", "b"], ("x", "y", "z"), amounts, found)}
    assert rows["a"]["area"] == pytest.approx((35 + 65) / 2)  # trapezia over two decades
    assert rows["b"]["area"] == pytest.approx((15 + 40) / 2)
    assert rows["a"]["target"] == rows["b"]["target"] == 54.0  # nine tenths of the lower of the bests, 60
    assert rows["a"]["pairs_needed"] == pytest.approx(100 * 10 ** (4 / 30))
    assert rows["b"]["pairs_needed"] == pytest.approx(100 * 10 ** (34 / 40))
    assert rows["b"]["reference"] == "a"
    assert rows["b"]["ratio"] == pytest.approx(10 ** (34 / 40 - 4 / 30))
    assert (rows["b"]["area_low"], rows["b"]["area_high"]) == pytest.approx((27.5, 27.5))


def test_intervals_are_of_95_per_cent() -> None:
    """Of the numbers 1 to 1,000 the ends leave out 25 below and 25 above; draws that never get there are infinite."""
    drawn = np.arange(1.0, 1001.0)
    assert efficiency._interval("x", drawn) == {"x_low": 25.0, "x_high": 975.0}
    assert efficiency._interval("x", np.where(drawn > 900, np.nan, drawn)) == {"x_low": 25.0}


def test_lines(frame: pd.DataFrame) -> None:
    shown = efficiency.lines(frame)
    assert len(shown) == 2
    assert " to " in shown[0]["area"]


def test_the_file_is_written(made: Path, frame: pd.DataFrame) -> None:
    back = pd.read_csv(made / "annotation_efficiency.csv")
    assert list(back) == list(efficiency.TYPES)
    assert len(back) == len(frame) == 6


def test_nothing_to_compare(plan: Plan, tmp_path: Path) -> None:
    found = efficiency.efficiency(plan, plan.jobs, tmp_path)
    assert list(found) == list(efficiency.TYPES)
    assert len(found) == 0
