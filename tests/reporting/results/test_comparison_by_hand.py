"""What cells are compared with, by hand: chance, protocols, seeds, and the references of significance tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from crossmodal.reporting.results import comparison as comparing
from crossmodal.reporting.results import significance
from tests.reporting.toy import COLUMNS, PAPER, seen, toy_metrics, toy_plan


def chance_of(value: float, protocol: str, n_queries: int, n_gallery: int) -> pd.Series:
    row = toy_metrics().query("model == 'chance' and metric == 'recall@1' and seed == 0").iloc[[0]]
    changed = row.assign(protocol=protocol, value=value, n_queries=n_queries, n_gallery=n_gallery)
    return comparing.controls(changed).iloc[0]


def test_chance_over_folds_is_bounded_as_of_all_their_queries() -> None:
    """One in a thousand: of 5,000 queries in five folds 0.40 % are too many, of 1,000 in one they are not."""
    for folds, protocol in ((1, "all"), (5, "fold5")):
        found = chance_of(0.4, protocol, 1000, 1000)
        low, high = (100 * stats.binom.ppf(q, 1000 * folds, 1e-3) / (1000 * folds) for q in (5e-6, 1 - 5e-6))
        assert (found.low, found.high) == pytest.approx((low, high))
        assert found.expected == pytest.approx(0.1)
        assert bool(found.ok) is (folds == 1)


def test_chance_knows_queries_from_gallery() -> None:
    """Five of 1,000 captions answer an image, one of 200 images a caption: both .5 %, of other certainty."""
    images, captions = chance_of(0.5, "all", 200, 1000), chance_of(0.5, "all", 1000, 200)
    assert (images.expected, captions.expected) == pytest.approx((0.5, 0.5))
    assert images.high > captions.high > 0.5
    assert not chance_of(0.0, "all", 5000, 100).ok  # fifty of 5,000 are expected to hit: none is too few


def test_the_worst_of_several_data_sets_is_told_and_of_the_tables_own_protocol() -> None:
    rows = [
        {"label": "One", "published": [20.0, 30.0], "experiment": "one"},
        {"label": "Two", "published": [10.0, 40.0], "experiment": "two", "dataset": "coco"},
    ]
    plan = toy_plan({"rows": rows}, scale="full")
    sound = toy_metrics("flickr30k")
    assert comparing.compare(plan, sound).qc.unique().tolist() == ["not run: chance and oracle"]  # those on coco
    both = pd.concat([sound, toy_metrics("coco")])
    assert comparing.compare(plan, both).qc.unique().tolist() == ["ok"]
    broken = sound.copy()
    broken.loc[(broken.model == "oracle") & (broken.metric == "recall@1"), "value"] = 99.0
    (qc,) = comparing.compare(plan, broken).qc.unique()  # off, though on coco they were not run
    assert qc == "off: oracle has image-to-text recall@1 99.00, expected 100 (seed 0), and 2 more"
    elsewhere = pd.concat([both, broken[broken.model == "oracle"].assign(protocol="fold5")])
    assert comparing.compare(plan, elsewhere).qc.unique().tolist() == ["ok"]


def test_a_columns_protocol_wins_over_its_rows() -> None:
    columns = [{**COLUMNS[0], "protocol": "first"}, COLUMNS[0]]
    rows = [{"label": "One", "published": [1.0, 2.0], "experiment": "one", "protocol": "unseen"}]
    plan = toy_plan({"columns": columns, "rows": rows})
    metrics = pd.concat(
        [toy_metrics(protocol="first"), toy_metrics(protocol="unseen").assign(value=lambda f: f.value / 2)]
    )
    found = comparing.compare(plan, metrics)
    assert found.protocol.tolist() == ["first", "unseen"]
    assert found.ours_mean.tolist() == pytest.approx([64.0, 32.0])


def test_seeds_are_expected_of_what_was_asked_for() -> None:
    plan = toy_plan()
    two = {key: job for key, job in plan.jobs.items() if job.seed != 1}
    metrics = toy_metrics()
    found = comparing.compare(plan, metrics[metrics.seed != 1], two)
    cell = found[(found.row == 0) & (found.column == 0)].iloc[0]
    assert (cell.n_seeds, cell.n_expected) == (2, 2)
    assert cell.ours_mean == pytest.approx(64.5)
    assert seen(plan, found).lines[0].remark == "2 seeds"


def test_a_row_has_as_many_seeds_as_its_poorest_number() -> None:
    plan, metrics = toy_plan(), toy_metrics()
    gone = (metrics.model == "vsepp") & (metrics.variant == "") & (metrics.metric == "mean_rank") & (metrics.seed == 2)
    line = seen(plan, comparing.compare(plan, metrics[~gone])).lines[0]
    assert [cell.n_seeds for cell in line.cells] == [3, 2]
    assert line.cells[1].mean == pytest.approx(3.5)
    assert line.remark == "2 of 3 seeds"


# -- significance ---------------------------------------------------------------------------------------------------

SYSTEMS = {
    ("full", "vsepp"): "One",
    ("full", "vse0"): "Two",
    ("full", "vsepp.batch24"): "Three",
    ("10pct-5cap", "vsepp"): "Few",
    ("full", "chance"): "chance",
}


def filled(
    monkeypatch: pytest.MonkeyPatch, means: dict[tuple[str, str], float], metric: str, p: list[float], **table: object
) -> dict[str, dict]:
    """The cells of a column of one table, its p-values given, by label."""
    plan = toy_plan(dict(table))
    known = plan.papers["toy"].tables[0]
    cells = [
        {
            "paper": "toy", "table": "t1", "status": "done", "system": SYSTEMS[system], "ours_split": system[0],
            "ours_model": system[1], "ours_dataset": "world", "protocol": "all", "aspect": "image-to-text",
            "metric": metric, "ours_mean": mean,
        }
        for system, mean in means.items()
    ]  # fmt: skip
    asked: list[list[tuple[int, int]]] = []

    def given(data: object, pairs: list[tuple[int, int]]) -> np.ndarray:
        asked.append(list(pairs))
        return np.array(p[: len(pairs)])

    monkeypatch.setattr(significance, "permutation_p_values", given)
    ids = np.arange(4)
    spread = np.array([[-1.0, 1.0, -2.0, 2.0]])
    significance._fill_table(known, cells, lambda d, system, *rest: (means[system] + spread, ids, ids), {})
    return {cell["system"]: cell for cell in cells}


MEANS = {("full", "vsepp"): 3.0, ("full", "vse0"): 8.0, ("full", "vsepp.batch24"): 5.0}


@pytest.mark.parametrize(
    ("metric", "references", "against"),
    [
        ("recall@1", {"One": "vse0", "Two": "vsepp.batch24", "Three": "vse0"}, ["worse", "better", "worse"]),
        ("mean_rank", {"One": "vsepp.batch24", "Two": "vsepp", "Three": "vsepp"}, ["better", "worse", "worse"]),
    ],
)
def test_the_best_other_system_is_the_reference(monkeypatch, metric, references, against) -> None:
    """Of mean ranks the lowest is the best, and to be lower is to be better."""
    found = filled(monkeypatch, MEANS, metric, [0.001] * 3)
    assert {label: cell["reference"] for label, cell in found.items()} == references
    assert [cell["against"] for cell in found.values()] == against


def test_holms_correction_decides(monkeypatch) -> None:
    """Two pairs are tested of three cells: of .02 and .03 both become .04, of .03 and .04 both .06."""
    found = filled(monkeypatch, MEANS, "recall@1", [0.02, 0.03])
    assert {cell["p_holm"] for cell in found.values()} == {0.04}
    assert all(cell["against"] for cell in found.values())
    found = filled(monkeypatch, MEANS, "recall@1", [0.03, 0.04])
    assert {cell["p_value"] for cell in found.values()} == {0.03, 0.04}
    assert {cell["p_holm"] for cell in found.values()} == {0.06}
    assert not any(cell["against"] for cell in found.values())
    assert significance.LEVEL == 0.05


def test_references_have_the_same_annotation_and_are_no_controls(monkeypatch) -> None:
    means = {("full", "vsepp"): 3.0, ("10pct-5cap", "vsepp"): 9.0, ("full", "vse0"): 2.0, ("full", "chance"): 99.0}
    found = filled(monkeypatch, means, "recall@1", [0.01] * 4)
    assert [found[label].get("reference") for label in ("One", "Few", "Two", "chance")] == ["vse0", None, "vsepp", None]
    rows = [{**row, "label": "Base"} if row["label"] == "Two" else row for row in PAPER["tables"][0]["rows"]]
    monkeypatch.setitem(SYSTEMS, ("full", "vse0"), "Base")
    monkeypatch.setitem(SYSTEMS, ("50pct-2cap", "vse0"), "Base")
    means |= {("50pct-2cap", "vse0"): 50.0}
    found = filled(monkeypatch, means, "recall@1", [0.01] * 4, baseline="Base", rows=rows)
    assert found["One"]["reference"] == "vse0"  # of its own split, though the baseline is better with another
    assert found["Few"]["reference"] == "vse0 (50pct-2cap)"  # which has none of its own


@pytest.mark.parametrize(
    ("seeds", "sd", "half"),
    [
        (2, 1.0, 12.7062 / 2**0.5),
        (3, 1.0, 4.3027 / 3**0.5),
        (3, 0.5, 0.5 * 4.3027 / 3**0.5),
        (5, 2.0, 2 * 2.7764 / 5**0.5),
    ],
)
def test_a_difference_is_significant_beyond_the_interval_of_our_mean(seeds: int, sd: float, half: float) -> None:
    """Student's critical values for 95 %, two-sided, from a printed table: of one, two and four degrees of freedom."""
    for sign in (1, -1):
        for distance, expected in ((half * 1.001, True), (half * 0.999, False)):
            ours = {"ours_mean": 50 + sign * distance, "ours_sd": sd, "n_seeds": seeds, "comparable": True}
            found = comparing._difference(50.0, ours)
            assert found["significant"] is expected
            assert found["difference"] == pytest.approx(sign * distance)
    alone = {"ours_mean": 60.0, "ours_sd": None, "n_seeds": 1, "comparable": True}
    assert comparing._difference(50.0, alone) == {"difference": 10.0}
    assert comparing._difference(50.0, alone | {"comparable": False}) == {}
    assert comparing._difference(None, alone) == {}
