"""Random numbers in the place of what is published: warned of when a run begins, kept in its manifest, or refused."""

from __future__ import annotations

import logging

import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, write_json, write_parquet
from crossmodal.experiments import Job
from crossmodal.runs.train import train_job

ABOUT = {"dataset": "kinds", "split": "full", "seed": 0, "relevance": "label", "inputs": {"image": "raw"}}
WORDS = {"inverse_penalty": 1.0, "class_vectors": "words", "word_vectors": "seeded"}


@pytest.fixture
def described(labelled, tmp_path, monkeypatch):
    """The toy data with a table of classes, and features that say that they stand for something better."""
    monkeypatch.chdir(tmp_path)
    table = {"label": list("abcdef"), "seen": [True] * 6, "text": [f"wings of {x}" for x in "abcdef"]}
    write_parquet(labelled / "kinds" / "classes.parquet", pd.DataFrame({**table, "attributes": [[1.0, 2.0]] * 6}))
    manifest = labelled / "kinds" / "features" / "image.raw.json"
    before = read_json(manifest)
    write_json(manifest, {**before, "fallback": "seeded random weights"})
    yield labelled
    write_json(manifest, before)


@pytest.mark.parametrize("scale", ["embedded", "full"])
def test_every_fallback_is_named_first_and_in_the_manifest(described, tmp_path, caplog, scale):
    job = Job(**ABOUT, model="conse", settings=WORDS, scale=scale)
    with caplog.at_level(logging.INFO):
        train_job(job, tmp_path / "run", described)
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert manifest["fallbacks"] == [
        "image features of raw: seeded random weights",
        "class vectors: seeded random vectors of the words of each class's text",
    ]
    assert manifest["scale"] == scale
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned[:2] == [f"kinds/full/conse/seed0: fallback: {what}" for what in manifest["fallbacks"]]
    begun = [record.getMessage() for record in caplog.records].index(warned[1])
    assert "training pairs" in caplog.records[begun + 1].getMessage()


def test_items_that_are_left_out_or_alike_are_named(described, tmp_path):
    manifest = described / "kinds" / "features" / "image.raw.json"
    about = read_json(manifest)
    (count, *_) = about.pop("shape")
    equal = {"items": 4, "files": 2, "items_across_partitions": 2, "listed": [["a", "b"]]}
    skipped = [{"item_id": "gone", "reason": "is cut off"}] * 3
    write_json(manifest, {**about, "shape": [count, *_], "skipped": skipped, "equal_files": equal})
    train_job(Job(**ABOUT, model="conse", settings=WORDS), tmp_path / "run", described)
    assert read_json(tmp_path / "run" / "manifest.json")["fallbacks"][1:3] == [
        f"image features of raw: 3 of {count + 3} items cannot be read and are left out with the items of their groups",
        "image features of raw: 4 items are only 2 different files, 2 of them in more than one of train, val and test",
    ]


def test_warnings_of_items_are_named(described, tmp_path):
    write_json(described / "kinds" / "items.json", {"warnings": ["its labels are odd"]})
    try:
        train_job(Job(**ABOUT, model="conse", settings=WORDS), tmp_path / "run", described)
    finally:
        (described / "kinds" / "items.json").unlink()
    assert read_json(tmp_path / "run" / "manifest.json")["fallbacks"][0] == "items of kinds: its labels are odd"


def test_what_stands_for_nothing_is_not_named(labelled, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(**ABOUT | {"inputs": {"image": "raw", "text": "raw"}}, model="cca", settings={"components": 2})
    train_job(job, tmp_path / "run", labelled)
    assert read_json(tmp_path / "run" / "manifest.json")["fallbacks"] == []
    assert "fallback" not in caplog.text


def test_a_run_of_scale_full_asks_for_them(tmp_path):
    """Before any data are opened: there are none."""
    job = Job(**ABOUT | {"relevance": "group"}, model="a3vse", settings={}, scale="full")
    with pytest.raises(UserError, match=r"models\.a3vse\.word_embedding: not set"):
        train_job(job, tmp_path / "run", tmp_path)
    for change in ({"settings": {"word_embedding": "seeded"}}, {"scale": "embedded"}):
        asked = job.model_copy(update=change)
        with pytest.raises(UserError, match=r"items\.parquet: not found"):
            train_job(asked, tmp_path / "run", tmp_path)
