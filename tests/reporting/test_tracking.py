"""MLflow: counts, nesting, idempotence, rebuilding, and a store that is down."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from pathlib import Path

import pytest
from filelock import FileLock

from conftest import make_plan
from crossmodal.experiments import Plan
from crossmodal.reporting import tracking

KEYS = [f"world/full/vsepp/seed{seed}" for seed in (0, 1, 2)] + ["world/full/chance/seed0"]


@pytest.fixture
def place(tmp_path: Path, empty_store: Path, made: Path) -> tuple[Plan, Path]:
    """A plan whose store is in `tmp_path`, and a results folder of four runs."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    for key in KEYS:
        shutil.copytree(made / "runs" / key, tmp_path / "results" / "runs" / key)
    return make_plan(tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"}), tmp_path / "results"


def stored(plan: Plan) -> list:
    client = tracking._client(plan.params.tracking.uri)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def by_key(plan: Plan) -> dict:
    found = stored(plan)
    keyed = {run.data.tags[tracking.KEY]: run for run in found}
    assert len(keyed) == len(found)
    return keyed


def test_runs_are_nested_with_all_they_have(place: tuple[Plan, Path]) -> None:
    plan, results = place
    assert tracking.track_all(plan, results)
    found = by_key(plan)
    assert set(found) == {*KEYS, "world/full/vsepp", "world/full/chance"}
    run, parent = found[KEYS[0]], found["world/full/vsepp"]
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags
    assert run.info.status == parent.info.status == "FINISHED"
    assert (run.data.params["settings.dim"], run.data.params["seed"]) == ("256", "0")
    numbers = json.loads((results / "runs" / KEYS[0] / "metrics.json").read_text())["numbers"]
    expected = next(n["value"] for n in numbers if (n["direction"], n["metric"]) == ("image-to-text", "recall@1"))
    assert run.data.metrics["test.image-to-text.recall_1"] == pytest.approx(expected)
    client = tracking._client(plan.params.tracking.uri)
    curve = client.get_metric_history(run.info.run_id, "val.recall_sum")
    assert [point.step for point in curve] == [1, 2, 3, 4, 5, 6]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"manifest.json", "config.yaml", "metrics.json", "train.log", "learning-curve.svg"}
    assert (results.parent / "mlartifacts").is_dir()
    sums = [found[key].data.metrics["test.recall_sum"] for key in KEYS[:3]]
    assert parent.data.metrics["test.recall_sum"] == pytest.approx(sum(sums) / 3)
    assert parent.data.metrics["seeds"] == 3
    assert "test.recall_sum.sd" in parent.data.metrics


def test_tracking_again_changes_nothing_but_what_changed(place: tuple[Plan, Path]) -> None:
    plan, results = place
    tracking.track_all(plan, results)
    before = {key: run.info.run_id for key, run in by_key(plan).items()}
    assert tracking.track_all(plan, results)
    assert {key: run.info.run_id for key, run in by_key(plan).items()} == before
    path = results / "runs" / KEYS[1] / "metrics.json"
    content = json.loads(path.read_text())
    next(n for n in content["numbers"] if n["metric"] == "recall_sum")["value"] = 123.0
    path.write_text(json.dumps(content))
    assert tracking.track(plan.jobs[KEYS[1]], path.parent, plan.params, plan)
    after = by_key(plan)
    assert {key for key in after if after[key].info.run_id != before[key]} == {KEYS[1]}
    assert after[KEYS[1]].data.metrics["test.recall_sum"] == 123.0
    sums = [after[key].data.metrics["test.recall_sum"] for key in KEYS[:3]]
    assert after["world/full/vsepp"].data.metrics["test.recall_sum"] == pytest.approx(sum(sums) / 3)


def test_a_run_cut_short_is_replaced(place: tuple[Plan, Path]) -> None:
    plan, results = place
    with tracking._opened(plan.params.tracking.uri) as store:
        tags = {tracking.KEY: KEYS[0]}
        cut = store.client.create_run(store.experiment, tags=tags).info.run_id
    assert tracking.track_all(plan, results)
    assert by_key(plan)[KEYS[0]].info.run_id != cut


def test_rebuild_refills_whatever_there_is(place: tuple[Plan, Path]) -> None:
    plan, results = place
    tracking.track_all(plan, results)
    before = by_key(plan)
    assert tracking.rebuild(plan, results)
    after = by_key(plan)
    assert set(after) == set(before)
    assert not {run.info.run_id for run in after.values()} & {run.info.run_id for run in before.values()}


def test_rebuild_of_an_unreadable_database(place: tuple[Plan, Path], empty_store: Path, monkeypatch) -> None:
    plan, results = place
    path = results.parent / "mlflow.db"
    path.write_bytes(b"not a database")
    make = tracking._client

    def quickly(uri: str):
        if not path.exists():  # spare the migrations
            shutil.copy(empty_store, path)
        return make(uri)

    monkeypatch.setattr(tracking, "_client", quickly)
    assert tracking.rebuild(plan, results)
    assert len(stored(plan)) == 6
    assert (results.parent / "mlflow.db.unreadable").read_bytes() == b"not a database"


def test_an_unreadable_database_is_a_warning(place: tuple[Plan, Path]) -> None:
    plan, results = place
    (results.parent / "mlflow.db").write_bytes(b"not a database")
    assert tracking.track_all(plan, results) is False


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_bad_address_is_a_warning(place: tuple[Plan, Path], uri: str, caplog) -> None:
    _, results = place
    plan = make_plan(tracking={"uri": uri})
    with caplog.at_level(logging.WARNING):
        assert tracking.init_store(uri) is False
        assert tracking.track_all(plan, results) is False
        assert tracking.rebuild(plan, results) is False
        assert tracking.track(plan.jobs[KEYS[0]], results / "runs" / KEYS[0], plan.params) is False
    assert "the runs are unharmed" in caplog.text


def test_a_locked_store_is_a_warning(place: tuple[Plan, Path], monkeypatch) -> None:
    plan, results = place
    monkeypatch.setattr(tracking, "LOCK_SECONDS", 0.1)
    with FileLock(results.parent / "mlflow.db.lock"):
        assert tracking.track_all(plan, results) is False


def test_a_missing_package_is_a_warning(place: tuple[Plan, Path], monkeypatch) -> None:
    plan, results = place
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    assert tracking.track_all(plan, results) is False


def test_the_step_writes_what_became_of_each_run(place: tuple[Plan, Path], monkeypatch) -> None:
    plan, results = place
    monkeypatch.chdir(results.parent)
    jobs = {key: plan.jobs[key] for key in (*KEYS, "world/full/vse0/seed0")}
    tracking.write(plan, jobs, results)
    done = json.loads((results / "tracking.json").read_text())
    assert (len(done["tracked"]), done["missing"]) == (4, ["world/full/vse0/seed0"])
    tracking.write(plan, jobs, results)
    assert len(json.loads((results / "tracking.json").read_text())["unchanged"]) == 4
    off = make_plan(tracking={"enabled": False})
    tracking.write(off, jobs, results / "off")
    assert "switched off" in json.loads((results / "off" / "tracking.json").read_text())["failed"]


def test_make_store(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    plan = make_plan(tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    assert tracking.make_store(plan.params.tracking)
    assert tracking.make_store(plan.params.tracking)
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        names = [row[0] for row in connection.execute("select name from experiments")]
    assert names.count(tracking.EXPERIMENT) == 1
    assert not tracking.make_store(make_plan(tracking={"enabled": False}).params.tracking)


def test_names_and_parameters() -> None:
    assert tracking.metric_name("test.image-to-text.recall@10") == "test.image-to-text.recall_10"
    assert tracking.flattened({"a": {"b": 1, "c": {"d": [1]}}, "e": None}) == {"a.b": "1", "a.c.d": "[1]", "e": "None"}
