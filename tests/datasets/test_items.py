"""The contract of `items.parquet`: what it accepts, what it refuses, and that it comes last."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from crossmodal.datasets import items
from crossmodal.errors import UserError
from crossmodal.files import sha256_file


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
