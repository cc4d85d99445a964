"""The driver of the extractors, with one whose values are known: the bytes of a file and their sum."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal.core import console
from crossmodal.core.errors import UserError
from crossmodal.features.engine import extraction, store
from crossmodal.features.engine.extraction import Item, Recipe, Work

NAMES = [f"{n}.bin" for n in range(10)]


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for n, name in enumerate(NAMES):
        (folder / name).write_bytes(bytes([n, 2 * n, 100]))
    return folder


def items(names: list[str] = NAMES, modality: str = "audio") -> pd.DataFrame:
    parts = ["train"] * (len(names) - 2) + ["val", "test"]
    ids = [f"i{name}" for name in names]
    return pd.DataFrame({"item_id": ids, "modality": modality, "partition": parts, "source": names})


def load(item: Item) -> np.ndarray:
    if not item.path.exists():
        raise UserError(f"{item.path}: not found")
    values = np.frombuffer(item.path.read_bytes(), np.uint8)
    if len(values) != 3:
        raise UserError(f"{item.path}: has {len(values)} bytes, expected 3")
    return values.astype(np.float32)


class Run:
    """Runs the driver and counts what it reads."""

    def __init__(self, folder: Path, target: Path):
        self.folder, self.target, self.read = folder, target, []

    def __call__(self, frame=None, target=None, finish=None, depends=None, compute=np.stack, batch=2, **over):
        def counted(item: Item) -> np.ndarray:
            self.read.append(item.path.name)
            return load(item)

        settings = extraction.Settings(**{"shard": 4, **over})
        recipe = Recipe(lambda listed: Work(counted, compute, batch, {"device": "cpu"}), depends or {}, finish=finish)
        rows = items() if frame is None else frame
        target = target or self.target
        given = extraction.given_of(rows, self.folder, "audio", target.parent)
        extraction.extract(given, recipe, settings, target, extractor="image", threads=2)
        return store.open_features(target)


@pytest.fixture
def run(folder, tmp_path) -> Run:
    return Run(folder, tmp_path / "f" / "audio.bytes")


def test_values_and_manifest(run):
    found = run()
    assert np.array(found.array).tolist() == [[n, 2 * n, 100] for n in range(10)]
    assert found.array.dtype == np.float32
    assert found.manifest["skipped"] == []
    assert found.manifest["items_now"] == 10
    assert {"extractor", "settings", "identity", "versions", "hardware", "device", "sha256"} <= set(found.manifest)
    assert sorted(run.read) == sorted(NAMES)


def test_what_is_made_is_found_again(run, tmp_path):
    first = run()
    again = run(target=tmp_path / "f" / "audio.other")  # another data set with the same files
    assert again.manifest == first.manifest
    assert again.path.samefile(first.path)  # one copy on the disk
    assert len(run.read) == 10
    for name in NAMES:
        os.utime(run.folder / name)  # another time is no other file
    for path in store.paths(run.target):
        path.unlink()
    run()
    assert len(run.read) == 10
    run(depends={"weights_sha256": "of other weights"})
    assert len(run.read) == 20
    (run.folder / NAMES[0]).write_bytes(bytes([7, 7, 7]))
    assert np.array(run().array)[0].tolist() == [7, 7, 7]
    assert len(run.read) == 30


def test_links_of_a_verified_file_are_not_hashed_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "REMEMBERED", 1)
    run()
    hashed = []
    original = store.sha256_file
    monkeypatch.setattr(store, "sha256_file", lambda path: hashed.append(path) or original(path))
    for path in store.paths(run.target):
        path.unlink()
    run()
    run(target=tmp_path / "f" / "audio.other")
    store.open_features(run.target)
    assert hashed == []
    os.utime(store.paths(run.target)[0])  # of all its links
    store.open_features(tmp_path / "f" / "audio.other")
    assert [path.suffix for path in hashed] == [".npy"]


def test_a_changed_partition_is_another_input(run):
    run()
    frame = items().assign(partition="train")
    run(frame)
    assert len(run.read) == 20


def test_a_corrupted_store_is_not_handed_on(run, tmp_path):
    path = run().path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)  # the store's own file, by its hard link
    with pytest.raises(UserError, match="is corrupted"):
        store.open_features(run.target)
    assert np.array(run().array)[-1].tolist() == [9, 18, 100]
    assert len(run.read) == 20


def test_a_mended_file_costs_its_own_shard(run):
    (run.folder / NAMES[8]).write_bytes(b"")
    with pytest.raises(UserError, match=r"8\.bin: has 0 bytes, expected 3"):
        run()
    before = len(run.read)
    (run.folder / NAMES[8]).write_bytes(bytes([8, 16, 100]))
    assert np.array(run().array).tolist() == [[n, 2 * n, 100] for n in range(10)]
    assert sorted(run.read[before:]) == ["8.bin", "9.bin"]
    assert not list(run.target.parent.glob(".*.shards"))


@pytest.mark.parametrize("bad", [[1], [0, 1], [0, 1, 2, 3], [9]])
def test_bad_items_are_skipped_counted_and_told(run, caplog, bad):
    for n in bad:
        (run.folder / NAMES[n]).write_bytes(b"x") if n % 2 else (run.folder / NAMES[n]).unlink()

    def careful(arrays):
        assert arrays
        return np.stack(arrays), {"total": [int(a.sum()) for a in arrays]}

    found = run(on_error="skip", compute=careful)
    good = [n for n in range(10) if n not in bad]
    assert np.array(found.array).tolist() == [[n, 2 * n, 100] for n in good]
    assert found.index.item_id.tolist() == [f"i{n}.bin" for n in good]
    assert found.index.total.tolist() == [3 * n + 100 for n in good]
    assert [one["item_id"] for one in found.manifest["skipped"]] == [f"i{n}.bin" for n in bad]
    told = [one["reason"] for one in found.manifest["skipped"]]
    assert all("has 1 bytes" in reason or "not found" in reason for reason in told)
    assert f"{len(bad)} of 10 items are left out" in caplog.text
    with pytest.raises(UserError, match="on_error: skip"):  # the same features, for one that wants them whole
        run(on_error="stop")


def test_nothing_good(run):
    for name in NAMES:
        (run.folder / name).write_bytes(b"")
    with pytest.raises(UserError, match="not one item is good"):
        run(on_error="skip")
    with pytest.raises(UserError, match="no audio items"):
        run(items(modality="video"))


def test_numbers_that_are_none_or_do_not_fit(run):
    with pytest.raises(UserError, match=r"3\.bin: its features are not finite numbers \(device cpu\)"):
        run(compute=lambda arrays: np.stack([a / (a[0] != 3) for a in arrays]))
    found = run(dtype="float16", depends={"n": 1})
    assert found.array.dtype == np.float16
    assert np.array(found.array)[3].tolist() == [3, 6, 100]
    with pytest.raises(UserError, match="too large for float16; set `dtype: float32`"):
        run(dtype="float16", compute=lambda arrays: np.stack(arrays) * 1000, depends={"n": 2})


def test_a_last_step_over_the_whole_array(run):
    def centred(array, rows):
        mean = array[(rows.partition == "train").to_numpy()].mean(0)
        array -= mean
        return {"mean": mean.tolist()}

    found = run(finish=centred)
    assert found.manifest["mean"] == [3.5, 7, 100]
    assert np.array(found.array)[9].tolist() == [5.5, 11, 0]


def test_region_sets_and_list_columns(run):
    def compute(arrays):
        sets = np.stack([np.repeat(a[None], 4, 0) for a in arrays])
        return sets, {"count": [int(a[0]) % 4 for a in arrays], "boxes": [[[0.0, 1.0, 2.0, a[0]]] for a in arrays]}

    found = run(compute=compute)
    assert found.array.shape == (10, 4, 3)
    assert found.index["count"].tolist() == [n % 4 for n in range(10)]
    assert found.index.boxes[7][0].tolist() == [0, 1, 2, 7]


def test_the_same_file_whatever_the_shards_and_threads(run, tmp_path):
    one = run().path.read_bytes()
    two = Run(run.folder, tmp_path / "g" / "audio.bytes")
    assert two(shard=7).path.read_bytes() == one


def test_the_manifest_is_complete(run):
    run()
    told = json.loads(store.paths(run.target)[2].read_text())
    assert told["shape"] == [10, 3]
    assert told["settings"] == {"dtype": "float32"}
    assert told["index_sha256"]


def test_files_of_the_same_bytes_are_counted_listed_and_warned_of(run, folder, caplog):
    """The placeholder of a photograph that is gone, and an item of training that is tested as well."""
    for n in (1, 2):  # with the first one three in training
        (folder / NAMES[n]).write_bytes((folder / NAMES[0]).read_bytes())
    (folder / NAMES[9]).write_bytes((folder / NAMES[4]).read_bytes())  # of the test part
    found = run()
    ids = [f"i{name}" for name in NAMES]
    assert found.manifest["equal_files"] == {
        "items": 5,
        "files": 2,
        "items_across_partitions": 2,
        "listed": [[ids[4], ids[9]], ids[:3]],
    }
    assert "5 items are only 2 different files, 2 of them in more than one of train, val and test" in caplog.text


def test_different_files_and_files_that_are_gone_are_not_equal(run, folder):
    (folder / NAMES[0]).unlink()
    (folder / NAMES[1]).unlink()
    assert "equal_files" not in run(on_error="skip").manifest


def test_a_fallback_is_warned_of_before_and_with_its_time(run, monkeypatch, caplog):
    monkeypatch.setattr(console, "ESTIMATE", 0.0)
    with caplog.at_level(logging.INFO):
        run(depends={"fallback": "seeded random weights"})
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    name = run.target.name
    assert warned[0] == f"{name}: 10 items will be made of a fallback: seeded random weights"
    assert re.fullmatch(rf"{name}: about [\d.]+ s in all for this: seeded random weights", warned[1])
    assert len(warned) == 2
    caplog.clear()
    run(depends={"fallback": "seeded random weights"})  # found in the store
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]
