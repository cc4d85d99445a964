"""The MLflow store that finished runs are copied into: it is opened, searched, and written in batches.

What is logged of a run is decided in `record`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from crossmodal.core.errors import masked
from crossmodal.reporting.tracking.names import VIEW, view

log = logging.getLogger(__name__)

EXPERIMENT = "crossmodal"
KEY, HASH = "crossmodal.key", "crossmodal.hash"
LOCK_SECONDS = 300.0  # many processes wait for each other, and a rebuild writes for a while
BATCH = 1000  # entities that MLflow accepts in one request, at most 100 of them parameters


def database(uri: str) -> Path | None:
    """The file of a `sqlite:///` address; None for the address of a server.

    Raises
    ------
    ValueError : MLflow no longer writes to such an address (a folder), or it is no address.
    """
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///"))
    if re.match(r"(https?|postgresql|mysql|mssql)(\+\w+)?://", uri):
        return None
    raise ValueError(
        f"the tracking address is {masked(uri)!r}; expected sqlite:///FILE.db or the address of an MLflow server"
    )


def quiet() -> None:
    """Keep MLflow from sending usage statistics."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")


def client_of(uri: str) -> Any:
    """MLflow's client, without its messages and usage statistics."""
    quiet()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow.store.db.utils", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


class Used(NamedTuple):
    """Data that a run was trained on."""

    name: str
    digest: str  # a hash of its content, at most 36 characters
    path: str
    about: dict[str, Any] | None = None


class Store:
    """An open store: the client, our experiments, and the runs that they already hold."""

    def __init__(self, client: Any, artifacts: str | None):
        self.client, self.artifacts = client, artifacts
        self.experiments: dict[str, str] = {}
        self.known: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def experiment(self, name: str, about: str = "") -> str:
        """The id of an experiment, which is created if it does not exist; its runs are read at the first call."""
        if name in self.experiments:
            return self.experiments[name]
        existing = self.client.get_experiment_by_name(name)
        if existing is None:
            tags = {"mlflow.note.content": about} if about else None
            experiment_id = self.client.create_experiment(name, artifact_location=self.artifacts, tags=tags)
        else:
            experiment_id = existing.experiment_id
            if existing.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment_id)
            self._read(name, experiment_id)
        self.experiments[name] = experiment_id
        self.client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{VIEW}", json.dumps(view()))
        return experiment_id

    def _read(self, name: str, experiment: str) -> None:
        token = None
        while True:
            page = self.client.search_runs([experiment], max_results=1000, page_token=token)
            for run in page:
                key = run.data.tags.get(KEY)
                if key:
                    entry = (run.info.run_id, run.data.tags.get(HASH, ""))
                    self.known.setdefault((name, key), []).append(entry)
            token = page.token
            if not token:
                break

    def current(self, name: str, key: str, digest: str) -> str | None:
        """The id of the run with this key and digest, or None; other runs with the key are deleted."""
        kept = None
        for run_id, digest_of_run in self.known.pop((name, key), []):
            if digest_of_run == digest and kept is None:
                kept = run_id
            else:
                self.client.delete_run(run_id)
        if kept:
            self.known[name, key] = [(kept, digest)]
        return kept

    def inputs(self, run_id: str, used: list[Used]) -> None:
        """Log the data that a run was trained on, which MLflow shows under Dataset."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        listed = []
        for entry in used:
            source = json.dumps({"uri": entry.path})
            data = Dataset(
                entry.name, entry.digest, "local", source, profile=json.dumps(entry.about) if entry.about else None
            )
            listed.append(DatasetInput(data, [InputTag("mlflow.data.context", "training")]))
        self.client.log_inputs(run_id, datasets=listed)

    def clear(self) -> None:
        """Delete our runs in all our experiments."""
        for experiment in self.client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT}%'"):
            if experiment.name == EXPERIMENT or experiment.name.startswith(f"{EXPERIMENT}/"):
                self.experiment(experiment.name)
        for entries in self.known.values():
            for run_id, _ in entries:
                self.client.delete_run(run_id)
        self.known = {}

    def log(self, run_id: str, metrics: list[tuple[str, float, int]], params: dict[str, str], time: int) -> None:
        """Log metrics as (name, value, step), all with one time in ms, and parameters."""
        from mlflow.entities import Metric, Param

        entities = [Metric(name, value, time, step) for name, value, step in metrics]
        listed = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(listed), 100):
            self.client.log_batch(run_id, params=listed[start : start + 100])
        for start in range(0, len(entities), BATCH):
            self.client.log_batch(run_id, metrics=entities[start : start + BATCH])


@contextmanager
def opened(uri: str, artifacts: Path | None = None, *, rebuild: bool = False) -> Iterator[Store]:
    """Open the store for one process at a time, as MLflow's migrations and SQLite require; create it if missing."""
    path = database(uri)
    with ExitStack() as stack:
        location = None
        if path is not None:
            from filelock import FileLock

            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_name(f"{path.name}.lock"), timeout=LOCK_SECONDS))
            if rebuild and path.exists() and not _is_sqlite(path):
                aside = path.with_name(f"{path.name}.unreadable")
                log.warning("%s: is no SQLite database; moved to %s and created anew", path, aside)
                path.replace(aside)
            if path.exists():
                _check(path)
            place = artifacts or path.parent / "mlartifacts"
            place.mkdir(mode=0o700, parents=True, exist_ok=True)  # a new folder is for the user alone
            if not path.exists():
                path.touch(mode=0o600)
            location = place.resolve().as_uri()
        elif artifacts is not None:
            location = artifacts.resolve().as_uri()
        with _own_temporaries():
            store = Store(client_of(uri), location)
            store.experiment(EXPERIMENT)
        yield store


@contextmanager
def _own_temporaries() -> Iterator[None]:
    """A private folder for temporary files while MLflow opens a database.

    It locks a file of a known name there, which in /tmp any account of the machine could hold for ever, or plant as a
    link to a file of the user's.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="crossmodal-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def _check(path: Path) -> None:
    """Refuse at once a database that MLflow would try to open for minutes.

    Raises
    ------
    OSError : the database cannot be opened.
    """
    import sqlite3
    from contextlib import closing

    try:
        with closing(sqlite3.connect(path, timeout=5)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        raise OSError(f"{path}: cannot be opened as an SQLite database ({error})") from None


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(15) in (b"SQLite format 3", b"")
