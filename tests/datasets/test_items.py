"""The contract of `items.parquet`: what it accepts, what it refuses, and that it comes last."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from PIL import Image

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, sha256_file
from crossmodal.datasets import items


def frame(**columns) -> pd.DataFrame:
    base = {
        "item_id": ["a", "b", "a#0", "b#0"],
        "modality": ["image", "image", "text", "text"],
        "group_id": ["a", "b", "a", "b"],
        "label": [None] * 4,
        "partition": ["train", "test", "train", "test"],
        "source": ["a.jpg", "b.jpg", "a dog", "a cat"],
    }
    return pd.DataFrame(base | columns)


def test_written_items_are_read_back_the_same(tmp_path):
    (tmp_path / "raw").mkdir()
    items.write(frame(), tmp_path, {"root": "raw"})
    back = items.read(tmp_path)
    assert back.columns.tolist() == list(items.COLUMNS)
    assert back.source.tolist() == ["a.jpg", "b.jpg", "a dog", "a cat"]
    assert back.label.isna().all()
    assert items.root(tmp_path) == tmp_path / "raw"
    manifest = json.loads((tmp_path / "items.json").read_text())
    assert manifest["sha256"] == sha256_file(tmp_path / "items.parquet")
    assert manifest["counts"] == {"image/train": 1, "image/test": 1, "text/train": 1, "text/test": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.json", "items.parquet", "raw"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"item_id": ["a", "a", "a#0", "b#0"]}, "listed twice, such as 'a'"),
        ({"modality": ["image", "smell", "text", "text"]}, "modality 'smell'"),
        ({"partition": ["train", "exam", "train", "exam"]}, "partition 'exam'"),
        ({"partition": ["train", "test", "test", "test"]}, "more than one partition, such as 'a'"),
        ({"source": ["a.jpg", " ", "a dog", "a cat"]}, "1 row(s) lack"),
        ({"group_id": ["a", None, "a", "b"]}, "1 row(s) lack"),
    ],
)
def test_a_broken_contract_is_named(columns, said):
    with pytest.raises(UserError) as caught:
        items.validate(frame(**columns), "x/items.parquet")
    assert str(caught.value).startswith("x/items.parquet: ")
    assert said in str(caught.value)


def test_a_missing_column_and_an_empty_table_are_named():
    with pytest.raises(UserError, match=r"lacks the column\(s\) label, source"):
        items.validate(frame().drop(columns=["label", "source"]), "x")
    with pytest.raises(UserError, match="holds no items"):
        items.validate(frame().iloc[:0], "x")


def test_no_table_without_its_manifest(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("killed")

    monkeypatch.setattr(items, "write_json", full)
    with pytest.raises(OSError, match="killed"):
        items.write(frame(), tmp_path, {"root": "raw"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "not found"), ("{", "not valid JSON"), ("[]", "names no `root`"), ('{"root": "gone"}', "gone")],
)
def test_a_root_that_cannot_be_told_is_an_error(tmp_path, text, said):
    if text is not None:
        (tmp_path / "items.json").write_text(text)
    with pytest.raises(UserError, match=said):
        items.root(tmp_path)


def frame_of(**labels):
    rows = [("image", part, str(label)) for part, of in labels.items() for label in of]
    return pd.DataFrame(rows, columns=["modality", "partition", "label"], dtype="string")


def test_other_classes_in_test_are_no_other_count():
    assert items.labels_apart(frame_of(train=range(40), test=range(40, 50))) == []
    assert items.labels_apart(frame_of(train=range(1, 5), test=[2, 3])) == []
    assert items.labels_apart(frame_of(train=["a", "b"], test=["1"])) == []
    assert items.labels_apart(frame_of(test=range(3))) == []
    assert len(items.labels_apart(frame_of(train=range(5), val=range(5), test=range(1, 6)))) == 1


def test_labels_counted_from_another_number_are_warned_of_whatever_the_reader(tmp_path, caplog):
    """Items of several labels among them, as they come out of a table of one's own."""
    from crossmodal.datasets import table

    (tmp_path / "images").mkdir()
    lines = []
    for part, first, count in (("train", 1, 8), ("val", 1, 4), ("test", 0, 4)):
        for n in range(count):
            (tmp_path / "images" / f"{part}{n}.jpg").touch()
            label = [str(first + k % 4) for k in ((n, n + 1) if n % 2 else (n,))]
            lines.append({"image": f"{part}{n}.jpg", "caption": "a dog", "split": part, "label": label})
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    columns = {"partition": "split", "label": "label"}
    given = {"images": tmp_path / "images", "annotations": tmp_path / "mine.jsonl", "columns": columns}
    table.make(table.Settings(**given), tmp_path / "data/mine", title="Mine")
    told = read_json(tmp_path / "data/mine/items.json")["warnings"]
    assert [one.split(":")[0] for one in told] == [
        "the labels of image items of test are 0 to 3, those of image items of train 1 to 4",
        "the labels of text items of test are 0 to 3, those of image items of train 1 to 4",
    ]
    assert told[0] in caplog.text


def test_names_that_are_no_text_and_half_characters_are_one_line(tmp_path):
    frame = pd.DataFrame([["\udcff.jpg", "image", "a", None, "train", "x.jpg"]], columns=list(items.COLUMNS))
    with pytest.raises(UserError, match=r"item_id '\\udcff\.jpg' is no text in UTF-8; rename the file"):
        items.validate(frame, "here")
    assert items.labels_of(r'["\ud800", "b"]') == [r'["\ud800", "b"]']  # as a name that merely looks like a list
    assert items.labels_of(r'["\ud83d\ude00", "b"]') == ["\N{GRINNING FACE}", "b"]


def test_what_was_prepared_is_counted(caplog, tmp_path):
    """Image `a` has two captions and `b` has one: three pairs."""
    added = {"item_id": "a#1", "modality": "text", "group_id": "a", "partition": "train", "source": "a hound"}
    labels = ["dog", "cat", '["cat", "dog"]', None, None]
    table = pd.concat([frame(), pd.DataFrame([added])], ignore_index=True).assign(label=labels)
    caplog.set_level("INFO")
    items.write(table, tmp_path, {"root": "raw"})
    expected = "image 2 (1 train, 1 test); text 3 (2 train, 1 test); 3 pairs of an image and a text; 2 classes"
    assert items.summary(items.read(tmp_path)) == expected
    assert f"{tmp_path / 'items.parquet'}: {expected}" in caplog.text


def test_a_picture_that_is_none_is_named_when_it_is_prepared(tmp_path):
    (tmp_path / "raw").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "raw/a.jpg")
    (tmp_path / "raw/b.jpg").write_text("no picture")
    items.write(frame(), tmp_path, {"root": "raw"})
    (error,) = items.unopened(tmp_path)
    assert error.startswith(f"{tmp_path / 'raw/b.jpg'}: is truncated or no image")
