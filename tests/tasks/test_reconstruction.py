import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core.files import read_json
from crossmodal.experiments import Job
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job
from crossmodal.tasks.base import tasks

SETTINGS = {"dim": 24, "word_dim": 8, "layers": 1, "epochs": 2, "batch_size": 16, "min_count": 1, "lr": 0.003}
SETTINGS |= {"image_size": 8, "channels": 4}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Checkpoints go to the working folder."""
    monkeypatch.chdir(tmp_path)


def ran(prepared, folder, **over):
    made = Job(
        dataset="toy",
        split="full",
        model="mfsr",
        seed=0,
        inputs={"image": "raw"},
        second_inputs={"image": "pixels"},
        settings={**SETTINGS, **over},
    )
    train_job(made, folder, prepared)
    evaluate(made, folder, prepared, "embedded")
    return made


def numbers_of(run):
    rows = read_json(run / "reconstruction" / "metrics.json")["numbers"]
    return {row["metric"]: row["value"] for row in rows}


def test_a_run_tells_what_it_does_inside(prepared, tmp_path):
    """Trained with two optimisers that take turns, on pixels beside vectors."""
    ran(prepared, tmp_path / "run")
    told = read_json(tmp_path / "run" / "reconstruction" / "shown.json")
    numbers = numbers_of(tmp_path / "run")
    parts = ("modal", "semantic", "specific")
    expected = {f"{m}_{kind}" for m in ("image", "text") for kind in ("cosine", "abs_cosine")}
    expected |= {f"{part}_silhouette" for part in parts} | {"picture_rank", "words_right"}
    assert set(numbers) == expected
    assert 1 <= numbers["picture_rank"] <= 12
    assert 0 <= numbers["words_right"] <= 100
    assert len(told["captions"]) == 12
    examples = pd.read_parquet(tmp_path / "run" / "reconstruction" / "examples.parquet")
    metrics = {name: tasks()["reconstruction"].metric(name) for name in numbers}
    again = {name: metric.value(examples) for name, metric in metrics.items() if metric.columns}
    assert set(numbers) - set(again) == {f"{part}_silhouette" for part in parts}  # of the parts, not of pairs
    assert again == pytest.approx({name: numbers[name] for name in again})
    with np.load(tmp_path / "run" / "reconstruction" / "shown.npz") as file:
        pixels = np.load(prepared / "toy" / "features" / "image.pixels.npy")
        np.testing.assert_array_equal(file["pictures"], pixels[48:])  # of the test images, in their order
        assert file["pictures_made"].shape == (12, 3, 8, 8)
        assert file["modal_plane"].shape == (24, 2)
        assert np.abs(file["image_cosines"]).mean() == pytest.approx(numbers["image_abs_cosine"])
    history = read_json(tmp_path / "run" / "manifest.json")
    assert set(history["data"]) >= {"image.raw", "image.pixels"}


def test_captions_are_those_of_the_images(prepared, tmp_path):
    ran(prepared, tmp_path / "run", image=0)
    told = read_json(tmp_path / "run" / "reconstruction" / "shown.json")
    vectors = np.load(prepared / "toy" / "features" / "image.raw.npy")[48:]
    for own, vector in zip(told["captions"], vectors, strict=True):
        assert len(own["words"].split()) == (vector > 0).sum()  # a caption names the coordinates above zero
    assert "picture_rank" not in numbers_of(tmp_path / "run")


def test_a_model_that_shows_nothing_leaves_nothing(prepared, tmp_path):
    settings = {"dim": 16, "word_dim": 8, "epochs": 1, "min_count": 1}
    made = Job(dataset="toy", split="full", model="vsepp", seed=0, inputs={"image": "raw"}, settings=settings)
    train_job(made, tmp_path / "run", prepared)
    evaluate(made, tmp_path / "run", prepared, "embedded")
    assert not (tmp_path / "run" / "reconstruction").exists()


def test_the_same_seed_gives_the_same_bits(prepared, tmp_path):
    for name in "ab":
        ran(prepared, tmp_path / name)
    for file in (
        "model.safetensors",
        "reconstruction/shown.npz",
        "reconstruction/shown.json",
        "reconstruction/metrics.json",
    ):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert torch.get_num_threads() == 1
