"""Catalogue of the features below `data/`: those in the store with the data sets that link to them, and all others."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crossmodal.core.display import readable_bytes
from crossmodal.core.errors import UserError, printable
from crossmodal.core.files import read_record
from crossmodal.features.engine import store

log = logging.getLogger(__name__)

TYPES: dict[str, type] = {
    **dict.fromkeys(("identity", "dtype", "extractor", "fallback", "fitted_on"), str),
    **dict.fromkeys(("weights_sha256", "vectors_sha256"), str),
    **dict.fromkeys(("shape", "vocabulary", "skipped"), list),
    **dict.fromkeys(("settings", "files"), dict),
    **dict.fromkeys(("words", "words_unknown"), int),
}
"""Types of the entries of a manifest that are shown."""


@dataclass(frozen=True)
class Entry:
    """Features in the store, or features that only a data set has."""

    identity: str | None
    """Hash of all that the features depend on; None if their manifest has none."""
    place: Path
    """Folder in the store, or the target `data/DATASET/features/MODALITY.EXTRACTOR`."""
    stored: bool
    manifest: dict[str, Any]
    size: int
    """Bytes on disk, counted once for all links."""
    used_by: list[str] = field(default_factory=list)
    """`DATASET/MODALITY.EXTRACTOR` of each data set that uses the features."""

    @property
    def finished(self) -> bool:
        """Whether the features have a manifest, which is written last."""
        return bool(self.manifest)

    def describe(self) -> dict[str, Any]:
        """The entry as a dictionary for display or JSON."""
        manifest_path = store.paths(self.place / "features" if self.stored else self.place)[2]
        return {
            "identity": self.identity,
            "stored": self.stored,
            "finished": self.finished,
            "used_by": self.used_by,
            "shape": self.manifest.get("shape"),
            "dtype": self.manifest.get("dtype"),
            "bytes": self.size,
            "extractor": self.manifest.get("extractor"),
            "made_from": _made_from(self.manifest),
            "fallback": self.manifest.get("fallback"),
            "skipped": len(self.manifest.get("skipped", ())),
            "made": datetime.fromtimestamp(manifest_path.stat().st_mtime, UTC).isoformat(timespec="seconds")
            if self.finished
            else None,
            "place": str(self.place),
        }


def _made_from(manifest: dict[str, Any]) -> str | None:
    """What the manifest names: files; or a kind, a network, weights or word vectors, and words; None if nothing."""
    if files := manifest.get("files"):
        return ", ".join(f"{name} ({digest[:8]})" for name, digest in files.items())
    settings = manifest.get("settings", {})
    named = [manifest.get(key) or settings.get(key) for key in ("kind", "network", "model", "weights", "vectors")]
    digest = manifest.get("weights_sha256") or manifest.get("vectors_sha256")
    source = " ".join([str(entry) for entry in named if entry] + ([f"({digest[:8]})"] if digest else []))
    return ", ".join(filter(None, (source, _words(manifest)))) or None


def _words(manifest: dict[str, Any]) -> str:
    """The vocabulary of text features in words; empty for other features."""
    if vocabulary := manifest.get("vocabulary"):
        return f"{len(vocabulary):,} words of the {manifest.get('fitted_on', 'captions')}"
    if "words" not in manifest:
        return ""
    unknown = manifest.get("words_unknown", 0)
    return f"{manifest['words']:,} words" + (f", {unknown:,} of them without a vector" if unknown else "")


def _shown(manifest: dict[str, Any]) -> dict[str, Any]:
    """The entries of a manifest, which may come from others, without those that are not of the type shown here."""
    shown = {key: value for key, value in manifest.items() if isinstance(value, TYPES.get(key, object))}
    if "files" in shown:
        shown["files"] = {name: digest for name, digest in shown["files"].items() if isinstance(digest, str | list)}
    return shown


def entries(data: Path) -> list[Entry]:
    """All features below `data`: first those in the store, then those that only a data set has."""
    loose = {}
    for path in sorted(data.glob("*/features/[!.]*.json")):
        try:
            manifest = read_record(path)
        except UserError as error:
            log.warning("%s", error)
            continue
        loose[path.with_name(path.name.removesuffix(".json"))] = _shown(manifest)
    listed = []
    for place in sorted(path for path in (data / ".features").glob("*") if path.is_dir()):
        array, _, manifest_path = store.paths(place / "features")
        try:
            manifest = _shown(read_record(manifest_path)) if manifest_path.exists() else {}
        except UserError as error:
            log.warning("%s", error)
            manifest = {}
        links = [target for target, manifest_of in loose.items() if _is_of(target, manifest_of, place.name, array)]
        used_by = [_name(target) for target in links]
        listed.append(Entry(place.name, place, True, manifest, _size(place.iterdir()), used_by))
        for target in links:
            del loose[target]
    for target, manifest in loose.items():
        size = _size(path for path in store.paths(target) if path.exists())
        listed.append(Entry(manifest.get("identity"), target, False, manifest, size, [_name(target)]))
    return listed


def _is_of(target: Path, manifest: dict[str, Any], identity: str, array: Path) -> bool:
    """Whether `target` is a link to the store's array, or a copy of it on a disk without links."""
    array_path = store.paths(target)[0]
    return manifest.get("identity") == identity or (
        array_path.exists() and array.exists() and array_path.samefile(array)
    )


def _name(target: Path) -> str:
    return f"{target.parent.parent.name}/{target.name}"


def _size(paths: Any) -> int:
    return sum(path.stat().st_blocks * 512 for path in paths if path.is_file())


def unused(entries: list[Entry]) -> list[Entry]:
    """The entries of the store that no data set uses, including remains of killed extractions."""
    return [entry for entry in entries if entry.stored and not entry.used_by and not _linked(entry)]


def _linked(entry: Entry) -> bool:
    """Whether the array has further hard links, which may also lie outside of `data/*/features`."""
    array = store.paths(entry.place / "features")[0]
    return array.exists() and array.stat().st_nlink > 1


def remove(entry: Entry) -> int:
    """Delete an entry of the store unless it is being extracted or linked, and return the number of bytes freed."""
    lock = entry.place.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=0):
            if _linked(entry):  # a data set may have linked to it since it was listed
                return 0
            shutil.rmtree(entry.place)
    except Timeout:
        log.warning("%s: is being computed now and is kept", entry.place)
        return 0
    return entry.size


def show(entries: list[Entry]) -> None:
    """Print a table of the entries, as wide as the terminal, or 200 characters wide if the output is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table("features of", "items x dims", "type", "size", "extractor", "made from", "made", "identity", box=None)
    for entry in entries:
        description = entry.describe()
        shape = " x ".join(map(str, description["shape"])) if description["shape"] else "unfinished"
        names = ", ".join(entry.used_by) or "no data set"
        cells = (
            names if entry.stored else f"{names} (not in the store)",
            shape,
            description["dtype"] or "",
            readable_bytes(entry.size),
            description["extractor"] or "",
            "\n".join(
                filter(
                    None, (description["made_from"], description["fallback"] and f"fallback: {description['fallback']}")
                )
            ),
            (description["made"] or "")[:16].replace("T", " "),
            entry.identity or "",
        )
        table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in cells))
    table.add_section()
    stored = [entry for entry in entries if entry.stored]
    console.print(table)
    console.print(f"{readable_bytes(sum(entry.size for entry in entries))} in total; {len(stored)} in the store")
