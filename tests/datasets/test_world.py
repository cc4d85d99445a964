from itertools import combinations

import numpy as np
import pytest

from crossmodal.core.files import read_json, sha256_file
from crossmodal.datasets import items, world


def words(text):
    return set(text.lower().rstrip(".").replace(",", "").split())


def test_scenes_are_a_function_of_seed_and_index():
    one, what = world.draw_scene(1, 7)
    again, same = world.draw_scene(1, 7)
    assert one.tobytes() == again.tobytes()
    assert what == same
    assert one.tobytes() != world.draw_scene(2, 7)[0].tobytes()
    assert world.captions(1, 7, what) == world.captions(1, 7, same)


def test_distractors_differ_in_one_attribute():
    copies = [(i, s) for i in range(300) if (s := world.scene(1, i)).copies is not None]
    assert 60 < len(copies) < 140  # a third of them
    for _, scene in copies:
        other = world.scene(1, scene.copies)
        changes = int(scene.background != other.background)
        for a, b in zip(scene.things, other.things, strict=True):
            changes += sum(getattr(a, f) != getattr(b, f) for f in ("kind", "colour", "size", "place"))
        assert changes == 1


def test_partitions_share_no_scene():
    settings = world.Settings(images=120, val=30, test=30)
    for part in world.partitions(settings).values():
        copied = [world.scene(1, i, part.start).copies for i in part]
        assert all(c is None or part.start <= c < part.stop for c in copied)


def test_captions_of_a_scene_share_few_words():
    overlap = []
    for index in range(100):
        found = world.captions(1, index, world.scene(1, index))
        assert len(set(found)) == 5
        overlap += [len(words(a) & words(b)) / len(words(a) | words(b)) for a, b in combinations(found, 2)]
    assert np.mean(overlap) < 0.45


def test_boxes_hold_the_thing_in_its_colour():
    near = []
    for index in range(40):
        image, what = world.draw_scene(5, index)
        pixels = np.asarray(image, dtype=float)
        for thing in what.things:
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= world.WIDTH
            assert 0 <= top < bottom <= world.HEIGHT
            part = pixels[top:bottom, left:right].reshape(-1, 3)
            distance = np.abs(part - world.COLOURS[thing.colour][0]).max(1)
            near.append((distance < 60).mean())
    assert np.median(near) > 0.3


def test_files_on_disk_are_read_by_the_common_reader(tmp_path):
    settings = world.Settings(images=60, val=12, test=12)
    for name in ("a", "b"):
        world.make(settings, tmp_path / name, title="w")
    frame = items.read(tmp_path / "a")
    assert (frame.modality == "image").sum() == 60
    assert (frame.modality == "text").sum() == 300
    assert frame.query("modality == 'image'").partition.value_counts().to_dict() == {"train": 36, "val": 12, "test": 12}
    for file in ("raw/dataset_world.json", "raw/regions.json", "raw/images/000011.jpg", "items.parquet"):
        assert sha256_file(tmp_path / "a" / file) == sha256_file(tmp_path / "b" / file)
    regions = read_json(tmp_path / "a" / "items.json")["regions"]
    assert (regions["file"], regions["exact"]) == ("raw/regions.json", True)
    assert regions["sha256"] == sha256_file(tmp_path / "a" / "raw" / "regions.json")
    assert regions["synonyms"]["boat"] == ["boat", "ship", "sailboat"]
    assert regions["synonyms"]["red"] == ["red", "crimson", "scarlet"]


def test_too_few_to_train_on(tmp_path):
    with pytest.raises(Exception, match="fewer than 20"):
        world.make(world.Settings(images=30, val=10, test=10), tmp_path, title="w")
