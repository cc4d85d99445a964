"""Finished runs into MLflow: a run a seed, nested under one for its (data set, split, model), all in one experiment.

The store is a copy of what lies in `results/`, so it can be lost and rebuilt, and a store that is down is a warning.
Each run carries its key and a hash of its `metrics.json`: an unchanged one is left alone, a changed one replaced.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from crossmodal.experiments import Job, Params, Plan, Tracking
from crossmodal.files import sha256_file, sha256_json, write_json
from crossmodal.reporting import figures, runs

log = logging.getLogger(__name__)

EXPERIMENT = "crossmodal"
KEY, HASH, PARENT = "crossmodal.key", "crossmodal.hash", "mlflow.parentRunId"
ARTIFACTS = ("manifest.json", "config.yaml", "metrics.json", "train.log")
LOCK_SECONDS = 60.0
BATCH = 1000  # metrics that MLflow takes in one request


# -- the store ------------------------------------------------------------------------------------------------------


def database(uri: str) -> Path | None:
    """The file of a `sqlite:///` address; None for a server's.

    Raises
    ------
    ValueError : an address that MLflow no longer writes to (a folder), or none at all.
    """
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///"))
    if re.match(r"(https?|postgresql|mysql|mssql)(\+\w+)?://", uri):
        return None
    raise ValueError(f"tracking.uri is {uri!r}; expected sqlite:///FILE.db or the address of an MLflow server")


def _client(uri: str) -> Any:
    """MLflow's client, quiet, and without the usage statistics that MLflow would send."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow.store.db.utils", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


class _Store:
    """An open store: the client, the experiment, and what it holds already."""

    def __init__(self, client: Any, experiment: str):
        self.client, self.experiment = client, experiment
        self.known: dict[str, list[tuple[str, str]]] = {}
        token = None
        while True:
            page = client.search_runs([experiment], max_results=1000, page_token=token)
            for run in page:
                key = run.data.tags.get(KEY)
                if key:
                    self.known.setdefault(key, []).append((run.info.run_id, run.data.tags.get(HASH, "")))
            token = page.token
            if not token:
                break

    def current(self, key: str, digest: str) -> str | None:
        """The id of the run of this key and content. Whatever else has the key is deleted."""
        kept = None
        for run_id, found in self.known.pop(key, []):
            if found == digest and kept is None:
                kept = run_id
            else:
                self.client.delete_run(run_id)
        if kept:
            self.known[key] = [(kept, digest)]
        return kept

    def clear(self) -> None:
        for entries in self.known.values():
            for run_id, _ in entries:
                self.client.delete_run(run_id)
        self.known = {}


@contextmanager
def _opened(uri: str, artifacts: Path | None = None, *, rebuild: bool = False) -> Iterator[_Store]:
    """The store, made where it is not there yet. One process at a time: MLflow's migrations and SQLite want that."""
    path = database(uri)
    with ExitStack() as stack:
        location = None
        if path is not None:
            from filelock import FileLock

            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_name(f"{path.name}.lock"), timeout=LOCK_SECONDS))
            if rebuild and path.exists() and not _is_sqlite(path):
                aside = path.with_name(f"{path.name}.unreadable")
                log.warning("%s: is no SQLite database; moved to %s and made anew", path, aside)
                path.replace(aside)
            location = (artifacts or path.parent / "mlartifacts").resolve().as_uri()
        elif artifacts is not None:
            location = artifacts.resolve().as_uri()
        client = _client(uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=location)
        yield _Store(client, experiment)


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(15) in (b"SQLite format 3", b"")


def _safely(what: str, step: Callable[[], Any]) -> Any:
    """What `step` gives, or False and a warning: a store that is down fails nothing."""
    try:
        return step()
    except Exception as error:  # whatever goes wrong in a store of runs, the runs themselves are whole
        lines = str(error).strip().splitlines() or [type(error).__name__]
        log.warning("MLflow: %s: %s; the runs are unharmed (`crossmodal track --rebuild` refills it)", what, lines[0])
        return False


def init_store(uri: str, artifacts: Path | None = None) -> bool:
    """Make the store and its experiment, before several processes open it at once. False where that fails.

    Parameters
    ----------
    uri : `sqlite:///FILE.db`, or a server's address.
    artifacts : folder of the runs' files; `mlartifacts` beside the database by default.
    """

    def step() -> bool:
        with _opened(uri, artifacts):
            return True

    return _safely(f"{uri} cannot be made", step)


def make_store(tracking: Tracking) -> bool:
    """`init_store` as params.yaml has it; False where tracking is switched off."""
    if not tracking.enabled:
        log.info("tracking is switched off in params.yaml")
        return False
    return init_store(tracking.uri)


# -- what is logged -------------------------------------------------------------------------------------------------


def metric_name(name: str) -> str:
    """A name that MLflow allows: `recall@10` becomes `recall_10`, anything else odd an underscore too."""
    return re.sub(r"[^\w\-. /:]", "_", name)


def flattened(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """{'settings.dim': '256'}: nested settings as MLflow's flat parameters."""
    found = {}
    for key, entry in value.items():
        if isinstance(entry, dict):
            found |= flattened(entry, f"{prefix}{key}.")
        else:
            found[metric_name(f"{prefix}{key}")] = str(entry)[:6000]
    return found


def _params(job: Job, folder: Path, params: Params) -> dict[str, str]:
    """The settings that the run was made with, as its `config.yaml` resolves them."""
    settings: dict[str, Any] = job.model_dump(mode="json", exclude={"papers", "quick"})
    try:
        resolved = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        settings |= {key: resolved[key] for key in settings if key in resolved}
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        log.warning("%s: config.yaml: %s", job.key, error)
    return flattened({"scale": params.scale, **settings})


def _final(numbers: list[dict[str, Any]]) -> dict[str, float]:
    """`test.image-to-text.recall_1`, `test.recall_sum`; `test-fold5. ...` under a fold protocol."""
    found = {}
    for row in numbers:
        head = "test" if row["protocol"] == "all" else f"test-{row['protocol']}"
        middle = "" if row["direction"] == "both" else f"{row['direction']}."
        found[metric_name(f"{head}.{middle}{row['metric']}")] = float(row["value"])
    return found


def _epochs(history: pd.DataFrame) -> Iterator[tuple[str, float, int]]:
    """(name, value, epoch) of every finite number of a history."""
    columns = [c for c in history if c != "epoch" and pd.api.types.is_numeric_dtype(history[c])]
    for column in columns:
        name = f"val.{column[4:].replace('_recall@', '.recall_')}" if column.startswith("val_") else f"train.{column}"
        for epoch, value in zip(history["epoch"], history[column], strict=True):
            if value is not None and math.isfinite(value):
                yield metric_name(name), float(value), int(epoch)


def _log(store: _Store, run_id: str, metrics: list[tuple[str, float, int]], params: dict[str, str], time: int) -> None:
    from mlflow.entities import Metric, Param

    entities = [Metric(name, value, time, step) for name, value, step in metrics]
    listed = [Param(name, value) for name, value in params.items()]
    for start in range(0, max(len(entities), len(listed), 1), BATCH):
        batch = entities[start : start + BATCH - 100]  # a request takes 1,000 things in all, 100 parameters among them
        store.client.log_batch(run_id, metrics=batch, params=listed[:100] if start == 0 else [])
        rest = entities[start + BATCH - 100 : start + BATCH]
        if rest:
            store.client.log_batch(run_id, metrics=rest)
    for start in range(100, len(listed), 100):
        store.client.log_batch(run_id, params=listed[start : start + 100])


def _tags(job: Job, key: str) -> dict[str, str]:
    return {
        KEY: key,
        "dataset": job.dataset,
        "split": job.split,
        "model": job.model,
        "variant": job.variant,
        "papers": ",".join(job.papers),
    }


def _group(job: Job) -> str:
    return f"{job.dataset}/{job.split}/{job.name}"


def _parent(store: _Store, job: Job) -> str:
    """The run that a job's seeds are nested under."""
    key = _group(job)
    if key in store.known:
        return store.known[key][0][0]
    made = store.client.create_run(store.experiment, tags=_tags(job, key), run_name=key)
    store.known[key] = [(made.info.run_id, "")]
    return made.info.run_id


def _track(store: _Store, job: Job, folder: Path, params: Params) -> str:
    """`missing`, `unchanged` or `tracked`."""
    numbers = runs.numbers(folder, job)
    if numbers is None:
        return "missing"
    path = folder / "metrics.json"
    digest = sha256_file(path)
    if store.current(job.key, digest):
        return "unchanged"
    manifest = runs.manifest(folder)
    history = runs.history(folder)
    end = int(path.stat().st_mtime * 1000)
    start = end - int(1000 * float(manifest.get("seconds") or 0))
    tags = {**_tags(job, job.key), "seed": str(job.seed), PARENT: _parent(store, job)}
    name = f"{job.name} {job.split} seed{job.seed}"
    run_id = store.client.create_run(store.experiment, start_time=start, tags=tags, run_name=name).info.run_id
    facts = {f"run.{k}": manifest.get(k) for k in ("seconds", "peak_memory_mib", "parameters", "pairs", "best_epoch")}
    final = _final(numbers) | {k: float(v) for k, v in facts.items() if isinstance(v, int | float)}
    last = int(history.epoch.max()) if len(history) else 0
    metrics = [*_epochs(history), *((name, value, last) for name, value in final.items())]
    _log(store, run_id, metrics, _params(job, folder, params), end)
    with tempfile.TemporaryDirectory() as temporary:
        for file in ARTIFACTS:
            if (folder / file).exists():
                shutil.copyfile(folder / file, Path(temporary) / file)
        if len(history):
            svg = figures.run_curve(history, job.key)
            (Path(temporary) / "learning-curve.svg").write_text(svg, encoding="utf-8")
        store.client.log_artifacts(run_id, temporary)
    # The hash comes last: a run that was cut short has none, and is replaced the next time.
    store.client.set_tag(run_id, HASH, digest)
    store.client.set_terminated(run_id, "FINISHED", end)
    store.known[job.key] = [(run_id, digest)]
    return "tracked"


def _summarise(store: _Store, group: str, members: list[Job], folder: Path) -> None:
    """Means and s.d. over seeds onto the parent run, where they have changed."""
    parent = store.known.get(group)
    found = {job.key: store.known[job.key][0][1] for job in members if job.key in store.known}
    if not parent or not found:
        return
    run_id, old = parent[0]
    digest = sha256_json(found)
    if digest == old:
        return
    finals = pd.DataFrame([_final(runs.numbers(folder / job.key, job) or []) for job in members if job.key in found])
    values = {**finals.mean().to_dict(), "seeds": float(len(finals))}
    if len(finals) > 1:
        values |= {f"{name}.sd": value for name, value in finals.std(ddof=1).items()}
    times = [(folder / job.key / "metrics.json").stat().st_mtime for job in members if job.key in found]
    end = int(1000 * max(times))
    metrics = [(name, value, 0) for name, value in values.items() if math.isfinite(value)]
    _log(store, run_id, metrics, {}, end)
    store.client.set_tag(run_id, HASH, digest)
    store.client.set_terminated(run_id, "FINISHED", end)
    parent[0] = (run_id, digest)


def _sync(plan: Plan, results: Path, jobs: dict[str, Job] | None, rebuild: bool) -> dict[str, Any]:
    asked = runs.chosen(plan, jobs)
    folder = Path(results) / "runs"
    done: dict[str, Any] = {"tracked": [], "unchanged": [], "missing": []}
    groups: dict[str, list[Job]] = {}
    for job in plan.jobs.values():  # the means are over all seeds, also where only some are asked for
        groups.setdefault(_group(job), []).append(job)
    with _opened(plan.params.tracking.uri, rebuild=rebuild) as store:
        if rebuild:
            store.clear()
        for key, job in asked.items():
            done[_track(store, job, folder / key, plan.params)].append(key)
        for group in dict.fromkeys(_group(job) for job in asked.values()):
            _summarise(store, group, groups[group], folder)
    log.info("MLflow: %s", ", ".join(f"{len(keys)} {state}" for state, keys in done.items()))
    return done


# -- the steps ------------------------------------------------------------------------------------------------------


def track(job: Job, folder: Path, params: Params, plan: Plan | None = None) -> bool:
    """Hand one finished run over; False, and a warning, where the store is down or the run is not finished.

    Parameters
    ----------
    folder : the run's folder.
    params : with the store's address in `tracking.uri`.
    plan : where given, the parent's means over the seeds of the plan are brought up to date too.
    """
    if not params.tracking.enabled:
        return False

    def step() -> bool:
        with _opened(params.tracking.uri) as store:
            state = _track(store, job, Path(folder), params)
            if plan is not None:
                members = [other for other in plan.jobs.values() if _group(other) == _group(job)]
                _summarise(store, _group(job), members, Path(folder).parents[3])
            return state != "missing"

    return _safely(f"{job.key} is not tracked", step)


def track_all(plan: Plan, results: Path, jobs: dict[str, Job] | None = None) -> bool:
    """Hand all finished runs over; those that are there already stay. False where the store is down."""
    return _report(plan, results, jobs, rebuild=False).get("failed") is None


def rebuild(plan: Plan, results: Path, jobs: dict[str, Job] | None = None) -> bool:
    """Refill the store from the runs' folders, whatever it holds. False where the store is down."""
    return _report(plan, results, jobs, rebuild=True).get("failed") is None


def _report(plan: Plan, results: Path, jobs: dict[str, Job] | None, *, rebuild: bool) -> dict[str, Any]:
    if not plan.params.tracking.enabled:
        return {"failed": "tracking is switched off in params.yaml"}
    uri = plan.params.tracking.uri
    done = _safely(f"{uri} cannot be written", lambda: _sync(plan, Path(results), jobs, rebuild))
    return {"uri": uri, **done} if done else {"uri": uri, "failed": "the store is down; see the log"}


def write(plan: Plan, jobs: dict[str, Job], target: Path, *, rebuild: bool = False) -> None:
    """The step of the DAG: hands the jobs' runs over and writes what became of each to `target/tracking.json`."""
    done = _report(plan, Path(plan.params.paths.results), jobs, rebuild=rebuild)
    write_json(target / "tracking.json", done)
