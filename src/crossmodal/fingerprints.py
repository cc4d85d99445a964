"""Which files that people bring have changed since something was made of them: by content, and cheaply.

A file's SHA-256 is remembered by its inode, size and time of change, so that a hundred thousand photographs are only
looked up. What a step has read it records in its manifest as hashes (`items.json`, `features/*.json`); the DAG compares
the files with that before its rules, and names what differs in `changed.json` of the data set. What a rule's identity
takes from there stays the same until files differ again, so that each change makes its rules anew once.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crossmodal import packed, paths
from crossmodal.errors import UserError
from crossmodal.files import read_json, sha256_bytes, sha256_file, sha256_json, write_json, write_text

SETTLED = 2.0  # seconds: a file changed more recently may change again within one tick of its clock
CACHE = ".hashes.json"
CHANGED = "changed.json"
NAMED = "named.json"
LOCK = "lock.mdb"  # of an LMDB, which whoever reads it writes into
NOTHING = hashlib.sha256().hexdigest()
READERS = 8  # threads that hash files which are not known yet

State = tuple[int, int, int]  # inode, size in bytes, time of change in nanoseconds


class Hashes:
    """SHA-256 of files, remembered in a file of `folder`; a file that cannot be read has that of no bytes."""

    def __init__(self, folder: Path):
        self.path = folder / CACHE
        self.known: dict[str, dict[str, list[Any]]] = self._stored()
        self.new: dict[str, dict[str, list[Any]]] = {}
        self.listed: dict[str, dict[str, os.DirEntry[str]]] = {}

    def file(self, path: str | Path) -> str:
        path = Path(path)
        return self.files(path.parent, [path.name])[path.name]

    def files(self, root: Path, names: Iterable[str]) -> dict[str, str]:
        """{name: SHA-256} of files named relative to a folder, which is listed once a sub-folder."""
        hashes: dict[str, str] = {}
        unknown: list[tuple[str, str, str, State]] = []
        folders: dict[str, tuple[str, dict[str, os.DirEntry[str]], dict[str, list[Any]]]] = {}
        for name in names:
            sub, _, base = name.rpartition("/")
            if sub not in folders:
                folder = os.path.realpath(root / sub)
                folders[sub] = (folder, self._entries(folder), self.known.get(folder, {}))
            folder, entries, known = folders[sub]
            state = _state(entries.get(base))
            if state is None:
                hashes[name] = NOTHING
            elif (record := known.get(base)) is not None and tuple(record[:3]) == state:
                hashes[name] = record[3]
            else:
                unknown.append((name, folder, base, state))
        with ThreadPoolExecutor(READERS) as pool:
            digests = pool.map(_hashed, [f"{folder}/{base}" for _, folder, base, _ in unknown])
            for (name, folder, base, state), digest in zip(unknown, digests, strict=True):
                hashes[name] = digest
                self._learn(folder, base, state, digest)
        return hashes

    def read(self, path: Path) -> str:
        """SHA-256 of a file that is read now, whatever is remembered of it."""
        try:
            status = path.stat()
            digest = sha256_file(path)
        except OSError:
            return NOTHING
        self._learn(os.path.realpath(path.parent), path.name, _facts(status), digest)
        return digest

    def _learn(self, folder: str, name: str, state: State, digest: str) -> None:
        """Remember a hash, where the file was in this state before it was taken."""
        if time.time() - state[2] / 1e9 > SETTLED:
            record = [*state, digest]
            self.known.setdefault(folder, {})[name] = record
            self.new.setdefault(folder, {})[name] = record

    def save(self) -> None:
        """Write down what was learnt, beside what others have written down meanwhile.

        Where the folder cannot be written, or another process holds it, files are hashed again next time.
        """
        if not self.new:
            return
        with suppress(UserError, OSError, Timeout):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock"), timeout=30):
                stored = self._stored()
                for folder, records in self.new.items():
                    stored.setdefault(folder, {}).update(records)
                write_text(self.path, json.dumps(stored))
            self.new = {}

    def tree(self, folder: Path, ending: str = "") -> str:
        """Hash of the names and contents of all files below a folder, or of those with an ending."""
        names = sorted(name for name in _below(folder) if name.endswith(ending))
        return sha256_json([*self.files(folder, names).items()])

    def _entries(self, folder: str) -> dict[str, os.DirEntry[str]]:
        if folder not in self.listed:
            try:
                self.listed[folder] = {entry.name: entry for entry in os.scandir(folder)}
            except OSError:
                self.listed[folder] = {}
        return self.listed[folder]

    def _stored(self) -> dict[str, dict[str, list[Any]]]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return stored if isinstance(stored, dict) else {}


def _state(entry: os.DirEntry[str] | None) -> State | None:
    try:
        return None if entry is None else _facts(entry.stat())
    except OSError:  # a link to nowhere
        return None


def _facts(status: os.stat_result) -> State:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _hashed(path: str) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return NOTHING


def _below(folder: Path, prefix: str = "") -> Iterator[str]:
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.is_dir():
                yield from _below(Path(entry.path), f"{prefix}{entry.name}/")
            elif not entry.name.startswith(".") and entry.name != LOCK:
                yield prefix + entry.name


# -- what a step has read ---------------------------------------------------------------------------------------------


def now(recorded: Mapping[str, Mapping[str, str]], hashes: Hashes, folder: Path) -> dict[str, dict[str, str]]:
    """A record of what a step reads, as it would be made now; names are relative to `folder`, or absolute.

    `files` are read whole; of `trees` all files below are, and of `texts` all that end in .txt; of `names` the files
    below are only listed. What is gone altogether is no change: what was made of it may be kept where it is not.
    """
    return {
        kind: {name: _now(kind, path, hashes) if (path := folder / name).exists() else was for name, was in of.items()}
        for kind, of in recorded.items()
    }


def inputs(hashes: Hashes, root: Path, sources: Iterable[str]) -> str:
    """Hash of the contents of items' files, in the items' order: `inputs_sha256` of their features."""
    sources = list(sources)
    digests = hashes.files(root, sources)
    return sha256_bytes(b"".join(bytes.fromhex(digests[source]) for source in sources))


def _now(kind: str, path: Path, hashes: Hashes) -> str:
    if kind == "files":
        return hashes.file(path)
    if kind == "names":
        return sha256_bytes("\n".join(sorted(_below(path))).encode())
    return hashes.tree(path, ".txt" if kind == "texts" else "")


# -- what a step's settings name --------------------------------------------------------------------------------------


def of_settings(settings: Any, hashes: Hashes) -> dict[str, str]:
    """{path: hash} of the files and folders that settings name, such as those of weights or of word vectors."""
    return {
        text: hashes.file(text) if Path(text).is_file() else hashes.tree(Path(text))
        for text in sorted(set(paths.possible(settings)))
        if Path(text).exists()
    }


# -- what has changed -------------------------------------------------------------------------------------------------


def changed(folder: Path, step: str) -> str:
    """Hash of what a step of a data set reads, as it was when it was last seen to have changed; else empty."""
    return _noted(folder).get(step, {}).get("now", "")


def compare(folder: Path, step: str, recorded: str, found: str) -> None:
    """Note down, by hashes, whether what a step reads is what it was made of, which its manifest has recorded.

    A change that is undone before the step has been made again is taken back.
    """
    noted = _noted(folder)
    last = noted.get(step, {})
    unmade = last.get("made_of") == recorded  # the change that was noted last has not been followed
    before = last.get("before", "") if unmade else last.get("now", "")
    if found != recorded:
        noted[step] = {"now": found, "before": before, "made_of": recorded}
    elif unmade:
        noted[step] = {"now": before, "before": before, "made_of": ""}
    if noted.get(step, {}) != last:
        write_json(folder / CHANGED, noted)


def _noted(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / CHANGED
    return read_json(path) if path.exists() else {}


class RawFiles:
    """What has changed below a data folder since items and features were made, as parts of rules' identities.

    Parameters
    ----------
    look : False takes what was noted before, without a look at the files.
    """

    def __init__(self, data: Path, look: bool = True):
        self.data, self.look = data, look
        self.hashes: dict[Path, Hashes] = {}
        self.inputs: dict[tuple[str, str], str] = {}  # of (data set, modality), as they are now
        self.named: dict[str, str] = _manifest(data / NAMED) or {}  # hashes of files that settings named when last seen

    def change_of_items(self, dataset: str) -> str:
        """`.HASH` once what the items were read from has changed, else nothing."""
        folder = self.data / dataset
        if self.look and (manifest := _manifest(folder / "items.json")):
            hashes = self._hashes(folder)
            recorded = manifest.get("raw") or {}
            found = now(recorded, hashes, folder)
            compare(folder, "items", sha256_json(recorded)[:16], sha256_json(found)[:16])
            hashes.save()
        return _suffix(changed(folder, "items"))

    def change_of_features(self, dataset: str, name: str) -> str:
        """The same of features `MODALITY.EXTRACTOR`, by the files of their items or the arrays that they come from."""
        folder = self.data / dataset
        if self.look and (manifest := _manifest(folder / "features" / f"{name}.json")):
            root = folder / str((_manifest(folder / "items.json") or {}).get("root"))
            hashes = self._hashes(folder)
            if isinstance(arrays := manifest.get("files"), dict):
                recorded = {"files": {name: was for name, was in arrays.items() if isinstance(was, str)}}
                found = now(recorded, hashes, root)
                compare(folder, name, sha256_json(recorded)[:16], sha256_json(found)[:16])
            elif manifest.get("inputs_of_files") and root.is_dir():
                found = self._inputs_of(dataset, name.partition(".")[0], root, hashes)
                compare(folder, name, str(manifest.get("inputs_sha256"))[:16], found[:16])
            hashes.save()
        return _suffix(changed(folder, name))

    def named_in(self, settings: Any) -> str:
        """`.HASH` of the files that settings name, or nothing where they name none.

        One that was named before and is not here counts as it was then, as in a clone that pulls results.
        """
        hashes = self._hashes(self.data)
        here = of_settings(settings, hashes)
        hashes.save()
        gone = {text: self.named[text] for text in paths.possible(settings) if text in self.named and text not in here}
        if self.look and not here.items() <= self.named.items():
            self.named |= here
            with suppress(UserError):  # the folder may belong to another; only a clone of it will miss the note
                write_json(self.data / NAMED, self.named)
        found = {**here, **gone}
        return _suffix(sha256_json(found)[:16] if found else "")

    def _hashes(self, folder: Path) -> Hashes:
        if folder not in self.hashes:
            self.hashes[folder] = Hashes(folder)
        return self.hashes[folder]

    def _inputs_of(self, dataset: str, modality: str, root: Path, hashes: Hashes) -> str:
        if (dataset, modality) not in self.inputs:
            self.inputs[dataset, modality] = inputs(hashes, root, _sources(self.data / dataset, modality))
        return self.inputs[dataset, modality]


def _suffix(change: str) -> str:
    return f".{change}" if change else ""


def _manifest(path: Path) -> dict[str, Any] | None:
    """A manifest, where there is one that can be read: a damaged one is told of by the step that needs it."""
    with suppress(UserError):
        found = read_json(path)
        return found if isinstance(found, dict) else None
    return None


def _sources(folder: Path, modality: str) -> list[str]:
    """Of the items of a modality, in their order."""
    import pyarrow.compute as pc

    table = packed.table(folder / "items.parquet", ["modality", "source"])
    return table["source"].filter(pc.equal(table["modality"], modality)).to_pylist()
