from __future__ import annotations

from pathlib import Path

import pytest

from crossmodal.experiments import Plan
from tests.prepared import labelled
from tests.reporting.drawn import make_plan, make_results

__all__ = ["labelled"]


@pytest.fixture(scope="session")
def plan() -> Plan:
    return make_plan()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Path:
    """A whole results folder, to be read only."""
    from crossmodal.reporting.results import collect

    results = make_results(tmp_path_factory.mktemp("whole"), plan)
    collect.write(plan, plan.jobs, results / "runs", results)
    return results


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and no experiment of ours: its migrations take seconds, so once for all."""
    from crossmodal.reporting.tracking.store import client_of

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client_of(f"sqlite:///{path}").search_experiments()
    return path
