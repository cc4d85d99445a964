"""Region annotations: what is read, what is refused, and how exact ones are worsened."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from crossmodal.core.errors import UserError
from crossmodal.features.region_annotations import annotations
from crossmodal.features.region_annotations.annotations import Region, Worsening

DOG = {"box": [10, 20, 50, 60], "class": "dog", "attribute": "brown", "confidence": 0.5}
CAT = {"box": [0, 0, 30.5, 40], "class": "cat", "confidence": 0.8}
CLASSES, ATTRIBUTES = ("ball", "box", "car", "star"), ("blue", "red")
SYNONYMS = {"ball": ["ball", "sphere"], "box": ["crate"], "red": ["crimson"]}


def dataset(folder, entries, **named):
    (folder / "regions.json").write_text(json.dumps(entries))
    (folder / "items.json").write_text(json.dumps({"regions": {"file": "regions.json", **named}}))
    return annotations.read(folder, Worsening())


def test_regions_as_they_are_given(tmp_path):
    given = dataset(tmp_path, {"a.jpg": [DOG, CAT], "b.jpg": []})
    assert given.of("some/folder/a.jpg", 100, 80) == [
        Region((0, 0, 30.5, 40), "cat", "", 0.8),
        Region((10, 20, 50, 60), "dog", "brown", 0.5),
    ]
    assert given.of("b.jpg", 100, 80) == []
    assert (given.classes, given.attributes) == (("cat", "dog"), ("brown",))
    assert given.bare(["a.jpg", "b.jpg", "c.jpg"]) == 1
    assert given.worsening is None  # a detector's own are taken as they are
    assert given.of("a.jpg", 49.5, 59.5)[1].box == (10, 20, 49.5, 59.5)  # rounded over the border


BAD = {
    r"regions\.json: lists nothing of x\.jpg": None,
    r"x\.jpg: expected a list of regions, found dict": {},
    r"x\.jpg\[1\]: expected an object": [DOG, 3],
    r"x\.jpg\[0\]\.box: expected four numbers.*found \[1, 2, 3\]": [{**DOG, "box": [1, 2, 3]}],
    r"x\.jpg\[0\]\.box: expected four numbers": [{**DOG, "box": [1, 2, 3, float("nan")]}],
    r"x\.jpg\[0\]\.box: .*has no area": [{**DOG, "box": [10, 20, 10, 60]}],
    r"x\.jpg\[0\]\.class: expected a name": [{**DOG, "class": " "}],
    r"x\.jpg\[0\]\.attribute: expected a name or null": [{**DOG, "attribute": 3}],
    r"x\.jpg\[0\]\.confidence: expected a number from 0 to 1, found 7": [{**DOG, "confidence": 7}],
    r"x\.jpg: the box \[10\.0, 20\.0, 150\.0, 60\.0\] of 'dog' reaches outside of the picture of 100 x 80": [
        {**DOG, "box": [10, 20, 150, 60]}
    ],
    r"reaches outside": [{**DOG, "box": [-5, 20, 15, 60]}],
}


@pytest.mark.parametrize("message", BAD)
def test_malformed_regions_are_named(tmp_path, message):
    entries = {"a.jpg": [DOG]} | ({} if BAD[message] is None else {"x.jpg": BAD[message]})
    given = dataset(tmp_path, entries)
    assert len(given.of("a.jpg", 100, 80)) == 1
    with pytest.raises(UserError, match=message):
        given.of("x.jpg", 100, 80)


def test_files_that_hold_no_regions(tmp_path):
    with pytest.raises(UserError, match=r"expected an object of image names.*found list"):
        dataset(tmp_path, [DOG])
    (tmp_path / "regions.json").write_text('{"a.jpg": [')
    with pytest.raises(UserError, match=r"regions\.json: is not valid JSON"):
        annotations.read(tmp_path, None)
    (tmp_path / "regions.json").unlink()
    with pytest.raises(UserError, match=r"regions\.json: not found"):
        annotations.read(tmp_path, None)
    (tmp_path / "items.json").write_text("{}")
    with pytest.raises(UserError, match=r"names no `regions` file.*set `regions` in the data set's"):
        annotations.read(tmp_path, None)


def worsened(count: int = 2500, **rates) -> list[list[Region]]:
    given = [Region((50, 50, 90, 70), "ball", "red", 1.0), Region((0, 0, 20, 20), "star", "blue", 0.5)]
    chosen = Worsening(**{"missed": 0, "confused": 0, "renamed": 0, "jitter": 0, **rates})
    return [annotations.worsen(given, f"{n}.jpg", chosen, CLASSES, ATTRIBUTES, SYNONYMS) for n in range(count)]


def test_rates_are_met():
    assert sum(map(len, worsened(missed=0.25))) / 5000 == pytest.approx(0.75, abs=0.02)
    confused = Counter(regions[0].name for regions in worsened(confused=0.3))
    assert confused["ball"] / 2500 == pytest.approx(0.7, abs=0.03)
    assert set(confused) == set(CLASSES)
    colours = Counter(regions[0].attribute for regions in worsened(confused=0.3))
    assert colours["blue"] / 2500 == pytest.approx(0.3, abs=0.03)
    renamed = Counter(regions[0].name for regions in worsened(renamed=0.4))
    assert renamed["sphere"] / 2500 == pytest.approx(0.4, abs=0.03)
    assert set(renamed) == {"ball", "sphere"}
    assert {regions[1].name for regions in worsened(renamed=1)} == {"star"}  # nothing else means that
    moved = np.array([regions[0].box for regions in worsened(jitter=0.1)]) - [50, 50, 90, 70]
    np.testing.assert_allclose(moved.std(0), [4, 2, 4, 2], rtol=0.06)
    np.testing.assert_allclose(moved.mean(0), 0, atol=0.35)


def test_confidences_are_lower_where_the_class_is_wrong():
    found = worsened(confused=0.5)
    right = [r[0].confidence for r in found if r[0].name == "ball"]
    wrong = [r[0].confidence for r in found if r[0].name != "ball"]
    assert np.mean(right) == pytest.approx(0.8, abs=0.02)
    assert np.mean(wrong) == pytest.approx(0.5, abs=0.02)
    assert np.mean([r[1].confidence for r in found if r[1].name == "star"]) == pytest.approx(0.4, abs=0.02)


def test_worsening_is_a_function_of_the_picture_and_the_seed(tmp_path):
    entries = {f"{n}.jpg": [DOG, {**CAT, "attribute": "black"}] for n in range(50)}
    given = dataset(tmp_path, entries, exact=True, synonyms={"dog": ["hound"]})
    forward = [given.of(f"{n}.jpg", 100, 80) for n in range(50)]
    backward = [given.of(f"sub/{n}.jpg", 100, 80) for n in reversed(range(50))][::-1]
    assert forward == backward
    other = annotations.read(tmp_path, Worsening(seed=1))
    assert [other.of(f"{n}.jpg", 100, 80) for n in range(50)] != forward
    assert annotations.read(tmp_path, None).of("0.jpg", 100, 80)[1].box == (10, 20, 50, 60)
    for regions in forward:
        for x1, y1, x2, y2 in (region.box for region in regions):
            assert 0 <= x1 < x2 <= 100
            assert 0 <= y1 < y2 <= 80
        assert [r.confidence for r in regions] == sorted((r.confidence for r in regions), reverse=True)
    missed = sum(not regions for regions in forward)
    assert given.bare(entries) == missed
