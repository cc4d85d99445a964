"""Files that are written whole or not at all, and hashes that follow from content alone."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crossmodal.core import console, files, limits
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, read_lines
from crossmodal.experiments import read_yaml


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_only_when_the_block_has_ended(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with files.atomic_write(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == target.parent  # else it could not be renamed
        assert temporary.name.startswith(".")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(target.parent) == ["b.txt"]


def test_who_reads_the_old_file_reads_all_of_it(tmp_path):
    """The name is given to another file; nothing is written into the one that is open."""
    target = tmp_path / "b.txt"
    target.write_text("old and long")
    with target.open() as stream:
        with files.atomic_write(target) as temporary:
            temporary.write_text("new")
        assert stream.read() == "old and long"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(1)])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "b.txt"
    target.write_text("old")

    def write():
        with files.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["b.txt"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_write(tmp_path / "b.txt"):
        pass
    assert names(tmp_path) == []


def test_processes_do_not_share_a_temporary_name(tmp_path, monkeypatch):
    with files.atomic_write(tmp_path / "b.txt") as one:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with files.atomic_write(tmp_path / "b.txt") as other:
            assert one != other
            one.write_text("one")
            other.write_text("other")
    assert (tmp_path / "b.txt").read_text() == "one"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.EPERM, "permission is denied"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EISDIR, "is a folder"),
        (errno.ENOTDIR, "a part of its path is a file"),
        (errno.EEXIST, "a part of its path is a file"),
        (errno.ELOOP, "in a circle"),
    ],
)
def test_a_disk_that_refuses_is_told(tmp_path, number, words):
    assert words in files.reason(OSError(number, "x"))
    for error in (OSError(number, "x"), RuntimeError(f"I/O error: refused (os error {number})")):
        with (
            pytest.raises(UserError, match=rf"b\.txt: cannot be written: .*{words}"),
            files.atomic_write(tmp_path / "b.txt"),
        ):
            raise error


def test_other_errors_are_left_as_they_are(tmp_path):
    assert files.reason(OSError(errno.ENOENT, "x")) is None
    assert files.reason(OSError("no number")) is None
    for error in (OSError(errno.EIO, "x"), RuntimeError("os error 5"), RuntimeError("other")):
        with pytest.raises(type(error)) as caught, files.atomic_write(tmp_path / "b.txt"):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(("free", "told"), [(2**16 - 1, True), (2**16, False), (2**40, False)])
def test_a_full_disk_is_told_where_the_error_does_not_say_so(tmp_path, monkeypatch, free, told):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(2**40, 0, free))
    with pytest.raises(UserError if told else RuntimeError), files.atomic_write(tmp_path / "b.txt"):
        raise RuntimeError("could not write")


def test_json_is_sorted_and_ends_with_a_line(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"b": [1, None], "a": "ö"})
    one = path.read_bytes()
    files.write_json(path, {"a": "ö", "b": [1, None]})
    assert path.read_bytes() == one
    assert one.endswith(b"}\n")
    assert one.index(b'"a"') < one.index(b'"b"')
    assert files.read_json(path) == {"a": "ö", "b": [1, None]}


def test_json_that_cannot_be_written_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert files.read_json(path) == {"a": 1}
    assert names(tmp_path) == ["x.json"]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"no\.json: not found"):
        files.read_json(tmp_path / "no.json")
    for content in (b'{"a": ', b"\xff\xfe", b""):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.json: is not valid JSON"):
            files.read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"no\.parquet: not found; the step that makes it has not run"):
        files.read_parquet(tmp_path / "no.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"x\.parquet: cannot be read as Parquet"):
        files.read_parquet(tmp_path / "x.parquet")


def test_lines_end_at_line_feeds_alone(tmp_path):
    """What else `str.splitlines` cuts at stands inside of sentences from the web."""
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\rj"
    (tmp_path / "a.txt").write_bytes(f"\ufeff{odd}\r\n\nlast".encode())
    assert read_lines(tmp_path / "a.txt") == [odd, "", "last"]
    (tmp_path / "a.txt").write_bytes(b"one\n")
    assert read_lines(tmp_path / "a.txt") == ["one"]
    (tmp_path / "a.txt").write_bytes(b"")
    assert read_lines(tmp_path / "a.txt") == []


def test_a_byte_order_mark_is_no_part_of_a_value(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_frames_come_back(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 7])
    files.write_parquet(tmp_path / "x.parquet", frame)
    found = files.read_parquet(tmp_path / "x.parquet")
    assert list(found.columns) == ["a", "b"]
    assert found.index.tolist() == [0, 1]  # the index is not kept
    assert found.a.tolist() == [1, 2]
    assert found.b.isna().tolist() == [False, True]
    assert list(files.read_parquet(tmp_path / "x.parquet", columns=["b"]).columns) == ["b"]


def test_hashes_are_sha256(tmp_path):
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (files.sha256_bytes(b""), files.sha256_bytes(b"abc")) == (empty, abc)
    for content in (b"", b"abc", bytes(range(256)) * 5000):
        (tmp_path / "x").write_bytes(content)
        assert files.sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_hashes_of_values_follow_from_their_content():
    value = {"a": {"x": [1, 2.5, None], "y": "text"}, "b": True}
    same = {"b": True, "a": {"y": "text", "x": [1, 2.5, None]}}
    assert files.sha256_json(value) == files.sha256_json(same)
    assert files.sha256_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    others = [
        {"a": {"x": [2, 1, None], "y": "text"}, "b": True},  # the order of a list counts
        {"a": {"x": [1, 2.5, None], "y": "text"}, "b": "True"},
        {"a": {"x": [1, 2.5, None], "y": "text"}},
        {"a": {"x": [1, 2.5, None], "z": "text"}, "b": True},
    ]
    assert len({files.sha256_json(one) for one in [value, *others]}) == 5
    assert files.sha256_json(Path("a/b")) == files.sha256_json("a/b")


def test_versions_of_what_is_installed():
    found = files.library_versions("numpy", "pandas")
    assert list(found) == ["python", "numpy", "pandas"]
    assert found["numpy"] == np.__version__
    assert found["python"].count(".") == 2


def test_commit_of_a_checkout(tmp_path):
    def git(*words):
        who = ("-c", "user.name=n", "-c", "user.email=e@x")
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert files.commit(tmp_path) == ""  # no checkout
    assert files.commit(tmp_path / "nowhere") == ""
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    git("tag", "-am", "v", "v1")
    head = git("rev-parse", "HEAD")
    assert files.commit(tmp_path) == head[:12]
    (tmp_path / "untracked").write_text("1")
    assert files.commit(tmp_path) == head[:12]
    (tmp_path / "a").write_text("2")
    assert files.commit(tmp_path) == f"{head[:12]} and changes"


def test_peak_memory_is_of_this_process_in_mib():
    program = (
        "from crossmodal.core import files; first = files.peak_memory_mib(); block = bytearray(b'1') * (300 << 20);"
        "del block; print(first, files.peak_memory_mib())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, peak = map(float, done.stdout.split())
    assert 5 < first < 500
    assert 293 < peak - first < 305  # 307 in units of 1000 kB


STATUS = "Name:\tpython\nVmPeak:\t  999999 kB\nVmHWM:\t    3072 kB\nVmRSS:\t 1024 kB\n"


def test_peak_memory_as_each_system_counts_it(monkeypatch):
    """Linux tells it in units of 1024 bytes, in /proc and to `getrusage`, macOS in bytes."""
    import resource

    monkeypatch.setattr(files, "Path", lambda path: SimpleNamespace(read_text=lambda: STATUS))
    assert files.peak_memory_mib() == 3.0

    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(files, "Path", missing)
    for system, peak in (("linux", 5120), ("darwin", 5 * 1024 * 1024)):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(resource, "getrusage", lambda who, peak=peak: SimpleNamespace(ru_maxrss=peak))
        assert files.peak_memory_mib() == 5.0


def test_a_graphics_card_is_part_of_the_machine_where_one_can_be_used(monkeypatch):
    for usable, expected in ((True, {"gpu": "H200"}), (False, {})):
        cuda = SimpleNamespace(is_available=lambda usable=usable: usable, get_device_name=lambda: "H200")
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        found = files.hardware()
        assert {key: value for key, value in found.items() if key == "gpu"} == expected
    monkeypatch.delitem(sys.modules, "torch")  # what has not been imported is not imported for this
    assert "gpu" not in files.hardware()
    assert "torch" not in sys.modules


def test_the_processor_is_the_first_that_the_system_lists(monkeypatch):
    lines = "processor\t: 0\nmodel name\t: A: 3 GHz \nprocessor\t: 1\nmodel name\t: B\n"
    monkeypatch.setattr(files, "Path", lambda path: SimpleNamespace(read_text=lambda: lines))
    assert files.hardware()["cpu"] == "A: 3 GHz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", True), ("9" * 18, True), ("9" * 19, False), ("", False), ("-1", False), ("1.0", False), ("\u0663", False)],
)
def test_counts_fit_64_bits(text, expected):
    """2^63 - 1 has 19 digits, so that every number of 18 fits; digits of other scripts are none."""
    assert files.is_count(text) is expected
    if text.isascii():
        assert files.is_count(text.encode()) is expected


def test_a_record_has_at_most_the_bytes_of_the_limit(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 12}')  # nine bytes
    limits.use(limits.Limits(record_bytes=9))
    assert files.read_record(path) == {"a": 12}
    limits.use(limits.Limits(record_bytes=8))
    with pytest.raises(UserError, match=r"x\.json: has 9 bytes, expected at most 8 \(`limits\.record_bytes`"):
        files.read_record(path)
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"x\.json: expected an object, found list"):
        files.read_record(path)


def test_halves_of_characters_are_no_text(tmp_path):
    r"""`\ud83d\ude00` is one character; either half alone could be read, but never be written as UTF-8."""
    assert files.json_of(r'["\ud83d\ude00"]', "x:") == ["\U0001f600"]
    assert files.json_of(r'["\\ud8"]', "x:") == ["\\ud8"]  # a backslash and three letters
    for text in (r'["\ud83d"]', r'["\uDE00"]', r'{"\udfff": 1}'):
        with pytest.raises(UserError, match="x: is not valid JSON"):
            files.json_of(text, "x:")


def test_what_a_run_ran_on():
    found = files.hardware()
    assert found["cores"] == os.cpu_count()
    assert found["machine"]
    assert found["system"] == os.uname().sysname


def test_hashing_a_large_file_is_shown_and_has_the_same_result(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, "LARGE", 1000)
    monkeypatch.setattr(files, "PART", 300_000)
    monkeypatch.setattr(console, "FIRST", 0.0)
    monkeypatch.setattr(console, "GAP", 0.0)
    content = bytes(range(256)) * 4000
    (tmp_path / "x").write_bytes(content)
    with caplog.at_level("INFO"):
        assert files.sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()
    counts = [line.split(": ")[1].split(",")[0] for line in caplog.messages]
    assert counts == ["0.3 of 1.0 MB", "0.6 of 1.0 MB", "0.9 of 1.0 MB", "1.0 of 1.0 MB"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_gives(tmp_path, umask, mode):
    """Those of safetensors too, which are the owner's alone as it writes them."""
    import h5py
    from safetensors.numpy import save_file

    def write_hdf5(path):
        with h5py.File(path, "w") as file:
            file["a"] = [1]

    writers = {
        "a.safetensors": lambda path: save_file({"a": np.zeros(2)}, path),
        "a.npy": lambda path: np.lib.format.open_memmap(path, "w+", np.float32, (2,)).flush(),
        "a.h5": write_hdf5,
    }
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "a.txt", "a")
        files.write_parquet(tmp_path / "a.parquet", pd.DataFrame({"a": [1]}))
        for name, write in writers.items():
            with files.atomic_write(tmp_path / name) as temporary:
                write(temporary)
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ["a.txt", "a.parquet", *writers], mode
    )


def test_a_folder_in_place_of_a_file_is_one_line(tmp_path):
    for read in (read_json, files.read_record, read_yaml):
        with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
            read(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot be read \(Not a directory\)"):
        read_json(tmp_path / "x.json" / "y.json")
