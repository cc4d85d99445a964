"""What a change of one module makes again: the identities that rules have as `params`, of the plan of all papers."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from crossmodal.core import registry
from crossmodal.dag import Dag
from crossmodal.tasks import base
from tests.prepared import watched_sources

ROOT = Path(__file__).parents[2]
CACHES = [getattr(registry, name) for name in ("names", "source_hash", "_declared", "_source", "_file", "form")]
REPORTING = {
    "collect": ("results.collect",),
    "tables": ("tables.writers",),
    "claims": ("results.claims", "tables.verdicts"),
    "page": ("page.report",),
    "check": ("results.quality_control",),
}


@pytest.fixture
def identities(tmp_path, monkeypatch):
    """A function that gives {rule and what it is of: identity}, as if the modules `changed` were other ones."""
    (tmp_path / "papers").symlink_to(ROOT / "papers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = yaml.safe_load((ROOT / "params.yaml").read_text())
    source = registry._source

    def found(*changed: str) -> dict[str, str]:
        for cached in CACHES:
            cached.cache_clear()

        def altered(path: str):
            digest, imported = source(path)
            return digest + "x" * (path in changed), imported

        with monkeypatch.context() as patch:
            patch.setattr(registry, "_source", altered)
            dag = Dag(dict(config), look=False)
            made = {}
            for key, job in dag.plan.jobs.items():
                parts = dict(
                    zip(("dataset", "split", "name", "seed"), key.replace("/seed", "/").split("/"), strict=True)
                )
                if not job.control:
                    made[f"train {job.model} {key}"] = dag.train_identity(SimpleNamespace(**parts))
                for task in job.tasks:
                    made[f"evaluate {task} {key}"] = dag.task_identity(SimpleNamespace(**parts, task=task))
            made |= {f"figure {name}": one["identity"] for name, one in dag.figures[""].items()}
            made |= {name: dag.reporting_identity(*modules) for name, modules in REPORTING.items()}
        for cached in CACHES:
            cached.cache_clear()
        return made

    return found


def kinds(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {key.rpartition(" ")[0] or key for key in before if before[key] != after[key]}


def test_what_a_changed_module_makes_again(identities, monkeypatch):
    before = identities()
    assert before == identities()
    bootstrap = kinds(before, identities("crossmodal.evaluation.statistics"))
    assert {"collect", "claims"} <= bootstrap
    assert not any(kind.startswith(("train", "evaluate")) for kind in bootstrap)
    drawing = kinds(before, identities("crossmodal.reporting.figures.embeddings"))
    assert "figure" in drawing
    assert drawing <= {"figure", "page"}
    assert {key for key, value in identities("crossmodal.reporting.tables.latex").items() if value != before[key]} == {
        "tables",
        "claims",
        "page",
    }
    triplets = kinds(before, identities("crossmodal.models.parts.triplets"))
    trained = {kind.removeprefix("train ") for kind in triplets if kind.startswith("train ")}
    assert {"cvs", "mcvs", "rvs"} <= trained
    assert not {"vsepp", "scan", "cca", "a3vse"} & trained
    asked = kinds(before, identities("crossmodal.tasks.reconstruction"))
    assert "evaluate reconstruction" in asked
    assert not any(kind.startswith("train") or kind == "evaluate instance_retrieval" for kind in asked)
    chosen = kinds(before, identities("crossmodal.tasks.ranked.selection"))
    assert {"train vsepp", "train cvs"} <= chosen
    assert not any(kind.startswith("evaluate") for kind in chosen)


def test_a_label_is_printed_again_and_nothing_is_trained(identities, monkeypatch):
    from dataclasses import replace

    before = identities()
    task = base.tasks()["instance_retrieval"]
    first, *others = task.metrics
    monkeypatch.setattr(type(task), "metrics", (replace(first, label="Total"), *others))
    assert kinds(before, identities()) == set(REPORTING)


def test_training_depends_on_no_statistics_and_no_report(monkeypatch):
    seen = watched_sources(monkeypatch)
    for model in registry.names("models"):
        for relevance in ("group", "label"):
            task = base.chooser_of(model, relevance)
            registry.source_hash.__wrapped__("models", model, (task.selection,) if task else ())
    unwanted = (
        "evaluation.statistics",
        "evaluation.bounds",
        "evaluation.efficiency",
        "reporting",
        "tasks.ranked.protocols",
    )
    assert not {path for path in seen if path.startswith(tuple(f"crossmodal.{name}" for name in unwanted))}


def replaced(config: dict, path: str, value: object) -> dict:
    """A copy of the parameters with another value at `path`, whose keys are separated by dots."""
    config = copy.deepcopy(config)
    inside = config
    *keys, last = path.split(".")
    for key in keys:
        inside = inside.setdefault(key, {})
    inside[last] = value
    return config


PARAMETERS = {
    ("splits.seed", 7): {"split world", "split cub"},
    ("datasets.cub.stages", (50, 50, 50)): {"split cub", "train cub"},
    ("datasets.world.seed", 7): {"items world"},
    ("datasets.world.folds", (1, 2)): {"evaluate world"},
    ("datasets.world.title", "Another"): {"items world"},  # it stands in `items.json`
    ("datasets.world.models.vsepp.lr", 0.5): {"train world"},
    ("extractors.world.resize", 144): {"features world"},
    ("threads.train", 2): {"train world", "train cub"},
    ("evaluation.shards", 2): set(),
}


def test_what_a_changed_parameter_makes_again(tmp_path, monkeypatch):
    """Of subsets, items, features, a run of captions and one of classes that come in stages."""
    (tmp_path / "papers").symlink_to(ROOT / "papers")
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"scale": "full", "papers": ["mfsr", "cvs"]}
    config["scales"]["full"] = {"stand_ins": {"coco": "world", "flickr30k": "world"}}
    config["models"]["mfsr"] = {"word_embedding": "seeded"}
    config["extractors"]["skipthoughts"]["vectors"] = "seeded"

    def found(given: dict) -> dict[str, str]:
        monkeypatch.setenv("CROSSMODAL_PARAMS", "")  # else the parameters that were handed on before are taken
        dag = Dag(given, look=False)
        captions = SimpleNamespace(dataset="world", split="full", name="vsepp", seed="0", task="instance_retrieval")
        stage = next(job for job in dag.plan.jobs.values() if job.dataset == "cub" and job.split == "classes1of4")
        classes = SimpleNamespace(dataset="cub", split="classes1of4", name=stage.name, seed="0")
        features = SimpleNamespace(dataset="world", modality="image", extractor="world")
        return {
            "split world": dag.split_identity(captions),
            "split cub": dag.split_identity(classes),
            "items world": dag.dataset_identity(captions),
            "features world": dag.extractor_identity(features),
            "train world": dag.train_identity(captions),
            "train cub": dag.train_identity(classes),
            "evaluate world": dag.task_identity(captions),
        }

    before = found(config)
    for (path, value), changed in PARAMETERS.items():
        after = found(replaced(config, path, list(value) if isinstance(value, tuple) else value))
        assert {name for name in before if before[name] != after[name]} == changed, path


def test_drawing_takes_all_cores_and_extraction_from_what_is_drawn_one(tmp_path, monkeypatch):
    """Of photographs it is the other way round: reading their list is quick, and extraction takes hours."""
    (tmp_path / "papers").symlink_to(ROOT / "papers")
    monkeypatch.chdir(tmp_path)
    dag = Dag(yaml.safe_load((ROOT / "params.yaml").read_text()), look=False)
    drawn, photographs = SimpleNamespace(dataset="scenes"), SimpleNamespace(dataset="flickr30k")
    assert [dag.items_threads(drawn), dag.features_threads(drawn)] == [64, 1]
    assert [dag.items_threads(photographs), dag.features_threads(photographs)] == [1, 64]
