"""The real DAG on a tiny world, as a user runs it."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from crossmodal.files import read_json

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
RUN = "results/runs/world/full/vsepp/seed0"


def snakemake(folder, *words):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    environment.pop("CROSSMODAL_PARAMS", None)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project with a tiny world and small models, after `snakemake quick`."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("Snakefile", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("workflow", "papers"):
        shutil.copytree(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["datasets"]["world"] |= {"images": 120, "val": 20, "test": 20}
    for model in params["scales"]["embedded"]["models"].values():
        model |= {"epochs": 2, "dim": 32, "min_count": 1}
    params["extractors"]["world"] |= {"resize": 64, "crop": 64}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    code, text = snakemake(folder, "quick")
    assert code == 0, text
    return folder


def test_everything_that_is_promised_is_there(project):
    metrics = pd.read_parquet(project / "results/quick/metrics.parquet")
    for control, expected in (("oracle", 600.0), ("chance", 100 * 2 * (0.05 + 0.25 + 0.5))):
        value = metrics[(metrics.model == control) & (metrics.metric == "recall_sum")].value.iloc[0]
        assert value == pytest.approx(expected, abs=0 if control == "oracle" else 60)
    comparison = pd.read_parquet(project / "results/quick/comparison.parquet")
    done = comparison[(comparison.status == "done") & comparison.published.notna()]
    assert len(done) >= 18
    assert comparison.status.str.match("done|published only|missing: .+").all()
    for kind in ("csv", "md", "tex", "html"):
        assert (project / f"results/quick/tables/mfsr-table1.{kind}").stat().st_size > 500
    page = (project / "results/quick/report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "<svg" in page
    assert 'src="http' not in page


def test_mlflow_holds_every_run(project):
    assert "failed" not in read_json(project / "results/quick/tracking.json")
    with sqlite3.connect(project / "mlflow.db") as store:
        (children,) = store.execute("select count(*) from tags where key = 'mlflow.parentRunId'").fetchone()
        (epochs,) = store.execute("select count(*) from metrics where key = 'val.recall_sum'").fetchone()
    assert (children, epochs) == (5, 6)


def test_second_run_does_nothing(project):
    code, text = snakemake(project, "quick")
    assert code == 0
    assert "Nothing to be done" in text


def test_smallest_sub_dag(project):
    code, text = snakemake(project, "-n", "results/runs/world/20pct-1cap/vsepp/seed7/metrics.json")
    assert code == 0, text
    assert text.count("rule split:") == 1
    assert text.count("rule train:") == 1
    assert "rule extract:" not in text
    code, text = snakemake(project, "-n", "results/runs/world/full/vsep/seed0/metrics.json")
    assert code != 0
    assert "did you mean 'vsepp'" in text


def test_changed_settings_retrain_that_model_only(project):
    changed = ["--config", "scales={embedded: {models: {vse0: {margin: 0.3}}}}"]
    code, text = snakemake(project, "-n", "quick", *changed)
    assert code == 0, text
    names = {line.split("/")[4] for line in text.splitlines() if "output:" in line and "model.safetensors" in line}
    assert names == {"vse0"}


def test_unknown_key_stops_before_the_dag(project):
    code, text = snakemake(project, "-n", "quick", "--config", "sede=1")
    assert code != 0
    assert "sede: unknown key" in text


def test_corrupted_features_are_not_trained_on(project):
    array = project / "data/world/features/image.world.npy"
    sound = array.read_bytes()
    array.write_bytes(sound[:-8])
    try:
        command = [sys.executable, "-m", "crossmodal", "train", "world/full/vsepp/seed0"]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "image.world.npy" in done.stderr
        assert (project / RUN / "model.safetensors").exists()
    finally:
        array.write_bytes(sound)


def test_tracking_that_is_down_fails_nothing_and_is_rebuilt(project):
    down = subprocess.run(
        [sys.executable, "-m", "crossmodal", "--params", "down.yaml", "track", "--quick"],
        cwd=_with(project, "down.yaml", {"tracking": {"uri": "sqlite:////dev/null/mlflow.db"}}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert down.returncode == 0, down.stderr
    assert "failed" in read_json(project / "results/quick/tracking.json")
    again = subprocess.run(
        [sys.executable, "-m", "crossmodal", "--params", "new.yaml", "track", "--quick", "--rebuild"],
        cwd=_with(project, "new.yaml", {"tracking": {"uri": "sqlite:///fresh.db"}}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    with sqlite3.connect(project / "fresh.db") as store:
        (children,) = store.execute("select count(*) from tags where key = 'mlflow.parentRunId'").fetchone()
    assert children == 5


def _with(project, name, change):
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / name).write_text(yaml.safe_dump(params | change))
    return project


def test_slurm_profile_plans(project):
    code, text = snakemake(project, "-n", "all", "--workflow-profile", "workflow/profiles/slurm")
    assert code == 0, text
    assert "rule train:" in text
