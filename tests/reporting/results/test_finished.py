"""The runs that are there: each with its headline score, the time of its training and its size on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crossmodal import cli
from crossmodal.experiments import Plan
from crossmodal.reporting.results import finished
from tests.reporting.drawn import make_plan, make_run

KEYS = ["world/full/vsepp/seed0", "world/full/vse0/seed1", "world/full/chance/seed0"]
OTHER = "world/full/vsepp/seed7"  # of a planned system, and of no planned seed


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan with three of its runs, one of another seed, one half made and one of a system that has gone."""
    results = tmp_path_factory.mktemp("drawn")
    plan = make_plan(paths={"results": str(results)})
    for key in KEYS:
        make_run(results / "runs" / key, plan.jobs[key])
    make_run(results / "runs" / OTHER, plan.jobs[KEYS[0]].model_copy(update={"seed": 7}))
    (results / "runs" / "world/full/vse0/seed2").mkdir(parents=True)
    (results / "runs" / "world/full/vse0/seed2" / "train.log").write_text("epoch 1\n")
    (results / "runs" / "world/full/gone/seed0").mkdir(parents=True)
    return plan


def test_runs_that_are_there(drawn: Plan, caplog) -> None:
    found = {one.run: one for one in finished.finished(drawn)}
    assert "do not define it: world/full/gone/seed0" in caplog.text
    assert [*found] == [*sorted(KEYS, key=[*drawn.jobs].index), OTHER]
    runs = Path(drawn.params.paths.results) / "runs"
    for key, one in found.items():
        assert one.bytes == sum(path.stat().st_size for path in (runs / key).rglob("*") if path.is_file())
        numbers = json.loads((runs / key / "instance_retrieval" / "metrics.json").read_text())["numbers"]
        recalls = [n["value"] for n in numbers if n["metric"] in ("recall@1", "recall@5", "recall@10")]
        assert len(recalls) == 6
        assert one.score == pytest.approx(sum(recalls))
        assert (one.task, one.aspect, one.metric) == ("instance_retrieval", "both", "recall_sum")
    assert {key: one.seconds for key, one in found.items()} == dict(
        zip([*KEYS, OTHER], (41.5, 42.5, None, 48.5), strict=True)
    )
    assert [key for key, one in found.items() if one.quick] == [KEYS[0], KEYS[2]]


def test_the_headline_is_of_the_whole_test_set() -> None:
    def number(aspect: str, metric: str, value: float, protocol: str = "all") -> dict:
        return {"aspect": aspect, "metric": metric, "value": value, "protocol": protocol}

    precision = [number("image-to-text", "map@50", 1.0), number("average", "map@50", 2.0, "unseen")]
    assert finished.headline(precision)["value"] == 2.0
    assert finished.headline([*precision, number("average", "map@50", 3.0)])["value"] == 3.0
    folds = [number("both", "recall_sum", 4.0, "fold5"), number("both", "recall_sum", 5.0)]
    assert finished.headline(folds)["value"] == 5.0
    assert finished.headline([*precision, *folds])["value"] == 5.0
    assert finished.headline([number("setting", "accuracy", 6.0)]) is None


def test_the_command(drawn: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.tools, "read_plan", lambda: drawn)
    monkeypatch.setenv("COLUMNS", "120")
    text = CliRunner().invoke(cli.app, ["list", "runs", "--done"]).output
    lines = [" ".join(line.split()) for line in text.splitlines()]
    score = next(one for one in finished.finished(drawn) if one.run == KEYS[0]).score
    assert any(line.startswith(f"{KEYS[0]} {score:.1f} Sum (both) 42 s ") for line in lines)
    assert lines[-1].startswith("4 runs, ")
    assert lines[-1].endswith(f"{len(drawn.jobs) - 3} more are planned")
    rows = json.loads(CliRunner().invoke(cli.app, ["list", "runs", "--done", "--json"]).stdout)
    assert [row["run"] for row in rows] == [one.run for one in finished.finished(drawn)]
    assert rows[0]["score"] == finished.finished(drawn)[0].score
    planned = json.loads(CliRunner().invoke(cli.app, ["list", "--json"]).stdout)
    assert {"run": KEYS[0], "quick": True} in planned
    wrong = CliRunner().invoke(cli.app, ["list", "models", "--done"])
    assert "--done: is of runs, not of models" in str(wrong.exception)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, crossmodal.reporting.results.finished, crossmodal.cli.listing\n"
        "sys.exit(', '.join({'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
