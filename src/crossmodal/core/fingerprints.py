"""Detects by content which of the files that people bring have changed since they were processed.

A file's SHA-256 is remembered with its inode, size and time of change, so that a hundred thousand photographs are not
hashed again. Each step records hashes of the files that it has read in its manifest (`items.json`, `features/*.json`);
before its rules the DAG compares the files with these, and notes differences in `changed.json` of the data set. The
part of a rule's identity from there stays the same until files differ again, so that each change reruns its rules once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crossmodal.core import cores, packed, paths
from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, sha256_bytes, sha256_file, sha256_json, write_json, write_text

SETTLED = 2.0  # seconds: a file changed more recently may change again within one tick of its clock
CACHE = ".hashes.json"
CHANGED = "changed.json"
NAMED = "named.json"
LOCK = "lock.mdb"  # of an LMDB, which every reader writes to
NOTHING = hashlib.sha256().hexdigest()
KINDS = ("files", "trees", "names", "texts")  # of records of what a step reads
LARGEST = 2**27  # bytes of saved hashes, those of a million files, beyond which all are computed anew
DIGEST = re.compile("[0-9a-f]{64}")
READERS = 8  # threads that hash files without a remembered hash, at most one per core

State = tuple[int, int, int]  # inode, size in bytes, time of change in nanoseconds


class Hashes:
    """SHA-256 of files, remembered in a file of `folder`; a file that cannot be read counts as empty."""

    def __init__(self, folder: Path):
        self.path = folder / CACHE
        self.known: dict[str, dict[str, list[Any]]] = self._stored()
        self.new: dict[str, dict[str, list[Any]]] = {}
        self.listed: dict[str, dict[str, os.DirEntry[str]]] = {}

    def file(self, path: str | Path) -> str:
        """SHA-256 of a file."""
        path = Path(path)
        return self.files(path.parent, [path.name])[path.name]

    def files(self, root: Path, names: Iterable[str]) -> dict[str, str]:
        """{name: SHA-256} of files relative to `root`; each sub-folder is listed once."""
        hashes: dict[str, str] = {}
        unknown: list[tuple[str, str, str, State]] = []
        folders: dict[str, tuple[str, dict[str, os.DirEntry[str]], dict[str, list[Any]]]] = {}
        for name in names:
            sub, _, base = name.rpartition("/")
            if sub not in folders:
                folder = os.path.realpath(root / sub)
                folders[sub] = (folder, self._entries(folder), self.known.get(folder, {}))
            folder, entries, records = folders[sub]
            state = _state(entries.get(base))
            if state is None:
                hashes[name] = NOTHING
            elif (record := records.get(base)) is not None and tuple(record[:3]) == state:
                hashes[name] = record[3]
            else:
                unknown.append((name, folder, base, state))
        with ThreadPoolExecutor(min(READERS, cores.available())) as pool:
            digests = pool.map(_hashed, [f"{folder}/{base}" for _, folder, base, _ in unknown])
            shown = tracked(digests, f"hashing {root}", len(unknown), "files")
            for (name, folder, base, state), digest in zip(unknown, shown, strict=True):
                hashes[name] = digest
                self._learn(folder, base, state, digest)
        return hashes

    def read(self, path: Path) -> str:
        """SHA-256 of a file that is read now, even where its hash is remembered."""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return NOTHING
            digest = sha256_file(path)
        except OSError:
            return NOTHING
        self._learn(os.path.realpath(path.parent), path.name, _facts(status), digest)
        return digest

    def _learn(self, folder: str, name: str, state: State, digest: str) -> None:
        """Remember a hash with the state that the file had before it was read, unless it changed just before that."""
        if time.time() - state[2] / 1e9 > SETTLED:
            record = [*state, digest]
            self.known.setdefault(folder, {})[name] = record
            self.new.setdefault(folder, {})[name] = record

    def save(self) -> None:
        """Save the new hashes, and keep those that other processes have saved meanwhile.

        Where the folder cannot be written, or another process has locked it, files are hashed again the next time.
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
        """The hash of the names and contents of all files below a folder, or of those with an ending."""
        names = [name for name in _below(folder) if name.endswith(ending)]
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
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                return {}
            data = self.path.read_bytes()
            if not _is_sparse(data):
                return {}
            stored = json.loads(data)
        except (OSError, ValueError, RecursionError):
            return {}
        folders = stored.items() if isinstance(stored, dict) else ()
        return {folder: records for folder, records in folders if _are_records(records)}


def _is_sparse(data: bytes) -> bool:
    """Whether JSON has no more values than saved hashes: it may come with others' data, and take 20 times its size."""
    return sum(map(data.count, (b"[", b"{", b","))) <= len(data) / 16 + 8  # a hash has 5 of them in more than 80 bytes


def _are_records(records: Any) -> bool:
    """Whether a folder's hashes are in the form in which they are saved; the file may come with others' data."""
    if not isinstance(records, dict):
        return False
    return all(
        isinstance(record, list)
        and [type(part) for part in record] == [int, int, int, str]
        and DIGEST.fullmatch(record[3])
        for record in records.values()
    )


def _state(entry: os.DirEntry[str] | None) -> State | None:
    try:
        return None if entry is None or not entry.is_file() else _facts(entry.stat())  # reading a pipe would never end
    except OSError:  # a link to nowhere
        return None


def _facts(status: os.stat_result) -> State:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _hashed(path: str) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return NOTHING


def _below(folder: Path) -> list[str]:
    """The sorted names of the files below a folder."""
    files = paths.below(folder, hidden=True, links=True)
    return sorted(name for name, entry in files if not entry.name.startswith(".") and entry.name != LOCK)


# -- what a step has read ---------------------------------------------------------------------------------------------


def now(recorded: Mapping[str, Mapping[str, str]], hashes: Hashes, folder: Path) -> dict[str, dict[str, str]]:
    """The current version of a step's record of the files that it reads; names are relative to `folder`, or absolute.

    `files` are hashed by their contents, `trees` by those of all files below, `texts` by those of all files below that
    end in .txt, and `names` by the list of files below. A file that is missing altogether counts as unchanged, since
    processed data may be kept without it.
    """
    return {
        kind: {name: _now(kind, folder / name, hashes) if _exists(folder / name) else was for name, was in of.items()}
        for kind, of in recorded.items()
    }


def missing(folder: Path) -> str:
    """A sentence on the raw files of a data set that are gone since its items were made; empty where none is.

    Parameters
    ----------
    folder : of the prepared data set.
    """
    recorded = _recorded((_manifest(folder / "items.json") or {}).get("raw"), folder)
    gone = dict.fromkeys(name for of in recorded.values() for name in of if not _exists(folder / name))
    if not gone:
        return ""
    first, *others = [os.path.normpath(folder / name) for name in gone]
    what = f"{first} and {len(others)} more are" if others else f"{first} is"
    return f"{folder.name}: of its raw files, {what} missing; what was made from them before is kept and used"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have, from a manifest of others
        return False


def inputs(hashes: Hashes, root: Path, sources: Iterable[str]) -> str:
    """The hash of the contents of items' files, in the items' order: `inputs_sha256` of their features."""
    sources = list(sources)
    digests = hashes.files(root, sources)
    return sha256_bytes(b"".join(bytes.fromhex(digests[source]) for source in sources))


def _now(kind: str, path: Path, hashes: Hashes) -> str:
    if kind == "files":
        return hashes.file(path)
    if kind == "names":
        return sha256_bytes("\n".join(_below(path)).encode(errors="surrogatepass"))
    return hashes.tree(path, ".txt" if kind == "texts" else "")


# -- what a step's settings name --------------------------------------------------------------------------------------


def of_settings(settings: Any, hashes: Hashes) -> dict[str, str]:
    """{path: hash} of the files and folders that settings name, such as weights or word vectors."""
    return {
        text: hashes.file(text) if Path(text).is_file() else hashes.tree(Path(text))
        for text in sorted(set(paths.possible(settings)))
        if Path(text).exists() and os.path.realpath(text) not in _wide()
    }


# -- what has changed -------------------------------------------------------------------------------------------------


def changed(folder: Path, step: str) -> str:
    """The hash of the files that a step reads, from when they were last seen to have changed; empty if never."""
    return _noted(folder).get(step, {}).get("now", "")


def compare(folder: Path, step: str, recorded: str, current: str) -> None:
    """Note whether the files of a step (`current`) differ from those that its manifest has recorded (both as hashes).

    The note of a change is taken back if the change is undone before the step has run again.
    """
    noted = _noted(folder)
    last = noted.get(step, {})
    unmade = last.get("made_of") == recorded  # the step has not run since the change that was noted last
    before = last.get("before", "") if unmade else last.get("now", "")
    if current != recorded:
        noted[step] = {"now": current, "before": before, "made_of": recorded}
    elif unmade:
        noted[step] = {"now": before, "before": before, "made_of": ""}
    if noted.get(step, {}) != last:
        write_json(folder / CHANGED, noted)


def _noted(folder: Path) -> dict[str, dict[str, str]]:
    noted = _manifest(folder / CHANGED) or {}
    return {step: notes for step, notes in noted.items() if isinstance(notes, dict)}


class RawFiles:
    """Changes of raw files since items and features were made from them, as parts of rules' identities.

    Parameters
    ----------
    look : whether to check the files; otherwise the notes from before are used.
    """

    def __init__(self, data: Path, look: bool = True):
        self.data, self.look = data, look
        self.hashes: dict[Path, Hashes] = {}
        self.inputs: dict[tuple[str, str], str] = {}  # the current hash for (data set, modality)
        self.named: dict[str, str] = _manifest(data / NAMED) or {}  # hashes of files that settings named when last seen

    def change_of_items(self, dataset: str) -> str:
        """`.HASH` once the files that the items were read from have changed, else an empty text."""
        folder = self.data / dataset
        if self.look and (manifest := _manifest(folder / "items.json")):
            hashes = self._hashes(folder)
            recorded = _recorded(manifest.get("raw"), folder)
            current = now(recorded, hashes, folder)
            compare(folder, "items", sha256_json(recorded)[:16], sha256_json(current)[:16])
            hashes.save()
        return _suffix(changed(folder, "items"))

    def change_of_features(self, dataset: str, name: str) -> str:
        """The same for features `MODALITY.EXTRACTOR`, by the files of their items or the arrays of their source."""
        folder = self.data / dataset
        if self.look and (manifest := _manifest(folder / "features" / f"{name}.json")):
            root = folder / str((_manifest(folder / "items.json") or {}).get("root"))
            hashes = self._hashes(folder)
            if isinstance(arrays := manifest.get("files"), dict):
                recorded = _recorded({"files": arrays}, root)
                current = now(recorded, hashes, root)
                compare(folder, name, sha256_json(recorded)[:16], sha256_json(current)[:16])
            elif manifest.get("inputs_of_files") and root.is_dir():
                current = self._inputs_of(dataset, name.partition(".")[0], root, hashes)
                compare(folder, name, str(manifest.get("inputs_sha256"))[:16], current[:16])
            hashes.save()
        return _suffix(changed(folder, name))

    def named_in(self, settings: Any) -> str:
        """`.HASH` of the files that settings name, or an empty text where they name none.

        A file that is missing now but was hashed before keeps its hash, as in a clone that pulls results.
        """
        hashes = self._hashes(self.data)
        here = of_settings(settings, hashes)
        hashes.save()
        possible = paths.possible(settings)
        missing = {text: self.named[text] for text in possible if text in self.named and text not in here}
        if self.look and not here.items() <= self.named.items():
            self.named |= here
            with suppress(UserError):  # the folder may belong to another user; only a clone of it will miss the note
                write_json(self.data / NAMED, self.named)
        named = {**here, **missing}
        return _suffix(sha256_json(named)[:16] if named else "")

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
    """A manifest, or None if it cannot be read: the step that needs it reports a damaged one."""
    with suppress(UserError):
        content = read_json(path)
        return content if isinstance(content, dict) else None
    return None


@cache
def _wide() -> frozenset[str]:
    """The whole disk and homes, over which the search for changes would take hours: nobody means them."""
    return frozenset(os.path.realpath(path) for path in ("/", Path.home(), *Path.home().parents))


def _recorded(value: Any, folder: Path) -> dict[str, dict[str, str]]:
    """The files and folders that a manifest has recorded, of which a step would be made again if they changed.

    A manifest may come from others: what is no such record is left out.
    """
    if not isinstance(value, dict):
        return {}
    wide = _wide()

    def sound(name: Any, was: Any) -> bool:
        return isinstance(was, str) and "\0" not in name and os.path.realpath(folder / name) not in wide

    kinds = {kind: of for kind, of in value.items() if kind in KINDS and isinstance(of, dict)}
    return {kind: {name: was for name, was in of.items() if sound(name, was)} for kind, of in kinds.items()}


def _sources(folder: Path, modality: str) -> list[str]:
    """The sources of the items of a modality, in their order."""
    import pyarrow.compute as pc

    table = packed.table(folder / "items.parquet", ["modality", "source"])
    return table["source"].filter(pc.equal(table["modality"], modality)).to_pylist()
