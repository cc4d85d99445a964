"""Pascal Sentence: photographs and sentences in class folders, and each fault's message."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets import items, pascal


def lay(root: Path, count: int = 6) -> pascal.Settings:
    for label in ("bus", "cat", "cow"):
        (root / "dataset" / label).mkdir(parents=True)
        (root / "sentence" / label).mkdir(parents=True)
        for k in range(count):
            (root / "dataset" / label / f"2008_{k}.jpg").write_bytes(b"")
            (root / "sentence" / label / f"2008_{k}.txt").write_text(f"A {label}.\n\nNumber  {k}.\n")
    return pascal.Settings(root=root, test=2, val=0.25)


def fault(settings: pascal.Settings) -> str:
    with pytest.raises(UserError) as caught:
        pascal.read(settings, "photos")
    return str(caught.value)


def test_a_photograph_and_its_joined_sentences_are_a_pair(tmp_path):
    frame = pascal.read(lay(tmp_path)).set_index("item_id")
    assert len(frame) == 2 * 3 * 6
    assert frame.loc["text/cow/2008_4", ["modality", "group_id", "label", "source"]].tolist() == [
        "text", "cow/2008_4", "cow", "A cow. Number 4.",
    ]  # fmt: skip
    assert frame.loc["image/cow/2008_4"].source == "dataset/cow/2008_4.jpg"
    counts = frame.groupby(["modality", "label", "partition"]).size()
    assert (counts.xs("test", level="partition") == 2).all()
    assert (counts.xs("val", level="partition") == 1).all()
    assert (counts.xs("train", level="partition") == 3).all()
    assert frame.groupby("group_id").partition.nunique().eq(1).all()


def test_sentences_may_stand_for_themselves(tmp_path):
    frame = pascal.read(lay(tmp_path).model_copy(update={"joined": False}))
    texts = frame[frame.modality == "text"]
    assert len(texts) == 36
    assert texts.source[texts.group_id == "bus/2008_0"].tolist() == ["A bus.", "Number 0."]


def test_the_choice_follows_from_the_seed(tmp_path):
    settings = lay(tmp_path)
    parts = pascal.read(settings).partition
    assert pascal.read(settings).partition.equals(parts)
    assert not pascal.read(settings.model_copy(update={"seed": 1})).partition.equals(parts)


def test_prepared_folder(tmp_path):
    pascal.make(lay(tmp_path / "raw"), tmp_path / "data", title="Pascal Sentence")
    frame = items.read(tmp_path / "data")
    root = items.root(tmp_path / "data")
    assert all((root / source).is_file() for source in frame.source[frame.modality == "image"])


def test_faults(tmp_path):
    assert "set datasets.photos.root" in fault(pascal.Settings(root=tmp_path / "nowhere"))
    settings = lay(tmp_path)
    assert "'bus' (6), 'cat' (6), 'cow' (6); lower datasets.photos.test" in fault(
        settings.model_copy(update={"test": 6})
    )
    (tmp_path / "sentence/cat/2008_1.txt").unlink()
    (tmp_path / "sentence/cat/2008_2.txt").write_text("\n")
    assert "2 of 18 files of sentences are missing or empty: cat/2008_1.txt, cat/2008_2.txt" in fault(settings)
    (tmp_path / "dataset/cat/2008_3.png").write_bytes(b"")
    assert "2008_3.png have the same name" in fault(settings)
