"""XMedia's layout: what is read from small hand-made files, and each fault's message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, xmedia
from tests.datasets.noticed import changed, moved

ENDINGS = {"image": "jpg", "text": "txt", "audio": "wav", "video": "mp4", "3d": "off"}


def lay(root: Path, train: int = 4, test: int = 2, classes: tuple[str, ...] = ("bird", "dog")) -> xmedia.Settings:
    """`train` and `test` files of each modality and class, numbered on."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for folder, ending in ENDINGS.items():
        for label in classes:
            (root / folder / label).mkdir(parents=True)
            for k in range(train + test):
                (root / folder / label / f"{k}.{ending}").write_text(f"A {label},\n number {k}.\n")
                lists["train" if k < train else "test"].append(f"{folder}/{label}/{k}.{ending}")
    (root / "categories.txt").write_text("\n".join(classes) + "\n")
    for name, files in lists.items():
        (root / f"{name}.txt").write_text("\n".join(files) + "\n")
    return xmedia.Settings(root=root, val=0.25)


def add(root: Path, name: str, *lines: str) -> None:
    with (root / name).open("a") as stream:
        stream.write("".join(f"{line}\n" for line in lines))


def fault(settings: xmedia.Settings) -> str:
    with pytest.raises(UserError) as caught:
        xmedia.read(settings, "media")
    return str(caught.value)


def test_items_labels_pairs_and_partitions(tmp_path):
    frame = xmedia.read(lay(tmp_path)).set_index("item_id")
    assert len(frame) == 5 * 2 * 6
    assert frame.loc["text/dog/3"].to_dict() == {
        "modality": "text",
        "group_id": "pair/dog/3",
        "label": "dog",
        "partition": frame.loc["image/dog/3"].partition,
        "source": "A dog, number 3.",
    }
    assert frame.loc["mesh/bird/5", ["modality", "group_id", "partition", "source"]].tolist() == [
        "mesh", "mesh/bird/5", "test", "3d/bird/5.off",
    ]  # fmt: skip
    counts = frame.groupby(["modality", "label", "partition"]).size()
    assert (counts.xs("train", level="partition") == 3).all()
    assert (counts.xs("val", level="partition") == 1).all()
    assert (counts.xs("test", level="partition") == 2).all()
    pairs = frame[frame.group_id.str.startswith("pair/")]
    assert set(pairs.groupby("group_id").modality.agg("+".join)) == {"image+text"}
    assert pairs.groupby("group_id").partition.nunique().eq(1).all()


def test_a_list_of_validation_files_is_taken_as_it_is(tmp_path):
    settings = lay(tmp_path)
    files = (tmp_path / "train.txt").read_text().split()
    (tmp_path / "train.txt").write_text("\n".join(f for f in files if "/0." not in f))
    (tmp_path / "val.txt").write_text("\n".join(f for f in files if "/0." in f))
    frame = xmedia.read(settings)
    assert frame.partition.value_counts().to_dict() == {"train": 30, "test": 20, "val": 10}
    assert frame.item_id[frame.partition == "val"].str.endswith("/0").all()


def test_some_modalities_and_folders_of_another_name(tmp_path):
    settings = lay(tmp_path)
    (tmp_path / "3d").rename(tmp_path / "models")
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace("3d/", "./models/"))
    chosen = settings.model_copy(update={"modalities": ("mesh", "audio"), "folders": {"mesh": "models"}})
    frame = xmedia.read(chosen)
    assert set(frame.modality) == {"mesh", "audio"}
    assert frame.source.str.startswith("models/").sum() == 12


def test_files_that_move_are_noticed(tmp_path):
    xmedia.make(lay(tmp_path / "raw"), tmp_path / "data/xmedia", title="XMedia")
    assert not changed(tmp_path / "data/xmedia")
    moved(tmp_path / "raw/audio/dog/1.wav")
    assert changed(tmp_path / "data/xmedia")


def test_prepared_folder_names_classes_lists_and_root(tmp_path):
    xmedia.make(lay(tmp_path / "raw"), tmp_path / "data", title="XMedia")
    manifest = json.loads((tmp_path / "data" / "items.json").read_text())
    assert manifest["classes"] == ["bird", "dog"]
    assert [one["file"] for one in manifest["annotations"]] == ["categories.txt", "train.txt", "test.txt"]
    frame = items.read(tmp_path / "data")
    root = items.root(tmp_path / "data")
    assert all((root / source).is_file() for source in frame.source[frame.modality != "text"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "image/dog/0.jpg",
            "train.txt: 1 file(s) are listed twice (keep one): 'image/dog/0.jpg' (entry 41), also entry 5",
        ),
        ("image/wolf/0.jpg", "1 file(s) have a class that categories.txt lacks: 'image/wolf/0.jpg' (entry 41)"),
        ("image/dog/99.jpg", "complete the folder or the list: image/dog/99.jpg"),
        ("photo/dog/0.jpg", "lie in no modality's folder (expected image, text, audio, video, 3d): 'photo/dog/0.jpg'"),
        ("image/dog.jpg", "are not FOLDER/CLASS/NAME.EXT: 'image/dog.jpg' (entry 41)"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, said):
    settings = lay(tmp_path)
    add(tmp_path, "train.txt", line)
    assert said in fault(settings)


def test_an_item_in_both_lists(tmp_path):
    settings = lay(tmp_path)
    add(tmp_path, "test.txt", "audio/dog/0.wav")
    assert "test.txt: 1 file(s) are listed twice (keep one): 'audio/dog/0.wav' (entry 21), also entry" in fault(
        settings
    )


def test_all_kinds_of_fault_are_told_at_once_and_many_are_counted(tmp_path):
    settings = lay(tmp_path)
    add(tmp_path, "train.txt", *(f"image/dog/{k}.jpg" for k in range(90, 98)), "image/cow/1.jpg")
    said = fault(settings)
    assert "9 file(s) are not in" in said
    assert "image/dog/94.jpg and 4 more" in said
    assert "have a class that categories.txt lacks: 'image/cow/1.jpg'" in said


def test_classes_that_cannot_be_learnt(tmp_path):
    settings = lay(tmp_path)
    add(tmp_path, "categories.txt", "wolf")
    files = (tmp_path / "train.txt").read_text().split()
    (tmp_path / "train.txt").write_text("\n".join(f for f in files if not f.startswith("video/dog")))
    assert "2 class(es) without a training item: 'wolf', 'dog' (video)" in fault(settings)


def test_pairs_that_lie_in_two_lists(tmp_path):
    settings = lay(tmp_path)
    for name, old, new in (
        ("train.txt", "text/dog/0.txt", "text/dog/5.txt"),
        ("test.txt", "text/dog/5.txt", "text/dog/0.txt"),
    ):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace(old, new))
    said = fault(settings)
    assert "2 pair(s) lie in more than one of the lists: dog/0, dog/5" in said
    assert "datasets.media.pairs: []" in said
    frame = xmedia.read(settings.model_copy(update={"pairs": ()}))
    assert (frame.group_id == frame.item_id).all()


def test_missing_folders_files_and_texts(tmp_path):
    gone = xmedia.Settings(root=tmp_path / "nowhere")
    assert "set datasets.media.root in params.yaml" in fault(gone)
    settings = lay(tmp_path)
    (tmp_path / "video").rename(tmp_path / "films")
    assert "lacks the folder(s) video;" in fault(settings)
    (tmp_path / "films").rename(tmp_path / "video")
    (tmp_path / "text/dog/1.txt").write_text(" \n")
    assert "1 file(s) are texts without a word: 'text/dog/1.txt'" in fault(settings)
    (tmp_path / "text/dog/1.txt").write_bytes(b"caf\xe9")
    assert "text/dog/1.txt: is no UTF-8 text" in fault(settings)
    (tmp_path / "text/dog/1.txt").write_text("A dog.")
    (tmp_path / "test.txt").unlink()
    assert "test.txt: not found" in fault(settings)
