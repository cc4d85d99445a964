"""The embedded world: the same bits always, distractors that differ in one attribute, captions that share few words."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, world

SETTINGS = world.Settings(seed=5, images=60, val=15, test=15)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small"
    world.make(SETTINGS, folder, title="Small world")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def facts(scene: world.Scene) -> list[set]:
    """What a caption may speak of: a set of (kind, colour, size, place) for the things, and the background."""
    return [{(t.kind, t.colour, t.size, t.place) for t in scene.things}, {scene.background}]


def scenes(count: int, seed: int = 1) -> list[world.Scene]:
    return [world.scene(seed, index) for index in range(count)]


def test_partitions_captions_and_files(made):
    frame = items.read(made)
    images, texts = frame[frame.modality == "image"], frame[frame.modality == "text"]
    assert images.partition.value_counts().to_dict() == {"train": 30, "val": 15, "test": 15}
    assert images.item_id.tolist() == [f"{i:06d}" for i in range(60)]
    assert texts.item_id.tolist() == [f"{i:06d}#{k}" for i in range(60) for k in range(5)]
    assert texts.groupby("group_id").source.nunique().eq(5).all()
    root = items.root(made)
    assert root == made / "raw" / "images"
    with Image.open(root / images.source.iloc[7]) as image:
        assert (image.format, image.size) == ("JPEG", (world.WIDTH, world.HEIGHT))
    assert world.WIDTH != world.HEIGHT  # so that cropping is exercised


def test_two_runs_and_any_number_of_workers_write_the_same_bytes(made, tmp_path):
    world.make(SETTINGS, tmp_path / "small", title="Small world")
    assert contents(tmp_path / "small") == contents(made)
    world.draw(SETTINGS, tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(made / "raw")


def test_another_seed_is_another_world():
    same = [np.array_equal(*(np.asarray(world.draw_scene(seed, i)[0]) for seed in (5, 6))) for i in range(5)]
    assert not any(same)
    assert scenes(50, 5) != scenes(50, 6)


def test_training_pictures_stay_when_more_are_asked_for(made, tmp_path):
    more = world.Settings(seed=5, images=80, val=15, test=15)
    world.draw(more, tmp_path / "raw", workers=1)
    for name in (f"images/{i:06d}.jpg" for i in range(30)):
        assert (tmp_path / "raw" / name).read_bytes() == (made / "raw" / name).read_bytes()
    parts = [
        json.loads((folder / "dataset_world.json").read_text())["images"][:30]
        for folder in (made / "raw", tmp_path / "raw")
    ]
    assert parts[0] == parts[1]


def test_what_an_earlier_drawing_left_is_gone_and_foreign_files_stay(tmp_path):
    images = tmp_path / "raw" / "images"
    images.mkdir(parents=True)
    for name in ("000060.jpg", "123456.jpg", ".000003.jpg.77.part", "notes.txt"):
        (images / name).touch()
    (tmp_path / "items.parquet").touch()
    world.make(SETTINGS, tmp_path, title="x")
    assert sorted(path.name for path in images.iterdir()) == [*(f"{i:06d}.jpg" for i in range(60)), "notes.txt"]
    assert len(items.read(tmp_path)) == 360


def test_a_killed_drawing_leaves_no_table(made, tmp_path, monkeypatch):
    (tmp_path / "items.parquet").write_bytes((made / "items.parquet").read_bytes())
    monkeypatch.setattr(world, "write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        world.make(SETTINGS, tmp_path, title="x")
    assert not (tmp_path / "items.parquet").exists()


def test_too_few_training_images_name_the_key(tmp_path):
    with pytest.raises(UserError, match=r"datasets\.tiny\.images: 40 images less 15 .* and 15"):
        world.make(world.Settings(images=40, val=15, test=15), tmp_path / "tiny", title="x")
    assert not (tmp_path / "tiny").exists()


def test_a_distractor_differs_in_one_attribute_from_an_earlier_scene():
    found = scenes(900)
    copies = [(index, scene) for index, scene in enumerate(found) if scene.copies is not None]
    assert 0.28 < len(copies) / len(found) < 0.39
    changed = set()
    for index, scene in copies:
        assert scene.copies < index
        (new, back), (old, old_back) = facts(scene), facts(found[scene.copies])
        if back != old_back:
            assert new == old
            changed.add("background")
            continue
        (one,), (other,) = new - old, old - new
        differing = [name for name, a, b in zip(("kind", "colour", "size", "place"), one, other, strict=True) if a != b]
        assert len(differing) == 1
        changed.update(differing)
    assert changed == {"kind", "colour", "size", "place", "background"}


def test_a_distractor_stays_in_its_partition_and_is_drawn_afresh():
    first = 500
    copies = [(i, world.scene(1, i, first)) for i in range(first, first + 60)]
    copies = [(i, scene) for i, scene in copies if scene.copies is not None]
    assert len(copies) > 10
    assert all(first <= scene.copies < i for i, scene in copies)
    # A thing that both have is jittered: it is not where it was to the pixel.
    moved = 0
    for i, _ in copies[:8]:
        _, new = world.draw_scene(1, i, first)
        _, old = world.draw_scene(1, new.copies, first)
        boxes = {(t.kind, t.colour, t.size, t.place): t.box for t in old.things}
        moved += all(boxes.get((t.kind, t.colour, t.size, t.place)) != t.box for t in new.things)
    assert moved == 8


def test_every_value_is_drawn_and_things_stand_out():
    found = scenes(600)
    things = [thing for scene in found for thing in scene.things]
    assert {t.kind for t in things} == set(world.CLASSES)
    assert {t.colour for t in things} == set(world.COLOURS)
    assert {t.size for t in things} == set(world.SIZES)
    assert {t.place for t in things} == set(world.PLACES)
    assert {scene.background for scene in found} == set(world.BACKGROUNDS)
    assert {len(scene.things) for scene in found} == {1, 2, 3}
    for scene in found:
        assert len({t.place for t in scene.things}) == len({t.kind for t in scene.things}) == len(scene.things)
        assert not any((t.colour, scene.background) in {("black", "night"), ("white", "snow")} for t in scene.things)


def test_captions_of_a_scene_share_few_words_and_are_short():
    overlaps, lengths = [], []
    for index, scene in enumerate(scenes(300)):
        texts = world.captions(1, index, scene)
        assert len(set(texts)) == 5
        words = [set(re.findall(r"\w+", text.lower())) for text in texts]
        overlaps += [len(a & b) / len(a | b) for a, b in itertools.combinations(words, 2)]
        lengths += [len(text.split()) for text in texts]
    assert np.mean(overlaps) < 0.35  # measured: 0.23
    assert max(lengths) <= 25
    assert 8 < np.mean(lengths) < 14


def nouns(text: str) -> list[tuple[str, str | None, str | None]]:
    """(class, colour, size) that a caption names, by its synonyms."""
    kind = {word: name for name, words in world.CLASSES.items() for word in words}
    colour = {word: name for name, (_, words) in world.COLOURS.items() for word in words}
    size = {word: name for name, (_, words) in world.SIZES.items() for word in words}
    pattern = rf"\b(?:({'|'.join(size)}) )?(?:({'|'.join(colour)}) )?({'|'.join(kind)})\b"
    return [(kind[k], colour.get(c), size.get(s)) for s, c, k in re.findall(pattern, text.lower())]


def test_a_careful_reader_finds_the_picture_and_captions_say_nothing_false():
    found = {index: world.scene(1, index, 1300) for index in range(1300, 1500)}
    behind = {word: name for name, (*_, words) in world.BACKGROUNDS.items() for word in words}
    at_10, at_1, coloured = [], [], []
    for index, scene in found.items():
        for text in world.captions(1, index, scene):
            named = nouns(text)
            where = [name for word, name in behind.items() if word in text.lower()]
            fitting = [
                i
                for i, other in found.items()
                if all(
                    any(t.kind == k and c in (None, t.colour) and s in (None, t.size) for t in other.things)
                    for k, c, s in named
                )
                and (not where or other.background == where[0])
            ]
            assert named
            assert index in fitting
            coloured.append(any(colour for _, colour, _ in named))
            at_1.append(1 / len(fitting))
            at_10.append(min(1, 10 / len(fitting)))
    assert np.mean(coloured) > 0.8
    assert np.mean(at_10) > 0.9
    assert 0.5 < np.mean(at_1) < 0.95  # hard enough: captions leave things out


def test_relations_in_captions_are_true():
    checked = 0
    for index, scene in enumerate(scenes(400)):
        where = {t.kind: world.PLACES[t.place][0] for t in scene.things}
        for text in world.captions(1, index, scene):
            named = [kind for kind, _, _ in nouns(text)]
            for words, axis, sign in (
                (world.LEFT, 0, -1),
                (world.RIGHT, 0, 1),
                (world.ABOVE, 1, -1),
                (world.BELOW, 1, 1),
            ):
                if any(f" {word} a" in text for word in words):
                    assert (where[named[0]][axis] - where[named[1]][axis]) * sign > 0.2
                    checked += 1
    assert checked > 300


def test_regions_lie_in_the_picture_and_have_the_colour_that_they_say(made):
    regions = json.loads((made / "raw" / "regions.json").read_text())
    assert sorted(regions) == [f"{i:06d}.jpg" for i in range(60)]
    for name, found in regions.items():
        with Image.open(made / "raw" / "images" / name) as image:
            pixels = np.asarray(image.convert("RGB"), float)
        assert 1 <= len(found) <= 3
        for region in found:
            assert set(region) == {"box", "class", "attribute", "size", "place", "confidence"}
            assert region["confidence"] == 1.0
            left, top, right, bottom = region["box"]
            assert 0 <= left < right <= world.WIDTH
            assert 0 <= top < bottom <= world.HEIGHT
            (x, y), _ = world.PLACES[region["place"]]
            assert abs((left + right) / 2 - x * world.WIDTH) < 0.15 * world.WIDTH
            assert abs((top + bottom) / 2 - y * world.HEIGHT) < 0.15 * world.HEIGHT
            tall = (bottom - top) / world.HEIGHT
            assert tall < (0.34 if region["size"] == "small" else 0.62)
            if len(found) == 1:  # alone, nothing hides it
                inside = pixels[top:bottom, left:right].reshape(-1, 3)
                near = np.linalg.norm(inside - world.COLOURS[region["attribute"]][0], axis=1) < 45
                assert near.mean() > 0.08, (name, region)
