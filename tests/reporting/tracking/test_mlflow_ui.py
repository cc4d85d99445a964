"""MLflow's own pages over the store that tracking fills, in headless Chromium: two runs side by side."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossmodal.reporting.tracking import record, store
from tests.reporting.drawn import make_plan

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.slow
KEYS = ["world/full/vsepp/seed0", "world/full/vse0/seed0"]


@pytest.fixture(scope="module")
def served(
    browser: sync_api.Browser, tmp_path_factory: pytest.TempPathFactory, empty_store: Path, made: Path
) -> Iterator[tuple[str, list]]:
    """Address of a server over a store of two models' runs, and those runs. Nothing is served without a browser."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(empty_store, folder / "mlflow.db")
    for key in KEYS:
        shutil.copytree(made / "runs" / key, folder / "results/runs" / key)
    plan = make_plan(tracking={"uri": f"sqlite:///{folder}/mlflow.db"})
    assert record.track_all(plan, folder / "results")
    client = store.client_of(plan.params.tracking.address)
    experiment = client.get_experiment_by_name("crossmodal/mfsr").experiment_id
    found = {run.data.tags[record.KEY]: run for run in client.search_runs([experiment])}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    address = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as server:
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None, (folder / "log").read_text()
                    time.sleep(0.5)
            yield address, [found[key] for key in KEYS]
        finally:
            server.terminate()


@pytest.fixture
def page(browser: sync_api.Browser, served: tuple[str, list]) -> Iterator[sync_api.Page]:
    """A page whose scripts must not fail."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    page.close()
    assert wrong == []


def test_the_runs_of_an_experiment(page: sync_api.Page, served: tuple[str, list]) -> None:
    address, runs = served
    page.goto(f"{address}/#/experiments/{runs[0].info.experiment_id}?workflowType=machine_learning")
    page.get_by_text("VSE++ [3] (world/full", exact=False).first.wait_for()
    page.get_by_text("VSE0 (sum of hinges)", exact=False).first.wait_for()
    page.get_by_text("4 matching runs").wait_for()  # two rows of the table, and a seed of each


def test_the_saved_view_has_data_source_and_headline_metrics(page: sync_api.Page, served: tuple[str, list]) -> None:
    address, runs = served
    page.goto(
        f"{address}/#/experiments/{runs[0].info.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=headline"
    )
    page.get_by_text("4 matching runs").wait_for()
    for text in ("Dataset", "Source", "test/recall_sum"):
        page.get_by_role("columnheader").get_by_text(text).first.wait_for()
    page.get_by_text("world/full (").first.wait_for()
    page.get_by_text(f"{runs[0].data.metrics['test/recall_sum']:.1f}"[:4]).first.wait_for()


def test_two_runs_are_compared(page: sync_api.Page, served: tuple[str, list]) -> None:
    address, runs = served
    ids, experiments = json.dumps([run.info.run_id for run in runs]), json.dumps([runs[0].info.experiment_id])
    page.goto(f"{address}/#/compare-runs?runs={ids}&experiments={experiments}")
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    page.get_by_text("test/recall_sum").first.wait_for()
    told = page.inner_text("body").split("\n")
    for run in runs:
        assert run.data.params["model"] in "\n".join(told)
        assert f"{run.data.metrics['test/recall_sum']:g}" in told
