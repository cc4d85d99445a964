"""Quality control: impossible numbers, seeds that differ, missing runs; each named with its row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from crossmodal import cli
from crossmodal.core.errors import UserError
from crossmodal.experiments import Plan
from crossmodal.reporting.results import collect, quality_control
from crossmodal.reporting.results import comparison as comparing

KEY = "world/full/vse0/seed1"


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(made, tmp_path / "results"))


def spoil(results: Path, metric: str, value: float) -> None:
    path = results / "runs" / KEY / "instance_retrieval" / "metrics.json"
    content = json.loads(path.read_text())
    next(n for n in content["numbers"] if n["metric"] == metric)["value"] = value
    path.write_text(json.dumps(content))


def said(plan: Plan, results: Path, **options: object) -> list[str]:
    collect.write(plan, plan.jobs, results / "runs", results)
    return quality_control.check(plan, plan.jobs, results / "runs", results, **options)


def test_a_sound_scope_passes(plan: Plan, results: Path) -> None:
    assert quality_control.check(plan, plan.jobs, results / "runs", results) == []


@pytest.mark.parametrize(
    ("metric", "value", "what"),
    [
        ("recall@10", 120.0, "recall@10 is 120, expected 0 to 100"),
        ("median_rank", 0.0, "median_rank is 0, expected 1 to 200"),
        ("recall@1", 99.5, "recall falls as K grows"),
    ],
)
def test_impossible_numbers_fail_their_table_and_name_the_row(plan, results, metric, value, what) -> None:
    spoil(results, metric, value)
    found = said(plan, results)
    table = [line for line in found if line.startswith("mfsr table1: ")]
    assert len(table) == 1
    assert "row 'VSE0 (sum of hinges)': world/full/vse0/seed1" in table[0]
    assert what in table[0]
    assert not any(line.startswith("a3vse") for line in found)  # no table of that paper has the row
    assert any(line.startswith(f"{KEY}: ") and "its examples give" in line for line in found)


def test_two_runs_of_one_seed(plan: Plan, made: Path, results: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    own = metrics[(metrics.model == "vse0") & (metrics.seed == 1)]
    found = quality_control.faults(pd.concat([metrics, own.assign(value=own.value / 2)]))
    assert {fault.name for fault in found} == {"vse0"}
    assert any("two runs of this seed differ" in str(fault) for fault in found)
    spoil(results, "mean_rank", 7.25)
    lines = said(plan, results, against=made)
    assert any(line.startswith(KEY) and "two runs of this seed differ" in line for line in lines)
    assert quality_control.check(plan, plan.jobs, made / "runs", made, against=made) == []


def test_a_folder_to_compare_with_that_holds_no_runs(plan: Plan, made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no folder `runs`; expected another results folder"):
        quality_control.check(plan, plan.jobs, made / "runs", made, against=tmp_path)


def test_a_missing_run_is_named_with_its_row(plan: Plan, results: Path) -> None:
    shutil.rmtree(results / "runs" / KEY)
    found = said(plan, results)
    assert all("'VSE0 (sum of hinges)'" in line and "2 of 3 seeds of world/full/vse0" in line for line in found)
    assert {line.split(":")[0] for line in found} >= {"mfsr table1", "mfsr table2"}


def test_rows_whose_runs_are_not_made_are_one_line_per_table(plan: Plan, results: Path) -> None:
    for seed in (0, 1, 2):
        shutil.rmtree(results / f"runs/world/full/vse0/seed{seed}")
        shutil.rmtree(results / f"runs/world/full/vsepp/seed{seed}")
    found = said(plan, results)
    of_table = [line for line in found if line.startswith("mfsr table1: ")]
    assert of_table == ["mfsr table1: 2 of its runs are not made: world/full/vsepp, and 1 more"]
    assert len(found) == len({line.split(":")[0] for line in found})


def test_a_number_that_no_run_has_is_said_to_be_none(plan: Plan, results: Path) -> None:
    """The runs are there: what they lack is what a column asks for, and what was kept of their test cannot give it."""
    for seed in (0, 1, 2):
        path = results / f"runs/world/full/vse0/seed{seed}/instance_retrieval/metrics.json"
        content = json.loads(path.read_text())
        content["numbers"] = [row for row in content["numbers"] if row["aspect"] != "image-to-text"]
        path.write_text(json.dumps(content))
        queries = pd.read_parquet(path.with_name("examples.parquet"))
        queries[queries.aspect != "image-to-text"].to_parquet(path.with_name("examples.parquet"))
    found = [line for line in said(plan, results) if "'VSE0 (sum of hinges)'" in line]
    assert any(
        "world/full/vse0 was tested, but image-to-text recall@5 (all) was not measured" in line for line in found
    )
    assert all("there are text-to-image recall@1, " in line for line in found if "was not measured" in line)
    assert not any("nothing says why" in line for line in found)


def test_missing_controls(plan: Plan, results: Path) -> None:
    for seed in (0, 1, 2):
        shutil.rmtree(results / f"runs/world/full/chance/seed{seed}")
    assert any("controls not run: chance" in line for line in said(plan, results))


def test_a_changed_control_is_off(plan: Plan, made: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    metrics.loc[metrics.model == "oracle", "value"] = 99.0
    assert comparing.compare(plan, metrics).qc.str.startswith("off: oracle").all()


def test_the_command_exits_with_1(results: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    monkeypatch.setattr(cli.results, "read_plan", lambda: plan)
    monkeypatch.setattr(cli.results, "scope_of", lambda plan, quick: (plan.jobs, results))
    monkeypatch.chdir(results.parent)
    assert CliRunner().invoke(cli.app, ["check"]).exit_code == 0
    spoil(results, "recall@10", 120.0)
    collect.write(plan, plan.jobs, results / "runs", results)
    done = CliRunner().invoke(cli.app, ["check"])
    assert done.exit_code == 1
    assert "row 'VSE0 (sum of hinges)'" in done.output


def test_a_number_of_folds_is_the_mean_of_their_own(tmp_path: Path) -> None:
    """Two of two queries hit in one fold and one of four in the other: 62.5, not 50 as of all six."""
    queries = pd.DataFrame(
        {
            "protocol": "fold2",
            "aspect": "text-to-image",
            "fold": [0, 0, 1, 1, 1, 1],
            "query_id": list("abcdef"),
            "query_group": range(6),
            "rank": [1, 1, 1, 3, 4, 9],
            "top": [["x"]] * 6,
        }
    )
    (tmp_path / "instance_retrieval").mkdir()
    queries.to_parquet(tmp_path / "instance_retrieval" / "examples.parquet")
    about = {"task": "instance_retrieval", "aspect": "text-to-image", "protocol": "fold2"}
    right = [{**about, "metric": "recall@1", "value": 62.5}, {**about, "metric": "mean_rank", "value": 2.625}]
    assert quality_control._own(tmp_path, right) == []
    wrong = [{**about, "metric": "recall@1", "value": 50.0}]
    assert quality_control._own(tmp_path, wrong) == ["text-to-image recall@1 (fold2) is 50, but its examples give 62.5"]


def test_too_few_seeds_are_named(plan: Plan, results: Path) -> None:
    """One of three is not enough, none is no row of a scope."""
    for seed in (0, 2):
        shutil.rmtree(results / f"runs/world/full/vsepp.batch24/seed{seed}")
    assert any("1 of 3 seeds of world/full/vsepp.batch24" in line for line in said(plan, results))


def test_recalls_that_stay_the_same_with_k_are_sound(made: Path) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    flat = metrics[(metrics.model == "vse0") & metrics.metric.str.startswith("recall@")].assign(value=50.0)
    assert quality_control.faults(flat) == []
    rising = flat.assign(value=flat.metric.str.removeprefix("recall@").astype(float))
    assert quality_control.faults(rising) == []
    assert {fault.name for fault in quality_control.faults(rising.assign(value=50 - rising.value))} == {"vse0"}


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
        ("recall_sum", -1.0, False),
        ("recall@1", float("nan"), False),
        ("recall@10", 0.0, True),
        ("recall@1", -0.1, False),
        ("map", 100.5, False),
        ("map@R", 100.5, False),
        ("map@R", 3.0, True),
        ("median_rank", 1.0, True),
        ("median_rank", 50.5, False),
        ("mean_rank", 0.9, False),
        ("mean_rank", 50.0 + 1e-9, True),  # the rounding of a mean
        ("recall@1", 100.0 + 1e-6, False),
        ("recall@5_gain", 300.0, True),  # no metric of these: nothing is known
        ("seconds", float("inf"), False),
    ],
)
def test_ranges(metric, value, fine):
    assert (quality_control.out_of_range(metric, value, 50) is None) == fine
