"""DVC around the real DAG: results are versioned, pushed, pulled into a clone and tried with other settings."""

import shutil

import pandas as pd
import pytest
import yaml

from tests.on_world import on_world
from tests.pipeline.commands import ROOT, ok
from tests.warm import snakemake, variables

pytestmark = pytest.mark.slow
IDENTITY = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
WANTED = ("chance", "oracle", "vse0")


@pytest.fixture
def project(tmp_path):
    """The project, under git, with a tiny world and the controls and one trained model of a paper."""
    folder = tmp_path / "versioned"
    for name in ("workflow", "profiles", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("papers", ".dvc/plots"):
        (folder / name).mkdir(parents=True)
    files = ("Snakefile", "dvc.yaml", ".dvc/config", ".dvc/plots/models.json", ".dvcignore", ".gitignore")
    for name in files:
        shutil.copy(ROOT / name, folder / name)
    paper = yaml.safe_load((ROOT / "papers/mfsr.yaml").read_text())
    kept = {name: e for name, e in paper["experiments"].items() if e["model"] in WANTED and e["dataset"] == "flickr30k"}
    assert {e["model"] for e in kept.values()} == {*WANTED}
    paper["experiments"], paper["claims"] = kept, []
    for table in paper["tables"]:
        table["rows"] = [row for row in table["rows"] if row.get("experiment", "oracle") in kept]
    (folder / "papers/mfsr.yaml").write_text(yaml.safe_dump(paper))
    params = on_world()
    params |= {"papers": ["mfsr"], "seeds": [0], "tracking": {"enabled": False}}
    params["datasets"]["world"] |= {"images": 60, "val": 10, "test": 10}
    params["extractors"]["world"] |= {"resize": 64, "crop": 64}
    params["datasets"]["world"]["models"]["vse0"] |= {"epochs": 1, "dim": 16}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    ok(folder, "git", "init", "--quiet")
    return folder


def test_dvc_dvc_versions_the_results(project, tmp_path):
    ok(project, "dvc", "remote", "add", "--default", "beside", str(tmp_path / "remote"))
    ok(project, "dvc", "repro", **variables())
    ok(project, "git", "add", "-A")
    ok(project, "git", "commit", "--quiet", "-m", "results", **IDENTITY)
    assert "600" in ok(project, "dvc", "metrics", "show", "--md")
    assert "index.html" in ok(project, "dvc", "plots", "show", "-o", str(tmp_path / "plots"))
    assert "didn't change" in ok(project, "dvc", "repro", **variables())
    ok(project, "dvc", "push")
    clone = tmp_path / "clone"
    ok(project, "git", "clone", "--quiet", ".", str(clone))
    shutil.copy(project / ".dvc/config", clone / ".dvc")
    ok(clone, "dvc", "pull")
    for file in ("data/world/features/image.world.npy", "results/metrics.parquet"):
        assert (clone / file).read_bytes() == (project / file).read_bytes()
    code, text = snakemake(clone, "all")
    assert code == 0, text
    assert "Nothing to be done" in text
    ok(project, "dvc", "exp", "run", "-S", "seeds=[1]", **IDENTITY, **variables())
    assert set(pd.read_parquet(project / "results/metrics.parquet").seed) == {1}
    assert "world.full.chance.recall_sum" in ok(project, "dvc", "metrics", "diff")
