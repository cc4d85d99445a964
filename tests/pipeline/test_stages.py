"""Stages as steps of the real DAG: each is trained once, shared by all that begins with it, and nothing older again."""

import shutil

import pandas as pd
import pytest
import yaml

from crossmodal.core.files import read_json
from tests.pipeline.commands import ROOT
from tests.warm import snakemake

pytestmark = pytest.mark.slow
RUNS = "results/runs/media_world/full"
WORLD = {"images": 60, "audio": 60, "videos": 60, "meshes": 60, "shortest": 0.2, "longest": 0.3, "val": 0.2}
TOY = {
    "title": "t",
    "authors": "a",
    "venue": "v",
    "year": 2000,
    "doi": "d",
    "tables": [],
    "experiments": {
        "two": {"model": "cvs", "dataset": "xmedia", "variant": "image+text"},
        "audio": {
            "model": "mcvs",
            "dataset": "xmedia",
            "variant": "image+text+audio",
            "settings": {"modalities": ["image", "text", "audio"]},
            "after": "two",
        },
        "swept": {"model": "cvs", "dataset": "xmedia", "variant": "swept", "sweep": {"lr": [1e-5, 1e-3]}},
    },
}


def trained(text):
    """Names of the runs whose weights a run of Snakemake makes."""
    return {line.split("/")[4] for line in text.splitlines() if "output:" in line and "model.safetensors" in line}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A tiny five-modality world with a run of images and texts."""
    folder = tmp_path_factory.mktemp("stages")
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("workflow", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "papers").mkdir()
    (folder / "papers" / "toy.yaml").write_text(yaml.safe_dump(TOY))
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"papers": ["toy"], "seeds": [0]}
    params["tracking"]["enabled"] = False
    params["datasets"]["media_world"] |= WORLD
    params["extractors"]["world"] |= {"resize": 64, "crop": 64}
    for model in ("cvs", "mcvs"):
        params["datasets"]["media_world"]["models"][model] = {"dim": 16, "epochs": 2, "batch_size": 32}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    code, text = snakemake(folder, f"{RUNS}/cvs.image+text/seed0/category_retrieval/metrics.json")
    assert code == 0, text
    assert trained(text) == {"cvs.image+text"}
    return folder


def test_a_new_modality_trains_its_own_stage_alone(project):
    target = f"{RUNS}/mcvs.image+text+audio/seed0/category_retrieval/metrics.json"
    code, text = snakemake(project, target)
    assert code == 0, text
    assert trained(text) == {"mcvs.image+text+audio"}
    values = [
        {(n["aspect"], n["metric"]): n["value"] for n in read_json(project / RUNS / name)["numbers"]}
        for name in (
            "cvs.image+text/seed0/category_retrieval/metrics.json",
            "mcvs.image+text+audio/seed0/category_retrieval/metrics.json",
        )
    ]
    shared = [key for key in values[0] if key[0] in ("image-to-text", "text-to-image")]
    assert all(values[0][key] == values[1][key] for key in shared)
    assert len({aspect for aspect, _ in values[1]} - {"average"}) == 6
    history = pd.read_parquet(project / RUNS / "mcvs.image+text+audio/seed0/history.parquet")
    assert list(history.stage) == ["audio", "audio"]
    code, text = snakemake(project, "-n", target)
    assert "Nothing to be done" in text


def test_a_changed_first_stage_trains_what_begins_with_it(project):
    changed = ["--config", "datasets={media_world: {models: {cvs: {lr: 0.002}}}}"]
    code, text = snakemake(
        project, "-n", f"{RUNS}/mcvs.image+text+audio/seed0/category_retrieval/metrics.json", *changed
    )
    assert code == 0, text
    assert trained(text) == {"cvs.image+text", "mcvs.image+text+audio"}


def test_classes_of_a_stage_are_a_split(project):
    code, text = snakemake(project, "data/media_world/splits/classes2of4.parquet")
    assert code == 0, text
    frame = pd.read_parquet(project / "data/media_world/splits/classes2of4.parquet")
    assert frame.label.nunique() == 5


def test_a_sweep_is_made_before_its_run_and_once(project):
    """The choice is part of the DAG: candidates, then the choice, then the run with the chosen settings."""
    sweep, metrics = (
        f"{RUNS}/cvs.swept/sweep",
        f"{RUNS}/cvs.swept/seed0/category_retrieval/metrics.json",
    )
    code, text = snakemake(project, metrics)
    assert code == 0, text
    tried = {name: read_json(project / sweep / "tried" / f"{name}.json")["value"] for name in ("lr1e-5", "lr1e-3")}
    choice = read_json(project / sweep / "choice.json")
    assert choice["settings"] == {"lr": 1e-5 if tried["lr1e-5"] >= tried["lr1e-3"] else 1e-3}
    config = yaml.safe_load((project / RUNS / "cvs.swept/seed0/config.yaml").read_text())
    assert config["settings"]["lr"] == choice["settings"]["lr"]
    assert not (project / RUNS / "cvs.swept+lr1e-5").exists()
    code, text = snakemake(project, metrics)
    assert code == 0
    assert "Nothing to be done" in text  # the plan knows the choice now, and nothing changes by that
