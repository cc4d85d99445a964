"""The package's own pair of towers: its training in small, and the committed folder."""

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
from crossmodal.features import open_clip as extractor
from crossmodal.features.engine.contract import Given, Item
from crossmodal.features.networks import backbones, world_backbone, world_towers

open_clip = pytest.importorskip("open_clip", reason="the extra is not installed")
ROOT = Path(__file__).parents[3]
TINY = world_towers.Settings(images=16, held_out=4, epochs=1, batch_size=8, side=32, width=32, layers=1, text_layers=1)


def test_a_sample_has_its_captions_and_the_middles_of_its_things():
    image, what = world.draw_scene(TINY.seed, 3)
    sample = world_towers.sample(TINY, 3)
    assert sample.pixels.shape == (3, 32, 32)
    captions = world.captions(TINY.seed, 3, what, 5)
    np.testing.assert_array_equal(sample.tokens, open_clip.SimpleTokenizer(context_length=32)(captions))
    left, top, right, bottom = what.things[0].box
    middle = [(top + bottom) / 2 / image.height * 32, (left + right) / 2 / image.width * 32]
    np.testing.assert_allclose(sample.centres[0], middle, rtol=1e-6)
    assert world_backbone.KINDS[sample.things[0, 0]] == what.things[0].kind
    assert (sample.things[len(what.things) :] == -1).all()


def test_training_again_gives_a_folder_of_the_same_bytes_that_open_clip_loads(tmp_path):
    before = torch.get_num_threads()
    for name in ("a", "b"):
        world_towers.train(TINY, tmp_path / name, threads=1)
    torch.set_num_threads(before)
    weights = tmp_path / "a" / world_towers.WEIGHTS
    assert weights.read_bytes() == (tmp_path / "b" / world_towers.WEIGHTS).read_bytes()
    manifest = json.loads((tmp_path / "a" / "training.json").read_text())
    assert manifest["sha256"] == sha256_file(weights)
    assert set(manifest["held_out_recall"]) == {"text-to-image", "image-to-text"}
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'a'}")
    rows = model.token_embedding.weight.abs().sum(1)
    assert (rows > 0).sum() == manifest["tokens"]  # those that captions hold; 0 is the filling, the last two are marks
    assert (rows[[0, -2, -1]] > 0).all()
    image, _ = world.draw_scene(TINY.seed, 0)
    pixels = preprocess(image)
    expected = world_towers.normalised(torch.from_numpy(world_towers.sample(TINY, 0).pixels)[None])[0]
    torch.testing.assert_close(pixels, expected, atol=0.02, rtol=0)  # the training rounds to whole pixels


def test_the_committed_folder_is_what_its_manifest_says():
    place = backbones.WORLD_CLIP
    manifest = json.loads((place / "training.json").read_text())
    weights = place / world_towers.WEIGHTS
    assert manifest["sha256"] == sha256_file(weights)
    assert weights.stat().st_size <= 10 * 2**20
    assert manifest["settings"] == world_towers.Settings().model_dump()
    config = json.loads((place / "open_clip_config.json").read_text())
    assert config == json.loads(json.dumps(world_towers.config(world_towers.Settings(), world_towers.VOCABULARY)))
    assert all(value.dtype == torch.float16 for value in load_file(weights).values())
    seeds = {block.settings.get("seed", 1) for block in load(ROOT / "params.yaml").datasets.values()}
    assert manifest["settings"]["seed"] not in {*seeds, world_backbone.Settings().seed}


def test_the_committed_towers_find_pictures_of_another_seed_by_their_captions(tmp_path):
    """Far above chance, which is one in sixty for the first answer, by the extractor that reads all such folders."""
    n, captions = 60, []
    for index in range(n):
        image, what = world.draw_scene(1, index)
        image.save(tmp_path / f"{index}.png")
        captions.append(world.captions(1, index, what)[0])
    vectors = {}
    for modality, sources in (("image", [f"{k}.png" for k in range(n)]), ("text", captions)):
        settings = extractor.Settings(model="world", precision="fp32")
        listed = [Item(f"i{k}", source, tmp_path / source, "test") for k, source in enumerate(sources)]
        work = extractor.recipe(settings, Given(None, tmp_path, modality, tmp_path)).begin(listed)
        vectors[modality] = work.compute([work.load(item) for item in listed])
    ranks = (-(vectors["text"] @ vectors["image"].T)).argsort(1).argsort(1).diagonal()
    assert (ranks < 1).mean() > 10 / n
    assert (ranks < 10).mean() > 0.5
