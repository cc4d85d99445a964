"""When, where and with which code the runs were trained, from their manifests; and links to their MLflow records."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from importlib import metadata
from platform import python_version
from typing import Any
from urllib.parse import quote

from crossmodal.core.files import commit
from crossmodal.experiments import Tracking
from crossmodal.reporting.tracking.store import KEY, database

LIBRARIES = ("crossmodal", "torch", "numpy", "pandas", "pyarrow", "matplotlib", "snakemake", "mlflow")
LOCAL_PAGES = "http://127.0.0.1:5000"  # `make ui` serves a store here that is a file


def versions() -> list[tuple[str, str]]:
    """(name, version) of Python and of the libraries that this process would use."""
    entries = [("Python", python_version())]
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            entries.append((name, metadata.version(name)))
    return entries


def code() -> dict[str, Any]:
    """The commit of the folder that the pipeline is run in, where it is a git checkout, and the versions."""
    return {"commit": commit(), "versions": versions()}


def of_runs(manifests: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A summary of runs' manifests: when the first and the last ended, and each commit, machine and version once."""
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
        "versions": [(name, ", ".join(values)) for name, values in sorted(used.items())],
    }


def _moment(iso: str) -> str:
    """A manifest's time as `2026-11-24 09:10 UTC`."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2 UTC", iso)


def tracked(tracking: Tracking) -> dict[str, str]:
    """{run: the address of its page in MLflow} for a store that is a file; empty where there is no such store.

    It is read from the database itself, since MLflow takes seconds to be imported.
    """
    path = None
    if tracking.enabled:
        with suppress(ValueError):  # tracking itself warns of such an address
            path = database(tracking.address)
    if path is None:
        return {}
    sql = (
        "SELECT tags.value, runs.experiment_id, runs.run_uuid FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid "
        "WHERE tags.key = ? AND runs.lifecycle_stage = 'active'"
    )
    links: dict[str, str] = {}
    with suppress(sqlite3.Error):  # there is no store yet, or MLflow itself must mend it
        address = f"file:{quote(str(path.resolve()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as store:
            links = {
                key: f"{LOCAL_PAGES}/#/experiments/{experiment}/runs/{run}"
                for key, experiment, run in store.execute(sql, (KEY,))
            }
    return links
