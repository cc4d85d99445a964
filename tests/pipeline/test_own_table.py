"""One's own hundred pictures and a table of their captions, from `crossmodal prepare` to a row of a table.

The overlay is examples/csv.yaml, with fewer seeds and epochs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from crossmodal import experiments
from crossmodal.cli import app
from crossmodal.core.files import read_json
from crossmodal.datasets import items
from crossmodal.experiments.tables import DIRECTIONS
from tests.pipeline.commands import ROOT

pytestmark = pytest.mark.slow
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230), "yellow": (230, 220, 40)}
PLACES = {
    "on the left": (4, 24),
    "on the right": (36, 24),
    "at the top": (20, 4),
    "at the bottom": (20, 36),
    "in the middle": (20, 20),
}
MODELS = {"vsepp": "VSE++", "contrastive": "InfoNCE"}
KINDS = ("dark", "light")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder as a user's: papers/, raw/mine with a hundred pictures and their table in each format, params.yaml."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "papers").mkdir()
    shutil.copy(ROOT / "papers" / "csv.yaml", folder / "papers")
    images = folder / "raw" / "mine" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(100):
        colour, place = list(COLOURS)[number % 4], list(PLACES)[number // 4 % 5]
        shade = KINDS[number // 20 % 2]
        picture = np.full((64, 64, 3), 40 if shade == "dark" else 240, np.uint8) + rng.integers(
            0, 9, (64, 64, 1), np.uint8
        )
        x, y = PLACES[place]
        picture[y : y + 24, x : x + 24] = COLOURS[colour]
        name = f"{number:03}.png"
        Image.fromarray(picture).save(images / name)
        (folder / "raw" / "classes" / shade).mkdir(parents=True, exist_ok=True)
        shutil.copy(images / name, folder / "raw" / "classes" / shade / name)
        rows.append({"file": name, "sentence": f"a {colour} box {place}, on a {shade} wall", "kind": shade})
    frame = pd.DataFrame(rows)
    raw = folder / "raw" / "mine"
    frame.to_csv(raw / "captions.csv", index=False)  # the sentences have commas, and so stand in quotes
    frame.to_csv(raw / "captions.tsv", index=False, sep="\t")
    frame.to_json(raw / "captions.jsonl", orient="records", lines=True)
    frame.to_parquet(raw / "captions.parquet", index=False)
    overlay = experiments.read_yaml(ROOT / "examples" / "csv.yaml")
    params = experiments.merge(experiments.read_yaml(ROOT / "params.yaml"), overlay)
    mine = params["datasets"]["mine"]
    for settings in mine["models"].values():
        settings |= {"dim": 16, "word_dim": 16, "epochs": 2}
    params["seeds"] = [0]
    for kind in ("tsv", "jsonl", "parquet"):
        params["datasets"][f"mine_{kind}"] = mine | {"annotations": f"raw/mine/captions.{kind}"}
    params["datasets"]["classes"] = {"reader": "folders", "title": "Classes", "root": "raw/classes"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


@pytest.fixture
def crossmodal(project, monkeypatch):
    """A function that runs a command of `crossmodal` in the project and returns what it prints."""
    monkeypatch.chdir(project)
    monkeypatch.delenv("CROSSMODAL_PARAMS", raising=False)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_a_table_is_read_alike_in_every_format(crossmodal, project):
    frames = {}
    for name in ("mine", "mine_tsv", "mine_jsonl", "mine_parquet"):
        crossmodal("prepare", name)
        frames[name] = items.read(project / "data" / name)
    frame = frames["mine"]
    assert frame.modality.value_counts().to_dict() == {"image": 100, "text": 100}
    assert frame[frame.modality == "image"].partition.value_counts().to_dict() == {"train": 80, "val": 10, "test": 10}
    texts = frame[frame.modality == "text"].set_index("group_id").source
    assert texts["037"] == "a green box in the middle, on a light wall"  # 37 = 1 + 4 * 9, 9 = 4 + 5, 37 // 20 = 1
    for name, other in frames.items():
        pd.testing.assert_frame_equal(other, frame, obj=name)


def test_a_folder_per_class_is_read(crossmodal, project):
    crossmodal("prepare", "classes")
    frame = items.read(project / "data" / "classes")
    images = frame[frame.modality == "image"]
    assert images.label.value_counts().to_dict() == {"dark": 60, "light": 40}
    assert images.groupby("label").partition.value_counts().to_dict() == {
        ("dark", "train"): 48, ("dark", "val"): 6, ("dark", "test"): 6,
        ("light", "train"): 32, ("light", "val"): 4, ("light", "test"): 4,
    }  # fmt: skip
    assert set(frame[frame.modality == "text"].source) == {"a photograph of a dark.", "a photograph of a light."}


def test_from_a_csv_to_a_row_of_a_table(crossmodal, project):
    for words in (
        ["prepare", "mine"],
        ["tokenize", "mine"],
        ["split", "mine", "full"],
        ["extract", "mine", "world"],
        *([step, f"mine/full/{model}/seed0"] for model in MODELS for step in ("train", "evaluate")),
        ["collect"],
        ["tables"],
    ):
        crossmodal(*words)
    assert read_json(project / "data/mine/features/image.world.json")["shape"][0] == 100
    table = pd.read_parquet(project / "results/csv/comparison.parquet").set_index(["system", "aspect"])
    assert set(table.index) == {(system, aspect) for system in MODELS.values() for aspect in DIRECTIONS}
    assert set(table.status) == {"done"}
    runs = project / "results/csv/runs/mine/full"
    for model, system in MODELS.items():
        for aspect in DIRECTIONS:
            examples = pd.read_parquet(runs / model / "seed0/instance_retrieval/examples.parquet")
            hits = examples[examples.aspect == aspect]["rank"] <= 1
            assert len(hits) == 10
            assert table.ours_mean[system, aspect] == pytest.approx(100 * hits.mean())
    shown = crossmodal("table", "csv-table1")
    assert all(system in shown for system in MODELS.values())


def test_the_example_is_short():
    """From a clone to one's own table in twenty lines of YAML, the paper's file included."""
    texts = [(ROOT / name).read_text() for name in ("examples/csv.yaml", "papers/csv.yaml")]
    lines = [line for text in texts for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 20
