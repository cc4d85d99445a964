"""The world's own backbone: its training in small, and the committed file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crossmodal.core.files import sha256_file
from crossmodal.datasets import world
from crossmodal.experiments import load
from crossmodal.features import image
from crossmodal.features.networks import backbones, scenes_backbone, world_backbone

ROOT = Path(__file__).parents[3]
TINY = world_backbone.Settings(images=24, held_out=8, epochs=1, batch_size=8, crop=64)


def test_labels_of_a_scene():
    things = (world.Thing("ball", "orange", "large", "centre"), world.Thing("box", "red", "small", "top left"))
    row = world_backbone.labels(world.Scene(things, "night"))
    assert len(row) == 16 * 8 + 16 * 2 + 16 * 5 + 5 * 8 + 16 + 8 + 6
    starts = np.cumsum([0, *world_backbone.TABLES.values()])
    expected = [(0, 1), (0, 8), (1, 1), (1, 2), (2, 2), (2, 5), (3, 2 * 8 + 1), (3, 0), (4, 0), (4, 1), (5, 0), (5, 1)]
    assert sorted(np.flatnonzero(row)) == sorted([*(starts[t] + n for t, n in expected), starts[6] + 3])


def test_a_moved_crop():
    pixels = torch.arange(8 * 10).reshape(1, 1, 8, 10).expand(1, 3, 8, 10)
    crop, corner = world_backbone.shifted_crop(pixels, 4, 1, -2)
    assert corner.tolist() == [3, 1]
    assert crop[0, 0].tolist() == pixels[0, 0, 3:7, 1:5].tolist()
    crop, corner = world_backbone.shifted_crop(pixels, 8, 1, 0)
    assert corner.tolist() == [1, 1]
    assert crop[0, 0, :, 0].tolist() == [11, 21, 31, 41, 51, 61, 71, 71]  # the last row again


def test_an_object_is_told_in_its_own_cell():
    head = torch.nn.Linear(1, 26)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    head.weight.data[[3, 16 + 5, 24 + 1], 0] = 50.0
    last = torch.zeros(2, 1, 4, 4)
    last[1, 0, 2, 1] = 1  # the cell of pixel rows 64 to 95, columns 32 to 63
    things = torch.full((2, 3, 3), -1)
    things[1, 0] = torch.tensor([3, 5, 1])
    centres = torch.zeros(2, 3, 2)
    centres[1, 0] = torch.tensor([70.0, 40.0])
    assert world_backbone.cell_loss(head, last, things, centres).item() < 1e-6
    centres[1, 0] = torch.tensor([70.0, 31.0])
    chance = np.log(16) + np.log(8) + np.log(2)
    np.testing.assert_allclose(world_backbone.cell_loss(head, last, things, centres).item(), chance, rtol=1e-5)


def test_training_again_gives_the_same_file(tmp_path):
    before = torch.get_num_threads()
    for name in ("a", "b"):
        world_backbone.train(TINY, tmp_path / f"{name}.safetensors", threads=1)
    torch.set_num_threads(before)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    manifest = json.loads((tmp_path / "a.json").read_text())
    assert manifest["sha256"] == sha256_file(tmp_path / "a.safetensors")
    assert set(manifest["held_out_accuracy"]) == set(world_backbone.TABLES)
    settings = image.Settings(network=TINY.network, weights=str(tmp_path / "a.safetensors"))
    assert backbones.build(settings)[1]["weights_sha256"] == manifest["sha256"]


@pytest.mark.parametrize(("name", "module"), [("world", world_backbone), ("scenes", scenes_backbone)])
def test_a_committed_file_is_what_its_manifest_says(name, module):
    file = backbones.OWN[name]
    manifest = json.loads(file.with_suffix(".json").read_text())
    assert manifest["sha256"] == sha256_file(file)
    assert file.stat().st_size <= 8 * 2**20
    assert manifest["settings"] == module.Settings().model_dump()
    assert all(value.dtype == torch.float16 for value in load_file(file).values())
    seeds = {block.settings.get("seed", 1) for block in load(ROOT / "params.yaml").datasets.values()}
    assert manifest["settings"]["seed"] not in seeds
    assert backbones.build(image.Settings(network="shufflenet_v2_x1_0", weights=name))[1]["weights"] == file.name


def test_the_committed_features_know_what_is_drawn():
    """The nearest scene (of another seed than the backbone's) shares objects and background far above chance."""
    settings = image.Settings(network="shufflenet_v2_x1_0", weights="world", resize=128, crop=128, precision="fp32")
    model = backbones.prepare(backbones.build(settings)[0], "fp32", torch.device("cpu"))
    drawn = [world.draw_scene(1, index) for index in range(200)]
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    pixels = torch.stack([pil_to_tensor(center_crop(resize(picture, 128), 128)) for picture, _ in drawn])
    features = torch.cat([image.forward(model, p, settings, torch.device("cpu"), "fp32") for p in pixels.split(50)])
    kinds = np.stack([world_backbone.labels(what) for _, what in drawn])[:, -30:]
    classes, backgrounds = kinds[:, :16], kinds[:, -6:]
    nearest = (features @ features.T).fill_diagonal_(-1).argmax(1).numpy()

    def shared(labels: np.ndarray, other: np.ndarray) -> float:
        return float((labels * other).sum() / labels.sum())

    assert shared(backgrounds, backgrounds[nearest]) > 3 / 6  # six backgrounds
    assert shared(classes, classes[nearest]) > 3 * shared(classes, np.roll(classes, 1, 0))
