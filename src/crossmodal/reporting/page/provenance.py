"""When, where and with which code runs were made, from their manifests; and their records in MLflow."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from importlib import metadata
from platform import python_version
from typing import Any
from urllib.parse import quote

from crossmodal.experiments import Tracking
from crossmodal.files import commit
from crossmodal.reporting.tracking.store import KEY, database

LIBRARIES = ("crossmodal", "torch", "numpy", "pandas", "pyarrow", "matplotlib", "snakemake", "mlflow")
LOCAL_PAGES = "http://127.0.0.1:5000"  # where `make ui` serves a store that is a file


def versions() -> list[tuple[str, str]]:
    """Of Python and the libraries that this process would use."""
    found = [("Python", python_version())]
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found.append((name, metadata.version(name)))
    return found


def code() -> dict[str, Any]:
    """The commit of the folder that the pipeline is run in, where it is a git checkout, and the versions."""
    return {"commit": commit(), "versions": versions()}


def of_runs(manifests: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What runs' manifests say: first and last end, commits, machines and versions, each once."""
    ends, commits, machines, used = [], {}, {}, {}
    for manifest in manifests:
        if manifest.get("finished"):
            ends.append(str(manifest["finished"]))
        if manifest.get("commit"):
            commits[str(manifest["commit"])] = None
        machine = manifest.get("hardware") or {}
        named = [machine.get("gpu"), machine.get("cpu"), f"{machine['cores']} cores" if machine.get("cores") else None]
        if any(named):
            machines[", ".join(str(part) for part in named if part)] = None
        for name, version in (manifest.get("versions") or {}).items():
            used.setdefault(name, {})[str(version)] = None
    return {
        "first": _moment(min(ends, default="")),
        "last": _moment(max(ends, default="")),
        "commits": list(commits),
        "machines": list(machines),
        "versions": [(name, ", ".join(found)) for name, found in sorted(used.items())],
    }


def _moment(iso: str) -> str:
    """`2026-11-24 09:10 UTC` of a time as manifests have it."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2 UTC", iso)


def tracked(tracking: Tracking) -> dict[str, str]:
    """{run: the address of its page in MLflow}, of a store that is a file; empty for a store that is not there.

    Read from the database itself: MLflow takes seconds to be imported.
    """
    path = None
    if tracking.enabled:
        with suppress(ValueError):  # an address that tracking itself warns of
            path = database(tracking.address)
    if path is None:
        return {}
    asked = (
        "SELECT tags.value, runs.experiment_id, runs.run_uuid FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid "
        "WHERE tags.key = ? AND runs.lifecycle_stage = 'active'"
    )
    found: dict[str, str] = {}
    with suppress(sqlite3.Error):  # no store yet, or one that MLflow itself must mend
        address = f"file:{quote(str(path.resolve()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as store:
            found = {
                key: f"{LOCAL_PAGES}/#/experiments/{experiment}/runs/{run}"
                for key, experiment, run in store.execute(asked, (KEY,))
            }
    return found
