"""Birds at `scale: full`, from the raw folder to numbers: every system of the chapter, and the thesis' stages."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from crossmodal import experiments
from crossmodal.cli import base, steps
from crossmodal.core.files import read_json
from tests.datasets.test_cub import CLASSES, lay

ROOT = Path(__file__).parents[2]
ZERO_SHOT = ("devise", "devise.words", "conse", "conse.words", "socher", "socher.no-gate")
TRANSFER = ("chtn", "chtn.alone", "dckt", "dckt.alone", "dckt.at-once")
NETWORK = {"extractor": "image", "network": "shufflenet_v2_x0_5", "weights": "seeded", "resize": 40, "crop": 32}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """params.yaml as it is shipped at `scale: full`, but for where the raw files lie and what reads them offline."""
    folder = tmp_path_factory.mktemp("full")
    raw = lay(folder / "raw" / "cub")
    rng = np.random.default_rng(0)
    for path in sorted(raw.root.glob("images/*/*.jpg")):
        colour = 60 * CLASSES.index(path.parent.name)
        pixels = np.clip(rng.normal(colour, 20, (40, 48, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    words = [word for name in CLASSES for word in name[4:].lower().split("_")]
    for text in ("a bird has this is and bill shape black wing color red forked tail", "hooked seabird"):
        words += text.split()
    (folder / "raw" / "glove").mkdir()
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=300))}\n" for word in dict.fromkeys(words)]
    (folder / "raw" / "glove" / "glove.6B.300d.txt").write_text("".join(lines))
    shutil.copytree(ROOT / "papers", folder / "papers")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    where = {
        "root": str(raw.root),
        "captions": str(raw.captions),
        "unseen": [CLASSES[1]],
        "val": 0.25,
        "stages": [2, 1],
    }
    for name in ("cub", "cub_held"):
        params["datasets"][name] |= where
    # Knowledge comes from the same small set: the layout of the five-modality one has a test of its own.
    params["datasets"]["xmedianet"] = {**params["datasets"]["cub_held"], "title": "Source"}
    params["extractors"]["resnet152"] = NETWORK
    params["extractors"]["skipthoughts"] |= {"vectors": "seeded", "dim": 16}
    params["extractors"]["bow"] |= {"max_features": 16}
    for model in ("chtn", "dckt", "cvs"):  # as published but for their sizes
        params["models"][model] = {"dim": 16, "epochs": 3}
    params |= {"scale": "full", "papers": ["chapter9", "cvs"], "seeds": [0]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(base._state, "params", [str(folder / "params.yaml")])
        patch.setitem(base._state, "config", [])
        for name in ("cub", "cub_held", "xmedianet"):
            steps.prepare(name)
            steps.split(name, "full")
            plan = experiments.plan(experiments.load("params.yaml"))
            for modality, extractor in plan.extractors_of(name):
                if extractor in ("resnet152", "skipthoughts", "bow"):
                    steps.extract(name, extractor, modality)
        yield folder


def measured(key: str) -> dict[str, set[str]]:
    """Directions of each protocol, and numbers that are per cents."""
    steps.train(key)
    steps.evaluate(key, "category_retrieval", "all")
    found: dict[str, set[str]] = {}
    for row in read_json(Path("results/runs") / key / "category_retrieval" / "metrics.json")["numbers"]:
        found.setdefault(row["protocol"], set()).add(row["aspect"])
        if row["metric"].startswith(("recall", "map")):
            assert 0 <= row["value"] <= 100
    return found


def measured_under_all_protocols(system: str) -> tuple[str, dict[str, set[str]]]:
    """The key of a run that the papers ask for, and what `measured` gives of it."""
    key = f"cub_held/full/{system}/seed0"
    assert key in experiments.plan(experiments.load("params.yaml")).jobs
    found = measured(key)
    assert set(found) == {"all", "seen", "unseen"}
    return key, found


@pytest.mark.parametrize("system", ZERO_SHOT)
def test_zero_shot_systems_are_tested_under_all_protocols(project, system):
    key, found = measured_under_all_protocols(system)
    assert all({"image-to-class", "class-to-image"} <= directions for directions in found.values())
    rows = read_json(Path("results/runs") / key / "category_retrieval" / "metrics.json")["numbers"]
    sizes = {r["protocol"]: (r["n_queries"], r["n_gallery"]) for r in rows if r["aspect"] == "image-to-class"}
    assert sizes == {"all": (12, 4), "seen": (6, 3), "unseen": (6, 1)}


@pytest.mark.parametrize("system", TRANSFER)
def test_systems_that_transfer_are_tested_under_all_protocols(project, system):
    measured_under_all_protocols(system)


@pytest.mark.parametrize("system", ["devise", "conse", "socher"])
def test_without_seen_test_images_the_unseen_classes_alone_are_told(project, system):
    """All images of the other classes are trained on (`seen_images: train`): nothing asks for those classes."""
    found = measured(f"cub/full/{system}/seed0")
    assert set(found) == {"all", "unseen"}
    rows = read_json(Path(f"results/runs/cub/full/{system}/seed0/category_retrieval/metrics.json"))["numbers"]
    sizes = {r["protocol"]: (r["n_queries"], r["n_gallery"]) for r in rows if r["aspect"] == "image-to-class"}
    assert sizes == {"all": (6, 1), "unseen": (6, 1)}


def test_columns_of_the_chapters_tables_ask_for_protocols_that_are_measured(project):
    paper = experiments.read_papers(["chapter9"], ROOT / "papers")["chapter9"]
    for table in paper.tables:
        for row in table.rows:
            for name in experiments.named_experiments(row):
                assert paper.experiments[name].dataset == (row.dataset or table.dataset), name
        if {column.protocol for column in table.columns} & {"seen", "unseen"}:
            settings = experiments.load(ROOT / "params.yaml").datasets[table.dataset].settings
            assert settings["seen_images"] == "split"


@pytest.mark.parametrize("name", ["cub", "cub_held"])
def test_stages_of_classes_are_tested_on_those_of_the_first(project, name):
    """Two stages of two classes and one; the first one's classes have test images where some were held out."""
    sizes = []
    for number in (1, 2):
        steps.split(name, f"classes{number}of2")
        key = f"{name}/classes{number}of2/cvs/seed0"
        found = measured(key)
        manifest = read_json(Path("results/runs") / key / "manifest.json")
        sizes.append(len(manifest["context"]["trained"]))
        assert set(found) == ({"all", "unseen"} if name == "cub" else {"all", "seen", "unseen", "first"})
    assert sizes == [2, 1]
