"""Remembers how a run was finished, so that a run which is trained again says so, and why.

The record is a hidden file of the run's folder, since Snakemake deletes the manifest before it trains a run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record, sha256_json, write_json

RECORD = ".finished.json"
DEPENDS = {
    "hash": "its settings",
    "source": "the code",
    "data": "its data",
    "before": "the run that it begins from",
    "versions": "versions of libraries",
}
"""Entries of a manifest that weights depend on, and what a user calls them."""


def remember(folder: Path, manifest: dict[str, Any]) -> None:
    """Record that the run in a folder is finished, from its manifest."""
    kept = ("job", "finished", *DEPENDS)
    write_json(folder / RECORD, {key: manifest[key] for key in kept if key in manifest})


def note(folder: Path, now: dict[str, Any]) -> str:
    """What a user is told before the run in a folder is trained again; empty if it has never been finished.

    Parameters
    ----------
    now : the entries `DEPENDS` of the manifest, as they are now.
    """
    for path in (folder / "manifest.json", folder / RECORD):
        try:
            before = read_record(path)
        except (OSError, UserError):  # missing or damaged
            continue
        if "finished" in before:
            break
    else:
        return ""
    changed = [name for key, name in DEPENDS.items() if sha256_json(before.get(key)) != sha256_json(now.get(key))]
    reason = f"changed since: {', '.join(changed)}" if changed else "nothing that its weights depend on has changed"
    return f"was finished on {str(before['finished'])[:16].replace('T', ' ')} UTC; it is trained anew ({reason})"
