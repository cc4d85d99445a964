"""The class-disjoint world: unseen classes whose attributes are seen in others, pictures and sentences that agree."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from crossmodal.datasets import birds_world, cub, items
from crossmodal.datasets.drawing import birds, work
from crossmodal.datasets.drawing.scenery import COLOURS
from crossmodal.datasets.drawing.work import generator

SETTINGS = birds_world.Settings(seed=2, classes=16, unseen=4, images=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "birds"
    birds_world.make(SETTINGS, folder, title="Birds")
    return folder


def manifest(made: Path) -> dict:
    return json.loads((made / "items.json").read_text())


def test_partitions_hold_the_classes_that_they_should(made):
    frame = items.read(made)
    images = frame[frame.modality == "image"]
    unseen = set(manifest(made)["unseen_classes"])
    assert len(unseen) == 4
    assert unseen | set(manifest(made)["seen_classes"]) == set(frame.label)
    assert set(images.label[images.partition != "test"]).isdisjoint(unseen)
    counts = images.groupby([images.label.isin(unseen), "partition"]).size()
    assert counts.to_dict() == {(True, "test"): 32, (False, "test"): 24, (False, "train"): 60, (False, "val"): 12}
    texts = frame[frame.modality == "text"]
    assert texts.groupby("group_id").size().eq(5).all()
    assert (texts.partition.to_numpy()[::5] == images.partition.to_numpy()).all()
    assert (items.root(made) / images.source.iloc[0]).is_file()


def test_the_class_table_tells_attributes_and_who_is_unseen(made):
    table = pd.read_parquet(made / "classes.parquet")
    assert table.label[~table.seen].tolist() == manifest(made)["unseen_classes"]
    assert len(manifest(made)["attributes"]) == len(birds.ATTRIBUTES) == len(table.attributes[0])
    looks = birds.classes(2, 16)
    for look, told, shares in zip(looks, table.text, table.attributes, strict=True):
        likely = {birds.ATTRIBUTES[k] for k in np.flatnonzero(np.array(shares) > 0.6)}
        assert len(likely & {f"{group}::{value}" for group, value in look.items()}) >= 8
        assert cub.phrase(f"has_bill_shape::{look['has_bill_shape']}") in told


def test_any_number_of_workers_writes_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "CHUNK", 8)
    birds_world.draw(SETTINGS, tmp_path, workers=2)
    one, two = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (made / "raw", tmp_path)
    )
    assert one == two


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_classes_are_apart_and_unseen_ones_are_new_combinations(seed):
    looks = birds.classes(seed, 50)
    apart = [sum(a[g] != b[g] for g in birds.GROUPS) for a, b in itertools.combinations(looks, 2)]
    assert min(apart) >= 3
    assert sum(n == 3 for n in apart) > 5  # some are hard to tell apart
    out = birds.held_out(seed, looks, 12)
    stay = [look for k, look in enumerate(looks) if k not in out]
    assert len(out) == 12
    for k in out:
        assert looks[k] not in stay
        assert all(any(other[group] == looks[k][group] for other in stay) for group in birds.GROUPS)
    assert len(set(birds.names(looks))) == 50


def test_pictures_differ_and_have_the_birds_colours(made):
    found = sorted((made / "raw" / "images").rglob("*.jpg"))
    assert len({path.read_bytes() for path in found}) == 128
    near = []
    for k, look in enumerate(birds.classes(2, 16)):
        image, (left, top, right, bottom) = birds.draw(look, generator(9, k))
        assert 0 <= left < right <= image.width
        assert 0 <= top < bottom <= image.height
        box = tuple(round(v) for v in (left, top, right, bottom))
        pixels = np.asarray(image.crop(box), float).reshape(-1, 3)
        for part in ("crown", "wing", "breast"):
            hue = np.array(COLOURS[look[f"has_{part}_color"]][0], float)
            near.append((np.abs(pixels - hue).max(1) < 75).mean())
    assert np.mean(np.array(near) > 0.004) > 0.9


def test_boxes_are_of_their_pictures(made):
    names = [line.split()[1] for line in (made / "raw" / "images.txt").read_text().splitlines()]
    boxes = [line.split() for line in (made / "raw" / "bounding_boxes.txt").read_text().splitlines()]
    assert [box[0] for box in boxes] == [str(k + 1) for k in range(len(names))]
    with Image.open(made / "raw" / "images" / names[0]) as image:
        for _, x, y, width, height in boxes:
            assert 0 <= float(x) < float(x) + float(width) <= image.width + 0.2
            assert 0 <= float(y) < float(y) + float(height) <= image.height + 0.2


def test_sentences_say_nothing_false_and_never_the_name():
    colour = {word: name for name, (_, words) in COLOURS.items() for word in words}
    checked = 0
    for k, look in enumerate(birds.classes(4, 40)):
        texts = birds.captions(look, generator(4, k), 5)
        assert len(set(texts)) == 5
        for text in texts:
            assert not any(noun.lower() in text.split() for nouns in birds.NOUNS.values() for noun in nouns)
            for said, part in re.findall(rf"({'|'.join(colour)}) (wings|crown|cap|head|breast|belly|chest)", text):
                group = {"wings": "wing", "breast": "breast", "belly": "breast", "chest": "breast"}.get(part, "crown")
                assert colour[said] == look[f"has_{group}_color"]
                checked += 1
    assert checked > 300


def test_another_seed_leaves_nothing_of_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "images" / "001.Old_name").mkdir(parents=True)
    (tmp_path / "images" / "001.Old_name" / "Old_name_0001.jpg").touch()
    (tmp_path / "images" / "mine").mkdir()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(birds_world, "each", stop)
    with pytest.raises(KeyboardInterrupt):
        birds_world.draw(SETTINGS, tmp_path)
    assert not (tmp_path / "images" / "001.Old_name").exists()
    assert (tmp_path / "images" / "mine").exists()


def test_too_many_unseen_classes_are_refused():
    with pytest.raises(ValidationError, match="16 classes leave fewer than 12"):
        birds_world.Settings(classes=16, unseen=5)
