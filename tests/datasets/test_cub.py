"""CUB-200-2011's layout: what is read from small hand-made files, and each fault's message."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets import cub, items
from tests.datasets.noticed import changed, moved

CLASSES = ("001.Black_Gull", "002.Red_Finch", "003.Blue_Jay", "004.Grey_Owl")
ATTRIBUTES = (
    "has_bill_shape::hooked_(seabird)",
    "has_wing_color::black",
    "has_wing_color::red",
    "has_tail_shape::forked_tail",
)
SHARES = ((90, 80, 0, 10), (0, 10, 75, 60), (0, 45, 55, 0), (30, 0, 0, 0))
EACH = 6  # images of a class, every third of them a test image


def numbered(values) -> str:
    return "".join(f"{k} {value}\n" for k, value in enumerate(values, 1))


def lay(folder: Path) -> cub.Settings:
    root = folder / "CUB_200_2011"
    images = [(c, f"{label}/{label[4:]}_{n:04d}_{n}.jpg") for c, label in enumerate(CLASSES) for n in range(EACH)]
    for label in CLASSES:
        (root / "images" / label).mkdir(parents=True)
        (folder / "text" / label).mkdir(parents=True)
    for _, path in images:
        (root / "images" / path).touch()
        (folder / "text" / path).with_suffix(".txt").write_text(f"a bird.\n\nbird {path}\n")
    (root / "attributes").mkdir()
    for name, text in {
        "classes.txt": numbered(CLASSES),
        "images.txt": numbered(path for _, path in images),
        "image_class_labels.txt": numbered(c + 1 for c, _ in images),
        "train_test_split.txt": numbered(int(k % 3 != 2) for k in range(len(images))),
        "attributes/class_attribute_labels_continuous.txt": "\n".join(" ".join(map(str, row)) for row in SHARES),
        "attributes/image_attribute_labels.txt": "".join(
            f"{k} {a} {int(a < 3)} {4 if a != 2 else 2} 1.5\n" + f"{k} 4 1 3 0 9 1.0\n" * (a == 3)
            for k in range(1, len(images) + 1)
            for a in (1, 2, 3)
        ),
    }.items():
        (root / name).write_text(text)
    (folder / "attributes.txt").write_text(numbered(ATTRIBUTES))  # beside the root, where the archive unpacks it
    return cub.Settings(root=root, captions=folder / "text", unseen=(CLASSES[1],), val=0.25)


def fault(settings: cub.Settings) -> str:
    with pytest.raises(UserError) as caught:
        cub.read(settings, "cub")
    return str(caught.value)


def spoil(settings: cub.Settings, name: str, old: str, new: str) -> str:
    path = settings.root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return fault(settings)


def test_unseen_and_held_out_images_are_tested(tmp_path):
    frame, classes, manifest = cub.read(lay(tmp_path))
    images = frame[frame.modality == "image"]
    assert images.groupby(["label", "partition"]).size().to_dict() == {
        **{
            (label, part): n
            for label in CLASSES
            if label != CLASSES[1]
            for part, n in (("train", 3), ("val", 1), ("test", 2))
        },
        (CLASSES[1], "test"): 6,
    }
    assert manifest["unseen_classes"] == [CLASSES[1]]
    assert classes.seen.tolist() == [True, False, True, True]
    texts = frame[frame.modality == "text"].set_index("item_id").source
    assert texts["002.Red_Finch/Red_Finch_0004_4#1"] == "bird 002.Red_Finch/Red_Finch_0004_4.jpg"
    assert len(texts) == 2 * len(images) == 48


def test_all_images_of_seen_classes_may_be_trained_on(tmp_path):
    settings = lay(tmp_path).model_copy(update={"seen_images": "train", "val": 0.0})
    frame, _, _ = cub.read(settings)
    assert frame[frame.modality == "image"].partition.value_counts().to_dict() == {"train": 18, "test": 6}


def test_unseen_classes_by_number_and_by_file(tmp_path):
    settings = lay(tmp_path)
    drawn = [
        cub.read(settings.model_copy(update={"unseen": 2, "seed": seed}))[2]["unseen_classes"] for seed in range(8)
    ]
    assert {len(names) for names in drawn} == {2}
    assert len(set(map(tuple, drawn))) > 1
    assert drawn == [
        cub.read(settings.model_copy(update={"unseen": 2, "seed": s}))[2]["unseen_classes"] for s in range(8)
    ]
    (tmp_path / "test.txt").write_text(f"{CLASSES[3]}\n{CLASSES[0]}\n")
    parsed = cub.Settings.model_validate({"root": settings.root, "unseen": str(tmp_path / "test.txt")})
    assert cub.read(parsed)[2]["unseen_classes"] == [CLASSES[0], CLASSES[3]]


def test_class_texts_name_the_usual_attribute_of_each_group(tmp_path):
    _, classes, _ = cub.read(lay(tmp_path))
    assert classes.text.tolist() == [
        "This bird has hooked seabird bill shape and black wing color.",
        "This bird has red wing color and forked tail shape.",
        "This bird has red wing color.",
        "This is a bird.",
    ]
    assert classes.attributes[2].tolist() == [0, 0.45, 0.55, 0] if hasattr(classes.attributes[2], "tolist") else True


def test_sentences_are_made_of_certain_attributes_where_there_are_none(tmp_path):
    settings = lay(tmp_path).model_copy(update={"captions": None, "sentences": 3})
    frame, _, manifest = cub.read(settings)
    texts = frame[frame.modality == "text"]
    # Attribute 2 is a guess, 3 is absent, 4 stands on lines with two fields too many.
    assert set(texts.source) == {"This bird has hooked seabird bill shape and forked tail shape."}
    assert len(texts) == 3 * 24
    assert manifest["text"] == "made from attributes"
    assert cub.read(settings)[0].equals(frame)


def test_photographs_that_move_are_noticed(tmp_path):
    settings = lay(tmp_path / "raw")
    cub.make(settings, tmp_path / "data/cub", title="CUB Birds")
    assert not changed(tmp_path / "data/cub")
    moved(settings.root / "images" / CLASSES[0] / "Black_Gull_0000_0.jpg")
    assert changed(tmp_path / "data/cub")


def test_prepared_folder(tmp_path):
    cub.make(lay(tmp_path / "raw"), tmp_path / "cub", title="CUB Birds")
    frame = items.read(tmp_path / "cub")
    root = items.root(tmp_path / "cub")
    assert all((root / source).is_file() for source in frame.source[frame.modality == "image"])
    manifest = json.loads((tmp_path / "cub" / "items.json").read_text())
    assert (manifest["reader"], manifest["title"]) == ("cub", "CUB Birds")
    assert manifest["attributes"] == list(ATTRIBUTES)
    assert pd.read_parquet(tmp_path / "cub" / "classes.parquet").label.tolist() == list(CLASSES)


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "classes.txt",
            "2 002.Red",
            "1 002.Red",
            "classes.txt: expected one `<id> <name>` per line, each id and name once",
        ),
        ("images.txt", "_0001_1.jpg", "_0001_9.jpg", "1 of the 24 images of images.txt are not there: 001.Black_Gull/"),
        ("image_class_labels.txt", "5 1\n", "5 7\n", "line 5 ('5 7')"),
        (
            "image_class_labels.txt",
            "5 1\n",
            "",
            "image_class_labels.txt: lacks 1 image(s) of images.txt: 001.Black_Gull",
        ),
        ("train_test_split.txt", "5 1\n", "5 yes\n", "line 5 ('5 yes')"),
        ("train_test_split.txt", "5 1\n", "4 1\n", "line 5 ('4 1')"),
        (
            "attributes/class_attribute_labels_continuous.txt",
            "90 80 0 10\n",
            "",
            "expected 4 lines (classes) of 4 per cents",
        ),
        ("attributes/class_attribute_labels_continuous.txt", "90 80", "90 many", "expected 4 lines (classes)"),
        ("attributes/class_attribute_labels_continuous.txt", "90 80", "90 800", "expected 4 lines (classes)"),
    ],
)
def test_a_faulty_file_is_named(tmp_path, name, old, new, said):
    assert said in spoil(lay(tmp_path), name, old, new)


def test_faults_of_what_is_chosen(tmp_path):
    settings = lay(tmp_path)
    chosen = {"unseen": ("002.Red_Fynch",)}
    assert "lacks: 002.Red_Fynch; did you mean '002.Red_Finch'?" in fault(settings.model_copy(update=chosen))
    assert "4 of 4 classes" in fault(settings.model_copy(update={"unseen": 4}))
    assert "names 4 of 4 classes" in fault(settings.model_copy(update={"unseen": CLASSES}))
    assert "set datasets.cub.unseen" in fault(settings.model_copy(update={"unseen": tmp_path / "no.txt"}))
    assert "set datasets.cub.root" in fault(settings.model_copy(update={"root": tmp_path / "nowhere"}))
    assert "set datasets.cub.captions" in fault(settings.model_copy(update={"captions": tmp_path / "nowhere"}))


def test_a_seen_class_without_training_images(tmp_path):
    settings = lay(tmp_path)
    (settings.root / "train_test_split.txt").write_text(numbered(int(k >= EACH) for k in range(4 * EACH)))
    assert "1 seen class(es) have no training image: 001.Black_Gull" in fault(settings)


def test_missing_and_empty_sentences_are_counted(tmp_path):
    settings = lay(tmp_path)
    (tmp_path / "text/003.Blue_Jay/Blue_Jay_0000_0.txt").unlink()
    (tmp_path / "text/003.Blue_Jay/Blue_Jay_0001_1.txt").write_text("\n")
    assert "2 of 24 files of sentences are missing or empty: 003.Blue_Jay/Blue_Jay_0000_0.txt" in fault(settings)


def test_attributes_of_images_that_cannot_be_read(tmp_path):
    settings = lay(tmp_path).model_copy(update={"captions": None})
    assert "name an unknown image or attribute, such as [99, 1" in spoil(
        settings, "attributes/image_attribute_labels.txt", "5 1 1 4", "99 1 1 4"
    )
    assert "is not one `<image> <attribute>" in spoil(
        settings, "attributes/image_attribute_labels.txt", "6 1 1", "six 1 1"
    )
    (settings.root / "attributes/image_attribute_labels.txt").unlink()
    assert "needed where datasets.cub.captions names no sentences" in fault(settings)
