"""The bridge to MLflow: finished runs into a store, nested under their experiment. Never fails what it tracks.

The store is a mirror of `results/`, written by one process after the runs, and can be made again from it at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from crossmodal.experiments import Job, Plan, Tracking
from crossmodal.files import read_json, read_parquet, sha256_file, write_json
from crossmodal.reporting import figures
from crossmodal.reporting.collect import histories

log = logging.getLogger(__name__)
EXPERIMENT = "crossmodal"
KEY, CONTENT = "crossmodal.key", "crossmodal.content"
LOCK = Path(".snakemake") / "tracking.lock"


def make_store(tracking: Tracking) -> bool:
    """The store with its experiment; two processes that open a fresh SQLite file at once would both migrate it.

    Returns
    -------
    Whether the store is there. A store that is down is a warning.
    """
    try:
        _client(tracking)
    except Exception as error:
        log.warning("MLflow at %s is down, nothing is tracked: %s", tracking.uri, error)
        return False
    return True


def _client(tracking: Tracking) -> tuple[Any, str]:
    import mlflow

    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(LOCK):
        client = mlflow.MlflowClient(tracking.uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return client, found.experiment_id
        local = tracking.uri.startswith("sqlite:")
        place = {"artifact_location": Path("mlartifacts").resolve().as_uri()} if local else {}
        return client, client.create_experiment(EXPERIMENT, **place)


def write(plan: Plan, jobs: Mapping[str, Job], target: Path, *, rebuild: bool = False) -> None:
    """Track every finished run and write `tracking.json`: how many are new, were there, or are missing, or why none."""
    runs = Path(plan.params.paths.results) / "runs"
    outcome: dict[str, Any] = {"uri": plan.params.tracking.uri}
    try:
        outcome |= track(plan.params.tracking, jobs, runs, rebuild=rebuild)
    except Exception as error:
        log.warning("MLflow at %s is down, nothing is tracked: %s", plan.params.tracking.uri, error)
        outcome["down"] = str(error)
    write_json(target / "tracking.json", outcome)


def track(tracking: Tracking, jobs: Mapping[str, Job], runs: Path, *, rebuild: bool = False) -> dict[str, int]:
    """Finished runs into the store; a run that is there with the same content stays, with another it is replaced."""
    client, experiment = _client(tracking)
    with FileLock(LOCK):
        there = {
            run.data.tags[KEY]: run
            for run in _all_runs(client, experiment)
            if KEY in run.data.tags and run.info.lifecycle_stage == "active"
        }
        counts = {"new": 0, "unchanged": 0, "missing": 0}
        for key, job in jobs.items():
            folder = runs / key
            if not (folder / "metrics.json").exists():
                counts["missing"] += 1
                continue
            content = sha256_file(folder / "metrics.json") + sha256_file(folder / "manifest.json")
            old = there.get(key)
            if old is not None and old.data.tags.get(CONTENT) == content and not rebuild:
                counts["unchanged"] += 1
                continue
            if old is not None:
                client.delete_run(old.info.run_id)
            parent_key = key.rpartition("/")[0]
            if parent_key not in there:
                parent = client.create_run(experiment, run_name=parent_key, tags={KEY: parent_key})
                client.set_terminated(parent.info.run_id)
                there[parent_key] = parent
            _track_one(client, experiment, there[parent_key].info.run_id, job, runs, content)
            counts["new"] += 1
    log.info("MLflow at %s: %s", tracking.uri, counts)
    return counts


def _all_runs(client: Any, experiment: str) -> list[Any]:
    found, token = [], None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _track_one(client: Any, experiment: str, parent: str, job: Job, runs: Path, content: str) -> None:
    from mlflow.entities import Metric, Param, RunTag

    folder = runs / job.key
    tags = {KEY: job.key, "mlflow.parentRunId": parent, "papers": ", ".join(job.papers)}
    run = client.create_run(experiment, run_name=job.key, tags=tags).info.run_id
    config = yaml.safe_load((folder / "config.yaml").read_text())
    flat = {name: config[name] for name in ("dataset", "split", "model", "variant", "seed")}
    flat |= {f"settings.{name}": value for name, value in config["settings"].items()}
    flat |= {f"inputs.{name}": value for name, value in config["inputs"].items()}
    manifest = read_json(folder / "manifest.json")
    metrics = [
        Metric(_name(f"test.{n['protocol']}.{n['direction']}.{n['metric']}"), n["value"], 0, 0)
        for n in read_json(folder / "metrics.json")["numbers"]
    ]
    metrics += [Metric(name, float(manifest[name]), 0, 0) for name in ("seconds", "peak_memory_mib", "parameters")]
    history = read_parquet(folder / "history.parquet")
    for row in history.to_dict("records"):
        step = int(row["epoch"])
        metrics += [
            Metric(_name(name), float(value), step, step)
            for name, value in row.items()
            if name != "epoch" and isinstance(value, int | float)
        ]
    client.log_batch(run, params=[Param(name, str(value)) for name, value in flat.items()])
    for start in range(0, len(metrics), 1000):
        client.log_batch(run, metrics=metrics[start : start + 1000])
    for name in ("config.yaml", "manifest.json", "metrics.json", "train.log"):
        if (folder / name).exists():
            client.log_artifact(run, str(folder / name))
    if len(history):
        client.log_text(run, figures.learning_curves(histories({job.key: job}, runs)), "figures/learning-curves.svg")
    client.log_batch(run, tags=[RunTag(CONTENT, content)])  # last: a run that was cut off is tracked again
    client.set_terminated(run)


def _name(text: str) -> str:
    """MLflow's names have no `@`."""
    return text.replace("@", "_at_")
