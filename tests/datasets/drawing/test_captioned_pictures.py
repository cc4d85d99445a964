"""Partitions and files of drawn worlds in Karpathy's layout, by hand."""

from types import SimpleNamespace

import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets.drawing.captioned_pictures import check_sizes, clear_images, entries, partitions


def test_partitions_follow_each_other():
    parts = partitions(SimpleNamespace(images=10, val=2, test=3))
    assert parts == {"train": range(5), "val": range(5, 7), "test": range(7, 10)}


def test_too_few_images_for_training():
    check_sizes(SimpleNamespace(images=30, val=5, test=5), "mine")
    with pytest.raises(UserError, match=r"datasets\.mine\.images: 29 images less 5 .* and 5 .* fewer than 20"):
        check_sizes(SimpleNamespace(images=29, val=5, test=5), "mine")


def test_sentences_are_numbered_over_all_images():
    listed = entries([["A red Ball, here.", "Two."], ["A box."]], {"train": range(1), "val": range(1, 2)})
    assert [entry["split"] for entry in listed] == ["train", "val"]
    assert [entry["sentids"] for entry in listed] == [[0, 1], [2]]
    assert [entry["filename"] for entry in listed] == ["000000.jpg", "000001.jpg"]
    first = listed[0]["sentences"][0]
    assert first == {"raw": "A red Ball, here.", "tokens": ["a", "red", "ball", "here"], "imgid": 0, "sentid": 0}


def test_pictures_of_a_larger_drawing_and_half_written_ones_are_removed(tmp_path):
    kept = ["000000.jpg", "000001.jpg", "notes.txt"]
    for name in (*kept, "000002.jpg", ".000001.jpg.17.part"):
        (tmp_path / name).touch()
    clear_images(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
