"""Which code, machines and times runs come from, and where MLflow shows them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from crossmodal.core.files import commit
from crossmodal.experiments import Tracking
from crossmodal.reporting.page import provenance
from crossmodal.reporting.tracking.store import KEY, client_of


def git(folder: Path, *words: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head[:12]
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == f"{head[:12]} and changes"


def test_no_checkout_has_no_commit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit(tmp_path) == ""


def test_what_manifests_say() -> None:
    machine = {"cpu": "A", "cores": 2}
    found = provenance.of_runs(
        [
            {"finished": "2026-01-02T03:04:05+00:00", "commit": "abc", "hardware": machine, "versions": {"torch": "2"}},
            {"finished": "2026-01-01T03:04:05+00:00", "commit": "abc", "hardware": {**machine, "gpu": "B"}},
            {"versions": {"torch": "3"}},
        ]
    )
    assert (found["first"], found["last"]) == ("2026-01-01 03:04 UTC", "2026-01-02 03:04 UTC")
    assert found["commits"] == ["abc"]
    assert found["machines"] == ["A, 2 cores", "B, A, 2 cores"]
    assert found["versions"] == [("torch", "2, 3")]
    assert provenance.of_runs([])["last"] == ""


def test_runs_in_mlflow_are_found(tmp_path: Path, empty_store: Path) -> None:
    store = Tracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert provenance.tracked(store) == {}
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    assert provenance.tracked(store) == {}
    client = client_of(store.uri)
    experiment = client.create_experiment("any")
    kept, gone = (client.create_run(experiment, tags={KEY: key}).info.run_id for key in ("a/b", "c/d"))
    client.delete_run(gone)
    assert provenance.tracked(store) == {"a/b": f"{provenance.LOCAL_PAGES}/#/experiments/{experiment}/runs/{kept}"}
    assert provenance.tracked(store.model_copy(update={"enabled": False})) == {}
