"""Vectors that were made elsewhere: rows are found by name, and what is wrong with a file is said once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, pascal
from crossmodal.features import vectors
from crossmodal.features.engine import extraction, store

SHARED = Path(__file__).parents[3] / "shared" / "data"
ARRAY = np.arange(12, dtype=np.float32).reshape(6, 2)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six photographs of two classes, in the layout of Pascal Sentence."""
    for kind in ("cat", "dog"):
        for place, ending in (("dataset", "jpg"), ("sentence", "txt")):
            (tmp_path / place / kind).mkdir(parents=True)
            for n in range(3):
                (tmp_path / place / kind / f"{n}.{ending}").write_text("a line")
    for path in tmp_path.glob("dataset/*/*.jpg"):
        Image.new("RGB", (4, 4)).save(path)
    pascal.make(pascal.Settings(root=tmp_path, test=1, val=0.3), tmp_path / "data", title="t")
    np.save(tmp_path / "array.npy", ARRAY)
    return tmp_path


def extract(folder: Path, **settings) -> store.Features:
    target = folder / "data" / "features" / "image.vectors"
    chosen = vectors.Settings(file=str(folder / "array.npy"), **settings)
    listed = items.read(folder / "data")
    extraction.run("vectors", listed, items.root(folder / "data"), chosen, target, threads=1, modality="image")
    return store.open_features(target)


@pytest.mark.parametrize("form", ["{kind}/{n}", "image/{kind}/{n}", "dataset/{kind}/{n}.jpg", "dataset/{kind}/{n}"])
def test_rows_are_found_by_any_name_of_their_items(folder, form):
    order = [("dog", 2), ("cat", 0), ("dog", 0), ("cat", 2), ("cat", 1), ("dog", 1)]
    (folder / "ids.txt").write_text("".join(form.format(kind=kind, n=n) + "\n" for kind, n in order))
    features = extract(folder, ids=folder / "ids.txt")
    assert features.index.item_id.tolist() == [f"image/{kind}/{n}" for kind in ("cat", "dog") for n in range(3)]
    np.testing.assert_array_equal(features.array, ARRAY[[1, 4, 3, 2, 5, 0]])


def test_without_names_rows_are_the_items_in_their_order(folder):
    np.testing.assert_array_equal(extract(folder).array, ARRAY)


def test_another_array_of_the_same_name_is_read_again(folder):
    extract(folder)
    np.save(folder / "array.npy", ARRAY + 1)
    np.testing.assert_array_equal(extract(folder).array, ARRAY + 1)


@pytest.mark.parametrize(
    ("array", "ids", "message"),
    [
        (ARRAY[:5], None, r"array\.npy: has 5 rows, but the data set 6 image items; name its rows"),
        (ARRAY[0], None, r"array\.npy: has the shape \(2,\); expected rows of numbers"),
        (ARRAY, "cat/0\ncat/1\n", r"ids\.txt: names 2 rows, but .*array\.npy has 6"),
        (ARRAY[:3], "cat/0\ncat/1\ncat/0\n", r"ids\.txt: names 'cat/0' twice"),
        (ARRAY[:3], "cat/0\ncat/1\ncat/2\n", r"ids\.txt: names no row for dataset/dog/0\.jpg \(item image/dog/0\)"),
        (np.where(ARRAY == 4, np.nan, ARRAY), None, r"array\.npy: row 2 \(image/cat/2\) is not all finite"),
    ],
)
def test_one_error_names_what_is_wrong(folder, array, ids, message):
    np.save(folder / "array.npy", array)
    if ids is not None:
        (folder / "ids.txt").write_text(ids)
    with pytest.raises(UserError, match=message):
        extract(folder, **({"ids": folder / "ids.txt"} if ids else {}))


@pytest.mark.skipif(not (SHARED / "features").is_dir(), reason="the shared features are not there")
def test_the_features_of_pascal_sentence_find_their_photographs(tmp_path):
    pascal.make(pascal.Settings(root=SHARED / "pascal_sentence"), tmp_path, title="Pascal Sentence")
    settings = vectors.Settings(
        file=str(SHARED / "features" / "pascal_efflite2.npy"), ids=SHARED / "features" / "pascal_ids.txt"
    )
    listed = items.read(tmp_path)
    target = tmp_path / "features" / "image.vectors"
    extraction.run("vectors", listed, items.root(tmp_path), settings, target, threads=1, modality="image")
    array = np.asarray(store.open_features(target).array)
    images = listed[listed.modality == "image"]
    assert array.shape == (1000, 1280)
    # Ten nearest neighbours name the class of 69 % of the photographs, which no shifted order of rows would give.
    unit = array / np.linalg.norm(array, axis=1, keepdims=True)
    nearest = np.argsort(-(unit @ unit.T), axis=1)[:, 1:11]
    labels = images.label.to_numpy()
    right = []
    for own, near in zip(labels, labels[nearest], strict=True):
        names, counts = np.unique(near, return_counts=True)
        right.append(names[counts.argmax()] == own)
    assert 0.6 < np.mean(right) < 0.75
