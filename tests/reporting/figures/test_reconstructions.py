"""Figures of parts and of what is made again, from files as a tested run leaves them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crossmodal.experiments import Job
from crossmodal.reporting.figures.parts import inspected, parts
from crossmodal.reporting.figures.reconstructions import reconstructions


def job(variant: str, seed: int = 0, model: str = "mfsr") -> Job:
    return Job(dataset="world", split="full", model=model, variant=variant, seed=seed, inputs={}, settings={})


@pytest.fixture
def runs(tmp_path):
    """Two seeds of the whole system, and of one that makes nothing again."""
    rng = np.random.default_rng(0)
    made = {}
    for one in (job(""), job("", 1), job("mo")):
        folder = tmp_path / one.key / "reconstruction"
        folder.mkdir(parents=True)
        numbers = {f"{m}_cosine": -0.5 for m in ("image", "text")}
        numbers |= {f"{part}_silhouette": 0.5 for part in ("modal", "semantic", "specific")}
        captions = [{}] * 3
        arrays = {"modal_plane": rng.normal(size=(20, 2))}
        if not one.variant:
            numbers |= {"picture_rank": 2.0, "words_right": 50.0}
            captions = [{"words": f"a red thing {i}", "words_made": f"a dull thing {i}"} for i in range(3)]
            arrays |= {name: rng.integers(0, 256, (3, 3, 8, 8), np.uint8) for name in ("pictures", "pictures_made")}
        (folder / "shown.json").write_text(json.dumps({"captions": captions}))
        about = {"aspect": "parts", "protocol": "all", "n_queries": 10, "n_gallery": 0}
        rows = [{**about, "metric": name, "value": value} for name, value in numbers.items()]
        whose = {key: getattr(one, key) for key in ("dataset", "split", "model", "variant", "seed")}
        (folder / "metrics.json").write_text(json.dumps({"job": whose, "numbers": rows}))
        np.savez(folder / "shown.npz", **arrays)
        made[one.key] = one
    return made


def test_what_is_found(runs, tmp_path):
    more = {**runs, "x": job("sp"), "y": job("", model="vsepp")}  # not tested yet; shows nothing
    found = inspected(more, tmp_path)
    assert {name: len(own) for name, own in found.items()} == {"mfsr": 2, "mfsr.mo": 1}
    assert next(iter(found)) == "mfsr"


def test_the_figures(runs, tmp_path):
    found = inspected(runs, tmp_path)
    drawn = parts(found)
    assert "mfsr.mo" in drawn
    assert "Silhouette" in drawn
    again = reconstructions(found)
    assert again.count("<image") == 6  # three images, and three made
    assert "a dull thing 2" in again
    assert again == reconstructions(found)


def test_without_runs():
    assert "has been tested yet" in parts({})
    assert "has been tested yet" in reconstructions({})


def test_a_system_that_makes_captions_alone(runs, tmp_path):
    found = inspected(runs, tmp_path)
    for run in found["mfsr"]:
        del run["numbers"]["picture_rank"]
        np.savez(run["folder"] / "shown.npz", modal_plane=np.zeros((20, 2)))
    drawn = reconstructions(found)
    assert "<image" not in drawn
    assert "a dull thing 0" in drawn
