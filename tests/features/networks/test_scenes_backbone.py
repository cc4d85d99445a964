"""The backbone of the drawn scenes: its labels by hand, and its training in small."""

from __future__ import annotations

import json

import numpy as np
import torch
from safetensors.torch import load_file

from crossmodal.core.files import sha256_file
from crossmodal.datasets.drawing.scene_layout import Scene, scene
from crossmodal.datasets.drawing.scene_things import Thing
from crossmodal.features.networks import backbones, scenes_backbone, world_backbone

TINY = scenes_backbone.Settings(images=24, held_out=8, epochs=1, batch_size=8, crop=64)


def test_labels_of_a_scene():
    things = tuple(
        Thing(kind, colour, "small", 30.0, 0.0)
        for kind, colour in (("ball", "orange"), ("box", "red"), ("ball", "red"))
    )
    row = scenes_backbone.labels(Scene(things, "night", ()))
    starts = np.cumsum([0, *scenes_backbone.TABLES.values()])
    assert len(row) == starts[-1] == 16 + 16 + 8 + 6
    expected = [
        (0, 0),
        (0, 1),
        (1, 0),
        (2, 0),
        (2, 1),
        (3, 3),
    ]  # ball and box, of which the ball repeats; red and orange
    assert np.flatnonzero(row).tolist() == [starts[table] + n for table, n in expected]


def test_a_sample_knows_its_things_and_their_middles():
    what = scene(TINY.seed, 0, 3)
    sample = scenes_backbone.sample(TINY, 3)
    assert sample.pixels.shape == (3, 192, 192)
    count = len(what.things)
    assert (sample.things[:count] >= 0).all()
    assert (sample.things[count:] == -1).all()
    left, top, right, bottom = what.things[0].box
    np.testing.assert_allclose(sample.centres[0], [(top + bottom) / 2, (left + right) / 2], rtol=1e-6)


def test_training_starts_from_the_world_and_gives_the_same_file_again(tmp_path):
    before = torch.get_num_threads()
    for name in ("a", "b"):
        scenes_backbone.train(TINY, tmp_path / f"{name}.safetensors", threads=1)
    torch.set_num_threads(before)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    manifest = json.loads((tmp_path / "a.json").read_text())
    assert manifest["sha256"] == sha256_file(tmp_path / "a.safetensors")
    assert set(manifest["held_out_accuracy"]) == set(scenes_backbone.TABLES)
    trained, world = load_file(tmp_path / "a.safetensors"), load_file(backbones.WORLD)
    moved = {name: (trained[name].float() - world[name].float()).abs().max().item() for name in world}
    weights = [moved[name] for name in moved if name.endswith("weight")]
    assert 0 < max(weights) < 0.1  # three steps with a learning rate of at most .001
    assert world_backbone.Settings().seed != scenes_backbone.Settings().seed
