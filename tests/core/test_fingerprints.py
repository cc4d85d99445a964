"""What people bring is known by its content: a change is noticed once, another time of change is none."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal.core import fingerprints
from crossmodal.core.files import sha256_bytes, write_json
from crossmodal.datasets import raw


def old(path, text="x"):
    """A file that has not been touched for an hour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_mtime_ns - 3_600_000_000_000,) * 2)
    return path


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_hashes_are_those_of_the_files_and_are_kept(tmp_path, monkeypatch):
    old(tmp_path / "raw/a.jpg", "one")
    old(tmp_path / "raw/sub/b.jpg", "two")
    names = ["a.jpg", "sub/b.jpg", "gone.jpg", "nowhere/c.jpg"]
    expected = dict(zip(names, [sha("one"), sha("two"), sha(""), sha("")], strict=True))
    first = fingerprints.Hashes(tmp_path / "data")
    assert first.files(tmp_path / "raw", names) == expected
    first.save()

    def never(path):
        raise AssertionError(f"{path} is hashed again")

    monkeypatch.setattr(fingerprints, "sha256_file", never)
    assert fingerprints.Hashes(tmp_path / "data").files(tmp_path / "raw", names) == expected


def test_a_file_of_the_same_size_is_hashed_again(tmp_path):
    path = old(tmp_path / "raw/a.jpg", "one")
    first = fingerprints.Hashes(tmp_path)
    first.file(path)
    first.save()
    path.write_text("two")
    assert fingerprints.Hashes(tmp_path).file(path) == sha("two")


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path):
    """It may change again within one tick of the clock."""
    path = tmp_path / "a.jpg"
    path.write_text("one")
    hashes = fingerprints.Hashes(tmp_path)
    hashes.file(path)
    hashes.save()
    assert not (tmp_path / fingerprints.CACHE).exists()


def test_a_clock_may_tick_every_two_seconds(tmp_path, monkeypatch):
    """As that of FAT does: until then, a second change could leave the same time."""
    path = old(tmp_path / "a.jpg", "one")
    for age, remembered in ((1.75, False), (2.25, True)):
        hashes = fingerprints.Hashes(tmp_path)
        monkeypatch.setattr(fingerprints.time, "time", lambda age=age: path.stat().st_mtime_ns / 1e9 + age)
        hashes.file(path)
        assert bool(hashes.new) is remembered


def test_two_processes_keep_what_both_have_learnt(tmp_path):
    first, second = fingerprints.Hashes(tmp_path), fingerprints.Hashes(tmp_path)
    first.file(old(tmp_path / "raw/a"))
    second.file(old(tmp_path / "raw/b"))
    first.save()
    second.save()
    (records,) = json.loads((tmp_path / fingerprints.CACHE).read_text()).values()
    assert set(records) == {"a", "b"}


def test_hashes_are_kept_in_a_folder_that_is_yet_to_be_made(tmp_path):
    hashes = fingerprints.Hashes(tmp_path / "results" / "data" / "mine")
    hashes.file(old(tmp_path / "raw/a", "one"))
    hashes.save()
    assert fingerprints.Hashes(tmp_path / "results" / "data" / "mine").known[str(tmp_path / "raw")]["a"][3] == sha(
        "one"
    )
    assert not (tmp_path / "other").exists()
    fingerprints.Hashes(tmp_path / "other").save()  # nothing is new
    assert not (tmp_path / "other").exists()


def test_another_process_is_waited_for_but_not_for_ever(tmp_path, monkeypatch):
    """Where it keeps the cache locked, the hashes are made again the next time."""

    def locked(path, timeout=-1):  # by default filelock waits without end
        assert 1 <= timeout <= 60
        raise fingerprints.Timeout(str(path))

    hashes = fingerprints.Hashes(tmp_path)
    hashes.file(old(tmp_path / "raw/a", "one"))
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "FileLock", locked)
        hashes.save()
    assert not (tmp_path / fingerprints.CACHE).exists()
    hashes.save()  # nothing has been forgotten
    assert fingerprints.Hashes(tmp_path).known


def test_files_are_listed_below_a_folder_without_hidden_ones_and_locks(tmp_path):
    for name in ("b.txt", "a.jpg", ".hidden", "lock.mdb", "sub/c.txt", "sub/.d", ".git/e.txt"):
        old(tmp_path / name)
    assert sorted(fingerprints._below(tmp_path)) == [".git/e.txt", "a.jpg", "b.txt", "sub/c.txt"]
    hashes = fingerprints.Hashes(tmp_path / "cache")
    before = hashes.tree(tmp_path), hashes.tree(tmp_path, ".txt")
    old(tmp_path / "a.jpg", "another")
    again = fingerprints.Hashes(tmp_path / "cache")
    assert again.tree(tmp_path) != before[0]
    assert again.tree(tmp_path, ".txt") == before[1]  # of the texts none has changed
    (tmp_path / "b.txt").rename(tmp_path / "z.txt")
    assert fingerprints.Hashes(tmp_path / "cache").tree(tmp_path, ".txt") != before[1]  # names count


def test_a_file_read_now_is_hashed_whatever_is_remembered(tmp_path):
    path = old(tmp_path / "raw/a", "one")
    hashes = fingerprints.Hashes(tmp_path)
    assert hashes.read(path) == hashes.file(path) == sha("one")
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_mtime_ns,) * 2)  # of the same size and time
    assert hashes.read(path) == sha("two")
    assert hashes.file(path) == sha("two")  # it has been learnt
    assert hashes.read(tmp_path / "gone") == hashes.read(tmp_path) == sha("")


@pytest.mark.parametrize("content", ["[]", "null", "5", '"x"', "[" * 100_000])
def test_a_cache_of_another_kind_is_none(tmp_path, content):
    (tmp_path / fingerprints.CACHE).write_text(content)
    assert fingerprints.Hashes(tmp_path).known == {}


def test_a_cache_that_would_fill_the_memory_is_none(tmp_path, monkeypatch):
    """A list in three bytes takes 64 in memory; hashes are kept in many more bytes each."""
    read = []
    monkeypatch.setattr(fingerprints.json, "loads", lambda data: read.append(len(data)) or {})
    cache = tmp_path / fingerprints.CACHE
    for content in ("[" + "[]," * 10**5 + "1]", '{"a": {' + '"b":1,' * 10**5 + "}}", "[" + "{}," * 10**5 + "1]"):
        cache.write_text(content)
        assert fingerprints.Hashes(tmp_path).known == {}
    with cache.open("wb") as stream:
        stream.truncate(fingerprints.LARGEST + 1)
    assert fingerprints.Hashes(tmp_path).known == {}
    cache.unlink()
    os.mkfifo(cache)
    assert fingerprints.Hashes(tmp_path).known == {}  # reading it would never end
    assert not read


def test_hashes_of_many_files_of_short_names_are_remembered(tmp_path):
    state = (1, 1, 10**18)
    for count in (1, 5000):
        hashes = fingerprints.Hashes(tmp_path)
        for n in range(count):
            hashes._learn("/a", str(n), state, sha("one"))
        hashes.save()
        assert len(fingerprints.Hashes(tmp_path).known["/a"]) == count


def test_inputs_are_hashed_in_the_items_order(tmp_path):
    for name in "ab":
        old(tmp_path / name, name)
    hashes = fingerprints.Hashes(tmp_path)
    for names in (["a", "b"], ["b", "a"], ["a", "a"]):
        expected = hashlib.sha256(b"".join(hashlib.sha256(name.encode()).digest() for name in names)).hexdigest()
        assert fingerprints.inputs(hashes, tmp_path, iter(names)) == expected


def test_a_damaged_cache_is_made_again(tmp_path):
    (tmp_path / fingerprints.CACHE).write_text("{")
    assert fingerprints.Hashes(tmp_path).file(old(tmp_path / "a", "one")) == sha("one")


@pytest.mark.parametrize("kind", ["files", "trees", "names", "texts"])
def test_a_record_differs_by_content_and_not_by_time(tmp_path, kind):
    folder = tmp_path / "data/mine"
    path = old(tmp_path / "raw/a.txt", "one")
    target = path if kind == "files" else path.parent
    recorded = raw.record(folder, **{kind: [target]})

    def now():
        return fingerprints.now(recorded, fingerprints.Hashes(folder), folder)

    assert now() == recorded
    os.utime(path)
    assert now() == recorded
    path.write_text("two")
    assert (now() == recorded) is (kind == "names")
    old(tmp_path / "raw/b.txt")
    assert (now() == recorded) is False or kind == "files"


def test_a_record_of_texts_does_not_look_at_pictures(tmp_path):
    old(tmp_path / "raw/a.txt", "one")
    picture = old(tmp_path / "raw/a.jpg", "one")
    recorded = raw.record(tmp_path / "data", texts=[picture.parent])
    picture.write_text("two")
    assert fingerprints.now(recorded, fingerprints.Hashes(tmp_path / "data"), tmp_path / "data") == recorded


def test_what_is_only_looked_up_leaves_no_note(tmp_path, monkeypatch):
    """A job of a run, which does not look for changes, takes the note as it is."""
    monkeypatch.chdir(tmp_path)
    old(tmp_path / "raw/glove.txt", "one")
    settings = {"vectors": "raw/glove.txt"}
    told = fingerprints.RawFiles(tmp_path / "data", look=False).named_in(settings)
    assert not (tmp_path / "data" / fingerprints.NAMED).exists()
    assert fingerprints.RawFiles(tmp_path / "data").named_in(settings) == told
    assert (tmp_path / "data" / fingerprints.NAMED).exists()


def test_files_that_settings_name_are_hashed_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old(tmp_path / "raw/glove.txt", "one")
    before = fingerprints.RawFiles(tmp_path / "data").named_in({"vectors": "raw/glove.txt"})

    def never(path):
        raise AssertionError(f"{path} is hashed again")

    monkeypatch.setattr(fingerprints, "sha256_file", never)
    assert fingerprints.RawFiles(tmp_path / "data").named_in({"vectors": "raw/glove.txt"}) == before != ""


def test_what_is_gone_altogether_is_no_change(tmp_path):
    path = old(tmp_path / "raw/a.txt")
    recorded = raw.record(tmp_path / "data", [path], [path.parent])
    path.unlink()
    path.parent.rmdir()
    assert fingerprints.now(recorded, fingerprints.Hashes(tmp_path / "data"), tmp_path / "data") == recorded


def test_files_that_settings_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old(tmp_path / "raw/glove.txt", "one")
    old(tmp_path / "raw/thoughts/table.npy", "two")
    settings = {"weights": "world", "vectors": "raw/glove.txt", "more": [{"folder": "raw/thoughts"}], "dim": 3, "n": ""}
    found = fingerprints.of_settings(settings, fingerprints.Hashes(tmp_path))
    assert list(found) == ["raw/glove.txt", "raw/thoughts"]
    assert found["raw/glove.txt"] == sha("one")
    old(tmp_path / "raw/thoughts/table.npy", "three")
    again = fingerprints.of_settings(settings, fingerprints.Hashes(tmp_path))
    assert again["raw/thoughts"] != found["raw/thoughts"]
    assert again["raw/glove.txt"] == sha("one")


def test_a_clone_without_the_files_that_settings_name_goes_on(tmp_path, monkeypatch):
    """The note of them is part of the data folder, which DVC pulls; the word vectors themselves may be anywhere."""
    monkeypatch.chdir(tmp_path)
    settings = {"vectors": "raw/glove.txt", "network": "raw"}
    path = old(tmp_path / "raw/glove.txt", "one")
    before = fingerprints.RawFiles(tmp_path / "data").named_in(settings)
    assert before
    for file in (path, path.parent):
        file.unlink() if file.is_file() else file.rmdir()
    assert fingerprints.RawFiles(tmp_path / "data").named_in(settings) == before
    assert fingerprints.RawFiles(tmp_path / "data", look=False).named_in(settings) == before
    assert fingerprints.RawFiles(tmp_path / "other").named_in(settings) == ""
    old(path, "two")
    assert fingerprints.RawFiles(tmp_path / "data").named_in(settings) not in ("", before)


@pytest.fixture
def prepared(tmp_path):
    """A data set of two photographs with features, as the steps' manifests tell of them."""
    folder = tmp_path / "data/mine"
    captions = old(tmp_path / "raw/captions.json", "a dog")
    for name in "ab":
        old(tmp_path / f"raw/{name}.jpg", name)
    (folder / "features").mkdir(parents=True)
    rows = [("image", "a.jpg"), ("text", "a dog"), ("image", "b.jpg")]
    pd.DataFrame(rows, columns=["modality", "source"]).to_parquet(folder / "items.parquet")
    write_json(folder / "items.json", {"root": "../../raw", "raw": raw.record(folder, [captions])})
    both = hashlib.sha256(bytes.fromhex(sha("a") + sha("b"))).hexdigest()
    write_json(folder / "features/image.net.json", {"inputs_of_files": True, "inputs_sha256": both})
    return tmp_path


def identities(project, look=True):
    raw_files = fingerprints.RawFiles(project / "data", look)
    return raw_files.change_of_items("mine"), raw_files.change_of_features("mine", "image.net")


def test_each_change_is_noticed_by_what_depends_on_it_and_once(prepared):
    assert identities(prepared) == ("", "")
    os.utime(prepared / "raw/a.jpg")
    assert identities(prepared) == ("", "")

    (prepared / "raw/b.jpg").write_text("c")
    items, features = identities(prepared)
    assert items == ""
    assert features != ""
    assert identities(prepared, look=False) == ("", features)  # as a job of the same run sees it
    both = hashlib.sha256(bytes.fromhex(sha("a") + sha("c"))).hexdigest()
    write_json(prepared / "data/mine/features/image.net.json", {"inputs_of_files": True, "inputs_sha256": both})
    assert identities(prepared) == ("", features)  # made again: nothing more to do

    (prepared / "raw/captions.json").write_text("a cat")
    assert identities(prepared)[0] != ""
    assert identities(prepared)[1] == features
    (prepared / "raw/b.jpg").write_text("b")
    assert identities(prepared)[1] not in ("", features)


@pytest.mark.parametrize("change", ["change_of_items", "change_of_features"])
def test_files_that_have_been_looked_at_are_not_read_again(prepared, monkeypatch, change):
    def ask():
        named = ("mine",) if change == "change_of_items" else ("mine", "image.net")
        return getattr(fingerprints.RawFiles(prepared / "data"), change)(*named)

    for name in ("captions.json", "a.jpg"):
        old(prepared / "raw" / name, "changed")
    first = ask()
    assert first != ""

    def never(path):
        raise AssertionError(f"{path} is hashed again")

    monkeypatch.setattr(fingerprints, "sha256_file", never)
    assert ask() == first


def test_a_change_that_is_undone_in_time_is_none(prepared):
    captions = prepared / "raw/captions.json"
    for text in ("a cat", "a cow"):
        captions.write_text(text)
        assert identities(prepared)[0] != ""
    captions.write_text("a dog")
    assert identities(prepared) == ("", "")

    captions.write_text("a cat")
    (after,) = {identities(prepared)[0] for _ in range(2)}
    folder = prepared / "data/mine"
    write_json(folder / "items.json", {"root": "../../raw", "raw": raw.record(folder, [captions])})  # made again
    assert identities(prepared)[0] == after
    captions.write_text("a dog")
    assert identities(prepared)[0] not in ("", after)


def test_photographs_that_are_not_kept_are_no_change(prepared):
    for path in (prepared / "raw").iterdir():
        path.unlink()
    (prepared / "raw").rmdir()
    assert identities(prepared) == ("", "")


def test_missing_raw_files_are_named(prepared):
    """What was made from them is kept, but a result from a deleted file is not one that can be made again."""
    assert fingerprints.missing(prepared / "data/mine") == ""
    (prepared / "raw/captions.json").unlink()
    path = prepared / "raw/captions.json"
    expected = f"mine: of its raw files, {path} is missing; what was made from them before is kept and used"
    assert fingerprints.missing(prepared / "data/mine") == expected
    assert fingerprints.missing(prepared / "data/other") == ""


def test_arrays_made_elsewhere(prepared):
    path = prepared / "raw/x.npy"
    np.save(path, np.zeros(3))
    manifest = prepared / "data/mine/features/image.net.json"
    write_json(manifest, {"files": {"x.npy": hashlib.sha256(path.read_bytes()).hexdigest()}})
    assert identities(prepared)[1] == ""
    np.save(path, np.ones(3))
    assert identities(prepared)[1] != ""


def records(tmp_path, raw):
    """The note of a change in the raw files of a data set whose manifest, made by others, records them as `raw`."""
    folder = tmp_path / "data" / "toy"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.json").write_text(json.dumps({"raw": raw, "root": "."}))
    return fingerprints.RawFiles(tmp_path / "data").change_of_items("toy")


@pytest.mark.parametrize(
    "raw", [[], "x", {"files": ["x"]}, {"trees": 3}, {"files": {"x" * 5000: "0"}}, {"files": {"a\0b": "0"}}]
)
def test_a_record_that_is_none_is_left_out(tmp_path, raw):
    assert records(tmp_path, raw) == ""


def test_whole_disks_and_homes_are_not_searched(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_below", lambda folder: pytest.fail(f"searches {folder}"))
    assert records(tmp_path, {"trees": {"/": "0", str(Path.home()): "0", "../../../../../../../../..": "0"}}) == ""
    assert fingerprints.of_settings({"weights": "/"}, fingerprints.Hashes(tmp_path)) == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_circles_of_links_end(tmp_path):
    folder = tmp_path / "data" / "toy" / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.txt").write_text("x")
    os.mkfifo(folder / "pipe")
    for name in "abc":
        (folder / name).symlink_to(".")
    hashes = fingerprints.Hashes(tmp_path)
    assert sorted(fingerprints._below(folder)) == ["pipe", "sub/x.txt"]
    assert hashes.files(folder, ["pipe", "sub/x.txt"]) == {
        "pipe": fingerprints.NOTHING,
        "sub/x.txt": sha256_bytes(b"x"),
    }
    assert hashes.read(folder / "pipe") == fingerprints.NOTHING


def test_names_that_are_no_text_are_hashed(tmp_path):
    (tmp_path / "names").mkdir()
    with contextlib.suppress(OSError):  # some file systems refuse it
        os.close(os.open(os.fsencode(tmp_path / "names") + b"/\xff", os.O_CREAT))
    assert (
        len(fingerprints.now({"names": {"names": ""}}, fingerprints.Hashes(tmp_path), tmp_path)["names"]["names"]) == 64
    )


@pytest.mark.parametrize(
    "odd",
    [
        [1],
        {"a.jpg": 5},
        {"a.jpg": [1, 2, 3]},
        {"a.jpg": [1, 2, 3, "x"]},
        {"a.jpg": [[]] * 4},
        {"other.jpg": [1, 2, 3, sha("one")], "a.jpg": 5},
    ],
)
def test_remembered_hashes_of_another_form_are_forgotten(tmp_path, odd):
    """The file lies beside the data, and may have come with those of others."""
    path = old(tmp_path / "raw/a.jpg", "one")
    real = os.path.realpath(path.parent)
    for name in (real, "elsewhere"):
        write_json(tmp_path / fingerprints.CACHE, {name: odd})
        for ask in (lambda hashes: hashes.file(path), lambda hashes: hashes.read(path)):
            hashes = fingerprints.Hashes(tmp_path)
            assert ask(hashes) == sha("one")
            hashes.save()
        assert json.loads((tmp_path / fingerprints.CACHE).read_text())[real]["a.jpg"][3] == sha("one")
