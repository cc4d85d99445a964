"""Rows read from a file without mapping it: the same as the array's, and no more of it in memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from crossmodal.core import rows as module
from crossmodal.core.errors import UserError
from crossmodal.core.files import write_json, write_parquet
from crossmodal.core.rows import Rows

BOUNDED = """
import sys, numpy as np
from crossmodal.features.engine import store
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
features = store.open_features(sys.argv[1], verify=False)
rng = np.random.default_rng(0)
features.gather(rng.integers(5000, size=64))
before = resident()
for _ in range(40):
    taken = rng.integers(5000, size=64)
    assert (features.gather(taken)[taken == 4321] == 7).all()
print(resident() - before)
for start in range(0, 2000, 64):
    features.array[rng.integers(5000, size=64)]
print(resident() - before)
"""


def opened(path, array):
    np.save(path, array)
    mapped = np.load(path, mmap_mode="r")
    return Rows(path, mapped.offset, mapped.shape, mapped.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("shape", [(50, 7), (50, 3, 7), (50, 0)])
def test_rows_are_the_arrays(tmp_path, dtype, shape, monkeypatch):
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    rows = opened(tmp_path / "a.npy", array)
    for alone in (2**20, 16):  # by one thread and by several
        monkeypatch.setattr(module, "ALONE", alone)
        for taken in ([3], [], range(50), [49, 0, 1, 2, 2, 3, 48], np.random.default_rng(1).integers(50, size=200)):
            found = rows.read(np.array(taken, dtype=np.int64))
            assert found.dtype == dtype
            assert np.array_equal(found, array[np.array(taken, dtype=int)])
    out = np.empty((2, *shape[1:]), dtype)
    assert rows.read(np.array([9, 8]), out) is out
    assert np.array_equal(out, array[[9, 8]])
    for wrong in ([-1], [50], [3, -1], [50, 0], [-51]):
        with pytest.raises(IndexError):
            rows.read(np.array(wrong))
    with pytest.raises(ValueError, match="buffer of 2 rows"):
        rows.read(np.array([0, 1]), np.empty((3, *shape[1:]), dtype))


def test_a_file_cut_short_after_opening(tmp_path):
    rows = opened(tmp_path / "a.npy", np.ones((50, 7), np.float32))
    with (tmp_path / "a.npy").open("r+b") as stream:
        stream.truncate(800)
    assert rows.read(np.array([3])).tolist() == [[1] * 7]
    with pytest.raises(UserError, match="has been cut short"):
        rows.read(np.array([49]))


def test_the_place_of_an_array_and_its_first_number(tmp_path):
    values = np.arange(6).reshape(3, 2)
    for name, first in (("a.mat", 1), ("A.MAT", 1), ("a.npy", 0), ("a.h5", 0)):  # MATLAB counts from 1
        plain, turned = (module.in_memory(tmp_path / name, "x", values, columns) for columns in (False, True))
        assert plain.first == first
        assert plain.where == f"{tmp_path / name}#x"
        assert (len(plain), plain.shape, plain[2].tolist()) == (3, (3, 2), [4, 5])
        assert (len(turned), turned.shape, turned[1].tolist()) == (2, (2, 3), [1, 3, 5])
        assert turned.all().tolist() == values.T.tolist()
    assert module.in_memory(tmp_path / "a.npy", "", values, False).where == str(tmp_path / "a.npy")
    with pytest.raises(UserError, match=r"a\.npy: holds a single value, expected one per item"):
        module.in_memory(tmp_path / "a.npy", "", np.array(5.0), False)


def test_which_array_is_meant(tmp_path):
    assert module.named(tmp_path, "b", ["a", "b"]) == "b"
    assert module.named(tmp_path, "", ["a"]) == "a"
    for name, names, words in (
        ("", [], "holds no arrays"),
        ("a", [], "holds no arrays"),
        ("", ["b", "a"], "holds several arrays; name one of them: a, b"),
        ("c", ["a"], r"has no array 'c'; \(known: a\)"),
    ):
        with pytest.raises(UserError, match=words):
            module.named(tmp_path, name, names)


def test_what_damaged_files_raise_is_one_line(tmp_path):
    for error, words in ((ValueError("odd\n  header"), r"\(odd header\)"), (KeyError(), r"\(KeyError\)")):
        with pytest.raises(UserError, match=rf"is truncated or damaged {words}"), module.readable(tmp_path / "x"):
            raise error
    for error in (UserError("told"), FileNotFoundError("x"), PermissionError("x")):  # whoever opens it reports these
        with pytest.raises(type(error)) as caught, module.readable(tmp_path / "x"):
            raise error
        assert caught.value is error


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_file_of_regions_does_not_become_resident(tmp_path):
    """1.5 GB of 5,000 sets, of which 750 MB are drawn: mapped they stay, read they do not."""
    array = np.lib.format.open_memmap(tmp_path / "image.r.npy", "w+", np.float32, (5000, 36, 2048))  # sparse
    array[4321] = 7
    array.flush()
    del array
    facts = {"shape": [5000, 36, 2048], "dtype": "float32"}
    write_parquet(tmp_path / "image.r.parquet", pd.DataFrame({"item_id": ["a"], "row": [0]}))
    write_json(tmp_path / "image.r.json", facts)
    command = [sys.executable, "-c", BOUNDED, str(tmp_path / "image.r")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    read, mapped = (int(kib) / 1024 for kib in done.stdout.split())
    assert read < 300
    assert mapped > 300  # or the measurement says nothing
