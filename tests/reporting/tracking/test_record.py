"""MLflow: counts, nesting, idempotence, rebuilding, and a store that is down."""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil
import sqlite3
import threading
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from crossmodal import experiments
from crossmodal.experiments import Plan
from crossmodal.inference import onnx_encoder
from crossmodal.reporting.tracking import names, record, store
from tests.reporting.drawn import ROOT, make_plan, make_results

KEYS = [f"world/full/vsepp/seed{seed}" for seed in (0, 1, 2)] + ["world/full/chance/seed0"]


@pytest.fixture
def place(tmp_path: Path, empty_store: Path, made: Path) -> tuple[Plan, Path]:
    """A plan whose store is in `tmp_path`, and a results folder of four runs."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    for key in KEYS:
        shutil.copytree(made / "runs" / key, tmp_path / "results" / "runs" / key)
    return make_plan(tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"}), tmp_path / "results"


@pytest.fixture(autouse=True)
def _no_server(monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def stored(plan: Plan, experiment: str = "crossmodal/mfsr") -> list:
    client = store.client_of(plan.params.tracking.address)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], max_results=1000))


def by_key(plan: Plan, experiment: str = "crossmodal/mfsr") -> dict:
    found = stored(plan, experiment)
    keyed = {run.data.tags[record.KEY]: run for run in found}
    assert len(keyed) == len(found)
    return keyed


def test_runs_are_nested_with_all_they_have(place: tuple[Plan, Path]) -> None:
    plan, results = place
    assert record.track_all(plan, results)
    found = by_key(plan)
    assert set(found) == {*KEYS, "world/full/vsepp", "world/full/chance"}
    run, parent = found[KEYS[0]], found["world/full/vsepp"]
    assert parent.info.run_name == "VSE++ [3] (world/full/vsepp)"
    assert (parent.data.tags["row"], parent.data.tags["tables"]) == (
        "VSE++ [3]; VSE++, fixed image network",
        "table1, table2",
    )
    assert (run.data.tags["paper"], run.data.tags["data"]) == ("mfsr", "stand-in")
    assert run.data.tags["embedder"] == "none: it compares items without vectors"
    assert parent.data.tags["embedder"] == "none: it compares items without vectors"
    assert "embedder_seed" not in parent.data.tags
    assert "onnx" not in run.data.tags
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags
    assert run.info.status == parent.info.status == "FINISHED"
    assert parent.info.start_time <= run.info.start_time
    assert parent.info.start_time <= parent.info.end_time
    assert (run.data.params["settings.dim"], run.data.params["seed"]) == ("256", "0")
    numbers = json.loads((results / "runs" / KEYS[0] / "instance_retrieval" / "metrics.json").read_text())["numbers"]
    expected = next(n["value"] for n in numbers if (n["aspect"], n["metric"]) == ("image-to-text", "recall@1"))
    assert run.data.metrics["test/image-to-text.recall_1"] == pytest.approx(expected)
    assert run.data.metrics["system/seconds"] == pytest.approx(41.5)
    assert run.data.tags["mlflow.source.name"] == f"crossmodal train {KEYS[0]}"
    inputs = {one.dataset.name: one.dataset for one in run.inputs.dataset_inputs}
    assert set(inputs) == {"world/full", "world/image.world"}
    assert (inputs["world/image.world"].digest, inputs["world/full"].source_type) == ("f" * 16, "local")
    assert json.loads(inputs["world/full"].source) == {"uri": "data/world/items.parquet"}
    assert not parent.inputs.dataset_inputs
    client = store.client_of(plan.params.tracking.address)
    curve = client.get_metric_history(run.info.run_id, "val/recall_sum")
    assert [point.step for point in curve] == [1, 2, 3, 4, 5, 6]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"manifest.json", "config.yaml", "train.log", "learning-curve.svg"}
    assert (results.parent / "mlartifacts").is_dir()
    sums = [found[key].data.metrics["test/recall_sum"] for key in KEYS[:3]]
    assert parent.data.metrics["test/recall_sum"] == pytest.approx(sum(sums) / 3)
    assert parent.data.metrics["run/seeds"] == 3
    mean = sum(sums) / 3
    assert parent.data.metrics["test/recall_sum.sd"] == pytest.approx((sum((x - mean) ** 2 for x in sums) / 2) ** 0.5)


def test_numbers_of_folds_stand_apart() -> None:
    numbers = [
        {"aspect": "image-to-text", "metric": "recall@1", "protocol": protocol, "value": value}
        for protocol, value in (("all", 40.0), ("fold5", 60.5))
    ]
    numbers.append({"aspect": "both", "metric": "recall_sum", "protocol": "fold5", "value": 300.0})
    assert record._final(numbers) == {
        "test/image-to-text.recall_1": 40.0,
        "test-fold5/image-to-text.recall_1": 60.5,
        "test-fold5/recall_sum": 300.0,
    }


def test_tracking_again_changes_nothing_but_what_changed(place: tuple[Plan, Path]) -> None:
    plan, results = place
    record.track_all(plan, results)
    before = {key: run.info.run_id for key, run in by_key(plan).items()}
    assert record.track_all(plan, results)
    assert {key: run.info.run_id for key, run in by_key(plan).items()} == before
    path = results / "runs" / KEYS[1] / "instance_retrieval" / "metrics.json"
    content = json.loads(path.read_text())
    next(n for n in content["numbers"] if n["metric"] == "recall_sum")["value"] = 123.0
    path.write_text(json.dumps(content))
    assert record.track_all(plan, results, {KEYS[1]: plan.jobs[KEYS[1]]})
    after = by_key(plan)
    assert {key for key in after if after[key].info.run_id != before[key]} == {KEYS[1]}
    assert after[KEYS[1]].data.metrics["test/recall_sum"] == 123.0
    sums = [after[key].data.metrics["test/recall_sum"] for key in KEYS[:3]]
    assert after["world/full/vsepp"].data.metrics["test/recall_sum"] == pytest.approx(sum(sums) / 3)


def test_what_the_exporter_refused_is_a_tag(place: tuple[Plan, Path], monkeypatch, tmp_path: Path) -> None:
    plan, results = place
    monkeypatch.chdir(tmp_path)
    weights = json.loads((results / "runs" / KEYS[0] / "manifest.json").read_text()).get("weights_sha256", "")
    onnx_encoder.refuse(plan.jobs[KEYS[0]], "image", weights, "an operator is not supported")
    assert record.track_all(plan, results, {KEYS[0]: plan.jobs[KEYS[0]]})
    assert by_key(plan)[KEYS[0]].data.tags["onnx"] == "none: an operator is not supported"


def test_a_link_in_a_runs_folder_takes_no_file_of_the_users_along(place: tuple[Plan, Path], caplog) -> None:
    """The store may be a server's, and the run that of others."""
    plan, results = place
    secret = results.parent / "id_rsa"
    secret.write_text("private")
    (results / "runs" / KEYS[0] / "train.log").unlink(missing_ok=True)
    (results / "runs" / KEYS[0] / "train.log").symlink_to(secret)
    assert record.track_all(plan, results, {KEYS[0]: plan.jobs[KEYS[0]]})
    run = by_key(plan)[KEYS[0]]
    client = store.client_of(plan.params.tracking.address)
    assert "train.log" not in [file.path for file in client.list_artifacts(run.info.run_id)]
    assert "a link that leads out" in caplog.text


def test_a_run_cut_short_is_replaced(place: tuple[Plan, Path]) -> None:
    plan, results = place
    with store.opened(plan.params.tracking.uri) as opened:
        tags = {record.KEY: KEYS[0]}
        cut = opened.client.create_run(opened.experiment("crossmodal/mfsr"), tags=tags).info.run_id
    assert record.track_all(plan, results)
    assert by_key(plan)[KEYS[0]].info.run_id != cut


def test_rebuild_refills_whatever_there_is(place: tuple[Plan, Path]) -> None:
    plan, results = place
    record.track_all(plan, results)
    before = by_key(plan)
    assert record.rebuild(plan, results)
    after = by_key(plan)
    assert set(after) == set(before)
    assert not {run.info.run_id for run in after.values()} & {run.info.run_id for run in before.values()}


def test_rebuild_of_an_unreadable_database(place: tuple[Plan, Path], empty_store: Path, monkeypatch) -> None:
    plan, results = place
    path = results.parent / "mlflow.db"
    path.write_bytes(b"not a database")
    make = store.client_of

    def quickly(uri: str):
        if not path.exists():  # spare the migrations
            shutil.copy(empty_store, path)
        return make(uri)

    monkeypatch.setattr(store, "client_of", quickly)
    assert record.rebuild(plan, results)
    assert len(stored(plan)) == 6
    assert (results.parent / "mlflow.db.unreadable").read_bytes() == b"not a database"


def test_an_unreadable_database_is_a_warning(place: tuple[Plan, Path]) -> None:
    plan, results = place
    (results.parent / "mlflow.db").write_bytes(b"not a database")
    assert record.track_all(plan, results) is False


@pytest.mark.parametrize("kind", ["text", "folder"])
def test_a_database_that_cannot_be_opened_is_told_at_once(place: tuple[Plan, Path], monkeypatch, caplog, kind) -> None:
    """MLflow would try again for minutes: it is not asked."""
    plan, results = place
    path = results.parent / "mlflow.db"
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else path.write_bytes(b"not a database, but long enough to be read as one" * 50)
    monkeypatch.setattr(store, "client_of", lambda uri: pytest.fail("MLflow is asked"))
    assert record.track_all(plan, results) is False
    assert "mlflow.db: cannot be opened as an SQLite database" in caplog.text


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_bad_address_is_a_warning(place: tuple[Plan, Path], uri: str, caplog) -> None:
    _, results = place
    plan = make_plan(tracking={"uri": uri})
    with caplog.at_level(logging.WARNING):
        assert record.init_store(uri) is False
        assert record.track_all(plan, results) is False
        assert record.rebuild(plan, results) is False
    assert "the runs are unaffected" in caplog.text


def test_a_locked_store_is_a_warning(place: tuple[Plan, Path], monkeypatch) -> None:
    plan, results = place
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    with FileLock(results.parent / "mlflow.db.lock"):
        assert record.track_all(plan, results) is False


def test_a_missing_package_is_a_warning(place: tuple[Plan, Path], monkeypatch) -> None:
    plan, results = place
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    assert record.track_all(plan, results) is False


def test_the_step_writes_what_became_of_each_run(place: tuple[Plan, Path], monkeypatch) -> None:
    plan, results = place
    monkeypatch.chdir(results.parent)
    jobs = {key: plan.jobs[key] for key in (*KEYS, "world/full/vse0/seed0")}
    record.write(plan, jobs, results)
    done = json.loads((results / "tracking.json").read_text())
    assert (len(done["tracked"]), done["missing"]) == (4, ["world/full/vse0/seed0"])
    record.write(plan, jobs, results)
    assert len(json.loads((results / "tracking.json").read_text())["unchanged"]) == 4
    off = make_plan(tracking={"enabled": False})
    record.write(off, jobs, results / "off")
    assert "switched off" in json.loads((results / "off" / "tracking.json").read_text())["failed"]


def test_make_store(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    plan = make_plan(tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    assert record.make_store(plan.params.tracking)
    assert record.make_store(plan.params.tracking)
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        names = [row[0] for row in connection.execute("select name from experiments")]
    assert names.count(record.EXPERIMENT) == 1
    assert not record.make_store(make_plan(tracking={"enabled": False}).params.tracking)


def test_names_and_parameters() -> None:
    assert names.metric_name("test/image-to-text.recall@10") == "test/image-to-text.recall_10"
    assert record.flattened({"a": {"b": 1, "c": {"d": [1]}}, "e": None}) == {"a.b": "1", "a.c.d": "[1]", "e": "None"}


def test_runs_of_two_papers_and_of_none(place: tuple[Plan, Path]) -> None:
    plan, results = place
    jobs = {key: plan.jobs[key].model_copy(update={"papers": ("mfsr",)}) for key in KEYS}
    jobs[KEYS[0]] = jobs[KEYS[0]].model_copy(update={"papers": ("mfsr", "a3vse")})
    jobs[KEYS[3]] = jobs[KEYS[3]].model_copy(update={"papers": ()})
    assert record.track_all(plan, results, jobs)
    assert set(by_key(plan, "crossmodal")) == {KEYS[3], "world/full/chance"}
    assert set(by_key(plan, "crossmodal/a3vse")) == {KEYS[0], "world/full/vsepp"}
    assert set(by_key(plan)) == {*KEYS[:3], "world/full/vsepp"}
    tree = record.Tree(plan)
    assert "Pattern Recognition" in tree.about(tree.places(jobs[KEYS[0]])[0])


def test_what_a_run_begins_from_is_one_of_its_stages() -> None:
    plan = experiments.plan(experiments.from_config(experiments.read_yaml(ROOT / "params.yaml") | {"papers": ["cvs"]}))
    runs = [job for job in plan.jobs.values() if job.dataset == "media_world"]
    jobs = {job.name: job for job in runs if job.seed == 0 and job.split == "full"}
    tree = record.Tree(plan)
    last = jobs["mcvs.image+text+video+audio+mesh"]
    assert [tree.stage(jobs[name]) for name in ("cvs.image+text", "mcvs.image+text+video", last.name)] == [1, 2, 4]
    # One that has a row of its own is under that; one that has none under the row of what goes on from it.
    for job in jobs.values():
        for place in tree.places(job):
            own = ("cvs", record._group(job)) in tree.rows
            begun = any(other.after == record._group(job) for other in jobs.values())
            assert (place.group == record._group(job)) is (own or not begun)


def _one(arguments: tuple[Plan, Path, str]) -> bool:
    plan, results, key = arguments
    return record.track_all(plan, results, {key: plan.jobs[key]})


def test_sixteen_at_once(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    plan = make_plan(tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"}, seeds=list(range(16)))
    keys = [f"world/full/chance/seed{seed}" for seed in range(16)]
    results = make_results(tmp_path, plan, keys)
    with ProcessPoolExecutor(16, multiprocessing.get_context("fork")) as pool:
        assert all(pool.map(_one, [(plan, results, key) for key in keys]))
    found = by_key(plan)
    assert set(found) == {*keys, "world/full/chance"}
    parent = found.pop("world/full/chance")
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    assert parent.data.metrics["run/seeds"] == 16
    sums = [run.data.metrics["test/recall_sum"] for run in found.values()]
    assert parent.data.metrics["test/recall_sum"] == pytest.approx(sum(sums) / 16)


def test_the_environment_names_a_server(place: tuple[Plan, Path], monkeypatch) -> None:
    plan, results = place
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        assert record.track_all(plan, results) is False
        server.shutdown()
    assert any("experiments/get-by-name" in path for path in asked)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert plan.params.tracking.address == plan.params.tracking.uri


def test_a_control_has_no_file_of_settings(tmp_path: Path, caplog) -> None:
    plan = make_plan()
    kept = record._params(plan.jobs["world/full/chance/seed0"], tmp_path, plan.params)
    assert kept["model"] == "chance"
    assert caplog.text == ""
    record._params(plan.jobs["world/full/vsepp/seed0"], tmp_path, plan.params)
    assert "config.yaml: not found" in caplog.text
