"""Cached features: what was saved is read back, and what was harmed is noticed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from crossmodal.core.errors import UserError
from crossmodal.features.engine import store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Four vectors of three numbers; the name has a dot, as the pipeline's have."""
    target = tmp_path / "image.small"
    np.save(f"{target}.npy", np.arange(12, dtype=np.float32).reshape(4, 3))
    store.save(target, ["d", "a", "c", "b"], {"extractor": "none"})
    return target


def test_round_trip(target):
    features = store.open_features(target)
    assert isinstance(features.array, np.memmap)
    assert not features.array.flags.writeable
    rows = features.rows(["b", "d", "b"])
    assert rows.dtype == np.int64
    assert rows.tolist() == [3, 0, 3]
    assert features.array[rows].tolist() == [[9, 10, 11], [0, 1, 2], [9, 10, 11]]
    assert features.manifest["shape"] == [4, 3]
    assert features.manifest["dtype"] == "float32"
    assert features.manifest["extractor"] == "none"
    assert target.with_name("image.small.json").is_file()


def test_region_sets(tmp_path):
    array = np.random.default_rng(0).random((5, 36, 8), np.float32)
    np.save(tmp_path / "image.regions.npy", array)
    store.save(tmp_path / "image.regions", list("abcde"), {})
    assert np.array_equal(store.open_features(tmp_path / "image.regions").array, array)


def test_an_item_without_a_row(target):
    with pytest.raises(UserError, match=r"image\.small\.npy: has no features of 1 of 2 items, such as 'z'"):
        store.open_features(target).rows(["a", "z"])


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".json"])
def test_a_missing_file(target, suffix):
    Path(f"{target}{suffix}").unlink()
    with pytest.raises(UserError, match=rf"image\.small\{suffix}: not found"):
        store.open_features(target)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_array(target, length):
    path = Path(f"{target}.npy")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"image\.small\.npy: is truncated"):
        store.open_features(target, verify=False)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_one_flipped_bit(target, suffix):
    path = Path(f"{target}{suffix}")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"image\.small\{suffix}: is corrupted"):
        store.open_features(target)


def test_another_array_in_its_place(target):
    np.save(f"{target}.npy", np.zeros((4, 2), np.float32))
    with pytest.raises(UserError, match=r"\[4, 2\].*its manifest says \(\[4, 3\]"):
        store.open_features(target, verify=False)
    np.save(f"{target}.npy", np.zeros((4, 3), np.float64))
    with pytest.raises(UserError, match="float64"):
        store.open_features(target, verify=False)


def test_a_broken_manifest(target):
    Path(f"{target}.json").write_text('{"shape": [4,')
    with pytest.raises(UserError, match=r"image\.small\.json: is not valid JSON"):
        store.open_features(target)
    Path(f"{target}.json").write_text(json.dumps({"shape": [4, 3], "dtype": "float32"}))
    with pytest.raises(UserError, match="is corrupted"):
        store.open_features(target)


def test_what_cannot_be_saved(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(UserError, match="'a' occurs twice"):
        store.save(tmp_path / "x", ["a", "a"], {})
    with pytest.raises(ValueError, match="2 rows for 3 items"):
        store.save(tmp_path / "x", ["a", "b", "c"], {})
    assert not (tmp_path / "x.json").exists()


def test_gathered_rows_are_the_arrays(target):
    features = store.open_features(target)
    assert features.gather(features.rows(["b", "d", "b"])).tolist() == [[9, 10, 11], [0, 1, 2], [9, 10, 11]]
    assert features.index.item_id.tolist() == ["d", "a", "c", "b"]
    assert features.counts.tolist() == [3] * 4


@pytest.fixture
def hashed(target, monkeypatch):
    """The store with every file large and long unchanged; and the files that have been hashed since."""
    monkeypatch.setattr(store, "REMEMBERED", 1)
    for path in store.paths(target):
        os.utime(path, ns=(10**18, 10**18))
    names = []
    original = store.sha256_file
    monkeypatch.setattr(store, "sha256_file", lambda path: names.append(Path(path).suffix) or original(path))
    return names


def test_a_verified_file_is_not_hashed_again(target, hashed):
    store.open_features(target)
    assert hashed == [".npy", ".parquet"]
    store.open_features(target)
    assert hashed == [".npy", ".parquet"]


@pytest.mark.parametrize("change", ["bytes", "time", "copy", "shorter record", "another hash", "small"])
def test_any_change_verifies_again(target, hashed, change, monkeypatch):
    store.open_features(target)
    path = Path(f"{target}.npy")
    record = path.with_name(f".{path.name}.verified")
    if change == "bytes":
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    elif change == "time":
        os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    elif change == "copy":  # the same name, size and time, but another file
        shutil.copy2(path, f"{path}.new")
        Path(f"{path}.new").replace(path)
    elif change == "shorter record":
        record.write_text(record.read_text()[:-5])
    elif change == "another hash":
        manifest = json.loads(Path(f"{target}.json").read_text())
        Path(f"{target}.json").write_text(json.dumps({**manifest, "sha256": "0" * 64}))
    else:
        monkeypatch.setattr(store, "REMEMBERED", 10**6)
    hashed.clear()
    if change in ("bytes", "another hash"):
        for _ in range(2):  # and again: what is bad is not remembered
            with pytest.raises(UserError, match="is corrupted"):
                store.open_features(target)
    else:
        store.open_features(target)
    assert hashed.count(".npy") == (2 if change in ("bytes", "another hash") else 1)


def test_a_file_changed_just_now_is_not_remembered(target, hashed):
    os.utime(f"{target}.npy")
    store.open_features(target)
    store.open_features(target)
    assert hashed.count(".npy") == 2


def test_a_folder_that_may_only_be_read(target, hashed, monkeypatch):
    def refused(path, value):
        raise UserError(f"{path}: cannot be written")

    monkeypatch.setattr(store, "write_json", refused)
    store.open_features(target)
    store.open_features(target)
    assert hashed.count(".npy") == 2


@pytest.mark.parametrize(
    "identity",
    ["../out", "{here}/out", "a\0b", "x" * 10**7, "..", ".", "", "ABCDEF0123456789"],
    ids=lambda text: text[:9],
)
def test_an_identity_of_others_is_no_path(target, hashed, identity):
    """A manifest from others named any folder, in which a record was then written, or a name too long for any."""
    out = target.parent / "out"
    out.mkdir()
    os.link(f"{target}.npy", out / "features.npy")
    manifest = json.loads(Path(f"{target}.json").read_text()) | {"identity": identity.format(here=target.parent)}
    Path(f"{target}.json").write_text(json.dumps(manifest))
    (target.parent / ".features" / "x").mkdir(parents=True)
    assert len(store.open_features(target).array) == 4
    assert [path.name for path in out.iterdir()] == ["features.npy"]
    assert target.with_name(f".{target.name}.npy.verified").is_file()


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.write_text("[" * 10**5), lambda path: path.mkdir()])
def test_a_record_that_is_none_is_passed_over(target, hashed, plant):
    record = target.with_name(f".{target.name}.npy.verified")
    plant(record)
    assert len(store.open_features(target).array) == 4
    assert hashed == [".npy", ".parquet"]
