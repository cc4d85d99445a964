"""The real DAG on a tiny world, as a user runs it."""

import shutil
import sqlite3
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from crossmodal.core.files import read_json
from tests import warm
from tests.on_world import on_world
from tests.pipeline.commands import ROOT, call, snakemake

pytestmark = pytest.mark.slow
# A run that two papers ask for is in the experiment of each, and is counted once.
CHILDREN = """select count(distinct own.value) from tags own join tags up on own.run_uuid = up.run_uuid
    where own.key = 'crossmodal.key' and up.key = 'mlflow.parentRunId'"""
EPOCHS = """select count(*) from (select distinct own.value, epoch.step from metrics epoch
    join tags own on own.run_uuid = epoch.run_uuid where own.key = 'crossmodal.key' and epoch.key = 'val/recall_sum')"""
RUN = "results/runs/world/full/vsepp/seed0"


def retrained(text):
    """Models whose weights a dry run would make again."""
    return {line.split("/")[4] for line in text.splitlines() if "output:" in line and "model.safetensors" in line}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A tiny world and small models after `snakemake quick`; the first step of each command is a new process."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("Snakefile", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("workflow", "profiles", "papers"):
        shutil.copytree(ROOT / name, folder / name)
    params = on_world(papers=["mfsr", "a3vse"])
    params["datasets"]["world"] |= {"images": 120, "val": 20, "test": 20}
    small = {"epochs": 2, "dim": 32, "epoch_steps": 4, "fixed_epochs": 1, "halvings": 0}
    for model in params["datasets"]["world"]["models"].values():
        model |= {key: value for key, value in small.items() if key in model}
        model |= {"min_count": 1} if "epochs" in model else {}
    params["extractors"]["world"] |= {"resize": 64, "crop": 64}
    params["extractors"]["regions"] |= {"resize": 64}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    seen = tmp_path_factory.mktemp("seen")
    code, text = snakemake(folder, "quick", **warm.variables(seen))
    assert code == 0, text
    commands = {path.name for path in seen.iterdir()}
    assert {"prepare", "extract", "split", "train", "evaluate", "collect", "figure", "report", "track"} <= commands
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
    assert (project / "results/quick/.checked").exists()
    claims = pd.read_parquet(project / "results/quick/claims.parquet")
    assert set(claims.paper) == {"mfsr", "a3vse"}
    assert set(claims.verdict) == {"undecided", "not run"}  # of one seed, and of rows that are not part of quick
    assert (project / "results/quick/tables/claims.md").stat().st_size > 500
    efficiency = pd.read_csv(project / "results/quick/annotation_efficiency.csv")
    assert {"recall@1", "recall@5", "recall@10"} == set(efficiency.metric)
    page = (project / "results/quick/report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert 'id="claims"' in page
    assert "<svg" in page
    assert 'src="http' not in page


def test_mlflow_holds_every_run(project):
    assert "failed" not in read_json(project / "results/quick/tracking.json")
    with sqlite3.connect(project / "mlflow.db") as store:
        (children,) = store.execute(CHILDREN).fetchone()
        (epochs,) = store.execute(EPOCHS).fetchone()
    assert (children, epochs) == (8, 10)


def test_second_run_does_nothing(project):
    code, text = warm.snakemake(project, "quick")
    assert code == 0
    assert "Nothing to be done" in text


def test_smallest_sub_dag(project):
    code, text = warm.snakemake(
        project, "-n", "results/runs/world/20pct-1cap/vsepp/seed7/instance_retrieval/metrics.json"
    )
    assert code == 0, text
    assert text.count("rule split:") == 1
    assert text.count("rule train:") == 1
    assert "rule extract:" not in text
    code, text = warm.snakemake(project, "-n", "results/runs/world/full/vsep/seed0/instance_retrieval/metrics.json")
    assert code != 0
    assert "did you mean 'vsepp'" in text


def test_changed_settings_retrain_that_model_only(project):
    changed = ["--config", "datasets={world: {models: {vse0: {margin: 0.3}}}}"]
    code, text = warm.snakemake(project, "-n", "quick", *changed)
    assert code == 0, text
    assert retrained(text) == {"vse0"}


def test_changed_source_retrains_that_model_only(project, tmp_path):
    shutil.copytree(ROOT / "src/crossmodal", tmp_path / "crossmodal")
    source = tmp_path / "crossmodal/models/vse0.py"
    sound = source.read_text()
    source.write_text(f"# Another comment.\n{sound}")
    code, text = snakemake(project, "-n", "quick", PYTHONPATH=str(tmp_path))
    assert code == 0, text
    assert retrained(text) == set()
    source.write_text(sound.replace("ge=1, le=1", "ge=1.0, le=1.0"))
    assert source.read_text() != sound
    code, text = snakemake(project, "-n", "quick", PYTHONPATH=str(tmp_path))
    assert code == 0, text
    assert retrained(text) == {"vse0"}


def test_a_changed_figure_is_drawn_again_and_nothing_trained(project, tmp_path):
    shutil.copytree(ROOT / "src/crossmodal", tmp_path / "crossmodal")
    source = tmp_path / "crossmodal/reporting/figures/annotation.py"
    source.write_text(source.read_text().replace("linewidth=2", "linewidth=3"))
    code, text = snakemake(project, "-n", "quick", PYTHONPATH=str(tmp_path))
    assert code == 0, text
    assert retrained(text) == set()
    drawn = {line.split("figures/")[1] for line in text.splitlines() if "output: results/quick/figures/" in line}
    assert drawn == {"annotation.svg", "crossovers.svg"}  # which are drawn by the same code
    rules = {line.removeprefix("rule ").rstrip(":") for line in text.splitlines() if line.startswith("rule ")}
    assert rules == {"figure", "render_report", "check", "quick"}


def test_unknown_key_stops_before_the_dag(project):
    code, text = warm.snakemake(project, "-n", "quick", "--config", "sede=1")
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
        (children,) = store.execute(CHILDREN).fetchone()
    assert children == 8


def _with(project, name, change):
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / name).write_text(yaml.safe_dump(params | change))
    return project


def test_a_missing_file_is_named_with_its_key(project):
    """In what Snakemake prints, as the default profile asks, not in a step's log alone."""
    code, text = warm.snakemake(project, "data/flickr30k/items.parquet", "--config", "scale=full")
    assert code == 1
    wanted = "dataset_flickr30k.json: not found; set datasets.flickr30k.annotations in params.yaml"
    assert wanted in text
    assert not (project / "data/flickr30k/items.parquet").exists()


def test_slurm_profile_plans(project):
    code, text = warm.snakemake(project, "-n", "all", "--workflow-profile", "profiles/slurm")
    assert code == 0, text
    assert "rule train:" in text


def test_shards_over_jobs_give_the_same_bits(project):
    """After the others: what was ranked in shards is ranked again when they are gone."""
    before = [
        (project / RUN / "instance_retrieval" / name).read_bytes() for name in ("metrics.json", "examples.parquet")
    ]
    words = ("--config", 'evaluation={"shards": 3}', "--forcerun", "encode", "--rerun-triggers", "mtime")
    code, text = snakemake(project, f"{RUN}/instance_retrieval/metrics.json", *words)
    assert code == 0, text
    assert text.count("rule rank_shard:") == 3
    assert [
        (project / RUN / "instance_retrieval" / name).read_bytes() for name in ("metrics.json", "examples.parquet")
    ] == before
    assert not (project / RUN / "encoded").exists()


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small disk at a folder; skips where that is not permitted."""
    mounted = []

    def mount(folder, options):
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no disk can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("options", "told"), [("size=400k", "no space is left on the disk"), ("ro", "the file system is read-only")]
)
def test_a_disk_that_cannot_be_written_is_one_clear_error(project, disk, options, told):
    runs = disk(project / "full/runs", options)
    folder = runs / "world/full/vsepp/seed0"
    with_paths = _with(project, "full.yaml", {"paths": {"results": "full"}})
    step = (sys.executable, "-m", "crossmodal", "--params", "full.yaml", "train", "world/full/vsepp/seed0")
    code, text = call(with_paths, *step)
    assert code == 2, text
    (error,) = [line for line in text.splitlines() if line.startswith("error:")]
    assert str(runs.relative_to(project)) in error
    assert told in error
    assert "Traceback" not in text
    assert not (folder / "manifest.json").exists()
    assert not (folder / "model.safetensors").exists() or (folder / "model.safetensors").stat().st_size > 0
    assert not list(runs.rglob("*.part"))
    assert (project / RUN / "model.safetensors").exists()
