"""Small data sets in the layouts of published ones: each is read by its reader, with the counts it was written with."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossmodal import experiments
from crossmodal.core import registry
from crossmodal.datasets import items
from crossmodal.rehearsal.layouts import LAYOUTS

ROOT = Path(__file__).parents[2]
COUNTS = {  # (reader, what is written): {(modality, partition): items}, counted by hand
    "karpathy": ({"images": 60, "held": 10}, {("image", "train"): 40, ("image", "val"): 10, ("text", "test"): 50}),
    "pascal": (
        {"images": 13, "classes": 3},
        {("image", "test"): 30, ("text", "test"): 30, ("image", "val"): 3, ("image", "train"): 6},
    ),
    "nuswide": ({"images": 5}, {("image", "test"): 10, ("text", "train"): 40, ("image", "train"): 40}),
    "cub": ({"classes": 12, "unseen": 3}, {("image", "test"): 24, ("text", "test"): 240}),
}


@pytest.mark.parametrize("reader", COUNTS)
def test_a_layout_is_read_by_its_reader(tmp_path, reader):
    sizes, counts = COUNTS[reader]
    told = {name: value for name, value in LAYOUTS[reader](tmp_path / "raw", {}, **sizes).items() if value is not None}
    further = {"nuswide": {"val": 0}, "cub": {"seen_images": "train", "sentences": 10}}.get(reader, {})
    module = registry.module("datasets", reader)
    module.make(experiments.validated(module.Settings, told | further, reader), tmp_path / "data", title="Small")
    frame = items.read(tmp_path / "data")
    found = frame.groupby(["modality", "partition"]).size().to_dict()
    assert counts.items() <= found.items()
    root = items.root(tmp_path / "data")
    assert all((root / source).is_file() for source in frame.source[frame.modality == "image"])


def test_every_published_data_set_of_the_shipped_file_has_one():
    params = experiments.load(ROOT / "params.yaml")
    published = params.at("embedded").stand_ins
    assert {params.datasets[name].reader for name in published} == set(LAYOUTS)
