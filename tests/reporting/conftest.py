from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crossmodal.experiments import Plan
from tests.prepared import labelled
from tests.reporting.drawn import make_plan, make_results

__all__ = ["labelled"]

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def plan() -> Plan:
    return make_plan()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Path:
    """A whole results folder, to be read only."""
    from crossmodal.reporting import collect

    results = make_results(tmp_path_factory.mktemp("whole"), plan)
    collect.write(plan, plan.jobs, results / "runs", results)
    return results


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; a test that asks for it skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and no experiment of ours: its migrations take seconds, so once for all."""
    from crossmodal.reporting.mlflowstore import client_of

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client_of(f"sqlite:///{path}").search_experiments()
    return path
