"""Records finished runs in MLflow: one experiment per paper, in it one run per table row, with a nested run per seed.

A run that belongs to no paper is in the experiment `crossmodal`. The store is a copy of `results/`, so that it can be
rebuilt after a loss, and an unreachable store causes a warning only. Each run carries its key and a hash of the files
that it was logged from: an unchanged run is left alone, a changed one is replaced.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from crossmodal.core import paths
from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file, sha256_json, write_json
from crossmodal.experiments import Job, Params, Plan, Tracking, named_experiments, read_yaml
from crossmodal.experiments.sweeps import sentence
from crossmodal.inference import onnx_encoder
from crossmodal.modalities import MODALITIES
from crossmodal.reporting.figures import learning_curves
from crossmodal.reporting.results import runs
from crossmodal.reporting.tracking import embedder
from crossmodal.reporting.tracking.names import link_to, metric_name, shown
from crossmodal.reporting.tracking.store import EXPERIMENT, HASH, KEY, Store, Used, masked, opened

log = logging.getLogger(__name__)

LAYOUT = 3  # the version of the record's layout; a new number logs all runs again
PARENT = "mlflow.parentRunId"
ARTIFACTS = ("manifest.json", "config.yaml", "train.log")
SYSTEM = ("seconds", "peak_memory_mib", "gpu_memory_mib", "energy_joules", "gpu_energy_joules")


def _safely(what: str, step: Callable[[], Any]) -> Any:
    """The result of `step`, or False with a warning: an unreachable store must not fail a command."""
    try:
        return step()
    except Exception as error:  # whatever goes wrong in the store, the runs themselves are complete
        lines = str(error).strip().splitlines() or [type(error).__name__]
        texts = (masked(what), masked(lines[0]))
        log.warning("MLflow: %s: %s; the runs are unaffected (`crossmodal track --rebuild` refills it)", *texts)
        return False


def init_store(uri: str, artifacts: Path | None = None) -> bool:
    """Create the store and its experiment before several processes open it at once; returns False on failure.

    Parameters
    ----------
    uri : `sqlite:///FILE.db`, or a server's address.
    artifacts : folder of the runs' files; `mlartifacts` beside the database by default.
    """

    def step() -> bool:
        with opened(uri, artifacts):
            return True

    return _safely(f"{uri} cannot be made", step)


def make_store(tracking: Tracking) -> bool:
    """Call `init_store` with the settings of params.yaml; returns False where tracking is switched off."""
    if not tracking.enabled:
        log.info("tracking is switched off in params.yaml")
        return False
    return init_store(tracking.address)


# -- what is logged -------------------------------------------------------------------------------------------------


def flattened(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow's flat parameters, such as {'settings.dim': '256'}."""
    flat = {}
    for key, entry in value.items():
        if isinstance(entry, dict):
            flat |= flattened(entry, f"{prefix}{key}.")
        else:
            flat[metric_name(f"{prefix}{key}")] = str(entry)[:6000]
    return flat


def _params(job: Job, folder: Path, params: Params) -> dict[str, str]:
    """The settings that the run was trained with, as its `config.yaml` resolves them; a control has none."""
    settings: dict[str, Any] = job.model_dump(mode="json", exclude={"papers", "quick", "sweep"})
    try:
        resolved = {} if job.control else read_yaml(folder / "config.yaml")
        settings |= {key: resolved[key] for key in settings if key in resolved}
    except (OSError, UserError) as error:
        log.warning("%s: config.yaml: %s", job.key, error)
    return flattened({"scale": params.scale, **settings})


def _final(numbers: list[dict[str, Any]]) -> dict[str, float]:
    """The numbers of a run by their names in MLflow."""
    return {shown(row["aspect"], row["metric"], row["protocol"]): float(row["value"]) for row in numbers}


def _used(job: Job, manifest: dict[str, Any], params: Params) -> list[Used]:
    """The data set and the features that a run was trained on, with their hashes from its manifest."""
    hashes, folder = manifest.get("data") or {}, f"{params.paths.data}/{job.dataset}"
    used = []
    if "items" in hashes:
        about = {"split": job.split, "pairs": manifest.get("pairs"), "words": manifest.get("words")}
        digest = sha256_json([hashes["items"], hashes.get("split")])[:16]
        used.append(Used(f"{job.dataset}/{job.split}", digest, f"{folder}/items.parquet", about))
    for key, digest in hashes.items():
        kind, _, extractor = key.rpartition(".")
        if kind in MODALITIES:
            used.append(Used(f"{job.dataset}/{key}", digest[:16], f"{folder}/features/{kind}.{extractor}.npy"))
    return used


def _epochs(history: pd.DataFrame) -> Iterator[tuple[str, float, int]]:
    """(name, value, epoch) of every finite number of a history."""
    columns = [c for c in history if c != "epoch" and pd.api.types.is_numeric_dtype(history[c])]
    for column in columns:
        name = f"val/{column[4:].replace('_recall@', '.recall_')}" if column.startswith("val_") else f"train/{column}"
        for epoch, value in zip(history["epoch"], history[column], strict=True):
            if value is not None and math.isfinite(value):
                yield metric_name(name), float(value), int(epoch)


def _facts(manifest: dict[str, Any]) -> dict[str, float]:
    """Measurements of the training such as `system/seconds` (a system metric in MLflow) and `run/parameters`."""
    facts = {f"system/{name}": manifest.get(name) for name in SYSTEM}
    facts |= {f"run/{name}": manifest.get(name) for name in ("parameters", "pairs", "best_epoch")}
    return {name: float(value) for name, value in facts.items() if isinstance(value, int | float)}


# -- the tree of a paper --------------------------------------------------------------------------------------------


def _group(job: Job) -> str:
    return f"{job.dataset}/{job.split}/{job.name}"


@dataclass(frozen=True)
class Place:
    """The place of a job's runs: an experiment, and the parent run of a group, which is a row of the paper's tables."""

    experiment: str
    group: str
    labels: tuple[str, ...] = ()
    """The rows' names in the paper's tables."""
    tables: tuple[str, ...] = ()


class Tree:
    """The places of a plan's jobs, in the experiment of each of their papers."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.rows: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
        for name, paper in plan.papers.items():
            for table in paper.tables:
                for row in table.rows:
                    for experiment in named_experiments(row):
                        system = isinstance(row.experiment, dict) and next(
                            key for key, value in row.experiment.items() if value == experiment
                        )
                        self._row(name, experiment, f"{system}, {row.label}" if system else row.label, table.id)
        # A run that another one is initialised from is one of its stages, unless a table has a row for it.
        self.later: dict[tuple[str, str], str] = {}
        for job in plan.jobs.values():
            for paper in job.papers:
                if job.after and (paper, job.after) not in self.rows:
                    self.later.setdefault((paper, job.after), _group(job))

    def _row(self, paper: str, experiment: str, label: str, table: str) -> None:
        try:
            job = self.plan.job(self.plan.papers[paper].experiments[experiment], self.plan.params.seeds[0], paper)
        except UserError:  # there is no such run: the data set lacks what the model reads
            return
        row = self.rows.setdefault((paper, _group(job)), {"labels": {}, "tables": {}})
        row["labels"][label] = None
        row["tables"][table] = None

    def places(self, job: Job) -> list[Place]:
        places = []
        for paper in job.papers or ("",):
            group = _group(job)
            while (paper, group) in self.later:
                group = self.later[paper, group]
            row = self.rows.get((paper, group), {"labels": {}, "tables": {}})
            name = f"{EXPERIMENT}/{paper}" if paper else EXPERIMENT
            places.append(Place(name, group, tuple(row["labels"]), tuple(row["tables"])))
        return places

    def about(self, place: Place) -> str:
        """The description of an experiment's paper in one line."""
        paper = self.plan.papers.get(place.experiment.partition("/")[2])
        if paper is None:
            return ""
        doi = f" doi:{paper.doi}" if paper.doi else ""
        return f"{paper.title}. {paper.credit}".rstrip() + doi

    def stage(self, job: Job) -> int:
        """1 for a job that starts anew, 2 for one that is initialised from such a job, and so on."""
        before = self.plan.jobs.get(job.before or "")
        return 1 + self.stage(before) if before else 1 + bool(job.before)

    def data(self, job: Job) -> str:
        """The kind of a job's data set: `stand-in` (for published ones) or `real`."""
        params = self.plan.params
        return "stand-in" if job.dataset in params.players() else "real"

    def tags(self, job: Job, place: Place, key: str) -> dict[str, str]:
        tags = {
            KEY: key,
            "dataset": job.dataset,
            "data": self.data(job),
            "split": job.split,
            "model": job.model,
            "variant": job.variant,
            "paper": place.experiment.partition("/")[2],
            "papers": ",".join(job.papers),
            "row": "; ".join(place.labels),
            "tables": ", ".join(place.tables),
        }
        return {name: value for name, value in tags.items() if value}


# -- into the store -------------------------------------------------------------------------------------------------


def _parent(store: Store, tree: Tree, job: Job, place: Place, start: int) -> str:
    """The run of a row, under which its seeds are nested; `start` is the start time of the first of them in ms."""
    key = (place.experiment, place.group)
    if key not in store.known:
        dataset, split, name = place.group.split("/")
        model, _, variant = name.partition(".")
        row = job.model_copy(update={"dataset": dataset, "split": split, "model": model, "variant": variant})
        run = store.client.create_run(
            store.experiment(place.experiment),
            start_time=start,
            tags=tree.tags(row, place, place.group),
            run_name=f"{place.labels[0]} ({place.group})" if place.labels else place.group,
        )
        store.known[key] = [(run.info.run_id, "")]
    return store.known[key][0][0]


def _digests(folder: Path, job: Job) -> list[str]:
    return [sha256_file(path) for path in runs.metrics_files(folder, job) if path.exists()]


def _made(folder: Path, job: Job) -> float:
    """The time at which a run's metrics were written, in seconds."""
    return max(path.stat().st_mtime for path in runs.metrics_files(folder, job) if path.exists())


def _digest(folder: Path, job: Job, params: Params) -> str:
    """A hash of all that is logged of a run."""
    return sha256_json([LAYOUT, *_digests(folder, job), params.tracking.models])


def _track(store: Store, tree: Tree, job: Job, folder: Path) -> str:
    """Log a run that is new or has changed; returns `missing`, `unchanged` or `tracked`."""
    numbers = runs.numbers(folder, job)
    if numbers is None:
        return "missing"
    digest = _digest(folder, job, tree.plan.params)
    states = []
    for place in tree.places(job):
        store.experiment(place.experiment, tree.about(place))
        if store.current(place.experiment, job.key, digest):
            states.append("unchanged")
        else:
            _write(store, tree, job, place, folder, numbers, digest)
            states.append("tracked")
    return "tracked" if "tracked" in states else "unchanged"


def _write(
    store: Store, tree: Tree, job: Job, place: Place, folder: Path, numbers: list[dict[str, Any]], digest: str
) -> None:
    params = tree.plan.params
    manifest, history = runs.manifest(folder), runs.history(folder)
    end = int(_made(folder, job) * 1000)
    start = end - int(1000 * float(manifest.get("seconds") or 0))
    tags = {**tree.tags(job, place, job.key), "seed": str(job.seed), PARENT: _parent(store, tree, job, place, start)}
    if job.before or _group(job) != place.group:
        tags |= {"stage": str(tree.stage(job)), **({"before": job.before} if job.before else {})}
    if manifest.get("commit"):
        commit, _, changed = str(manifest["commit"]).partition(" ")
        tags |= {"git_commit": commit, "mlflow.source.git.commit": commit, "git_changes": str(bool(changed)).lower()}
    tags |= {"mlflow.source.type": "LOCAL", "mlflow.source.name": f"crossmodal train {job.key}"}
    if reason := _refused(job, manifest):
        tags["onnx"] = f"none: {reason}"
    if manifest.get("fallbacks"):
        tags["fallback"] = "; ".join(manifest["fallbacks"])[:5000]
    if manifest.get("sweep"):
        tags["sweep"] = sentence(manifest["sweep"])[:5000]
    name = f"{job.name} {job.split} seed{job.seed}"
    run_id = store.client.create_run(
        store.experiment(place.experiment), start_time=start, tags=tags, run_name=name
    ).info.run_id
    final = _final(numbers) | _facts(manifest)
    last = int(history.epoch.max()) if len(history) else 0
    metrics = [*_epochs(history), *((name, value, last) for name, value in final.items())]
    store.log(run_id, metrics, _params(job, folder, params), end)
    if used := _used(job, manifest, params):
        store.inputs(run_id, used)
    with tempfile.TemporaryDirectory() as temporary:
        for file in ARTIFACTS:
            if (folder / file).exists() and (source := _of_the_run(folder, file)) is not None:
                shutil.copyfile(source, Path(temporary) / file)
        if len(history):
            svg = learning_curves.run_curve(history, job.key)
            (Path(temporary) / "learning-curve.svg").write_text(svg, encoding="utf-8")
        for tag, value in _model(job, folder, Path(temporary) / "model", run_id, params).items():
            store.client.set_tag(run_id, tag, value)
        store.client.log_artifacts(run_id, temporary)
    # The hash is written last, so that a record that was interrupted has none and is replaced the next time.
    store.client.set_tag(run_id, HASH, digest)
    store.client.set_terminated(run_id, "FINISHED", end)
    store.known[place.experiment, job.key] = [(run_id, digest)]


def _of_the_run(folder: Path, file: str) -> Path | None:
    """The path of a run's file; None for a link that leads out of the run's folder, which others may have made."""
    try:
        return paths.inside(folder, file, str(folder))
    except UserError as error:
        log.warning("%s; it is not logged", error)
        return None


def _refused(job: Job, manifest: dict[str, Any]) -> str | None:
    """Why a search with the run could not export its encoder of sentences as ONNX; None if none has tried, or could."""
    others = [modality for modality in job.modalities if modality != "text"]
    state = onnx_encoder.state_of(job, manifest.get("weights_sha256"), manifest.get("data") or {})
    reasons = [onnx_encoder.refusal(job, to, state) for to in others]
    return next(filter(None, reasons), None)


def _model(job: Job, folder: Path, target: Path, run_id: str, params: Params) -> dict[str, str]:
    """Save the run's embedder among its artifacts; returns tags with its address, or the reason why there is none."""
    wanted = {"all": True, "first": job.seed == params.seeds[0], "none": False}[params.tracking.models]
    reason = embedder.without(job, folder) if wanted else f"tracking.models is {params.tracking.models}"
    if reason:
        return {"embedder": f"none: {reason}"}
    return {"embedder": "model", "mlflow.log-model.history": json.dumps([embedder.save(job, folder, target, run_id)])}


def _model_of_row(store: Store, run_id: str, members: list[Job], folder: Path, params: Params) -> None:
    """Save the embedder of the first seed that has one among the artifacts of a row's run, whose tags name the seed.

    The first, not the best one, since a choice by test results would flatter the system.
    """
    ordered = sorted(members, key=lambda job: job.seed)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "model"
        for job in ordered:
            tags = _model(job, folder / job.key, target, run_id, params)
            if target.exists():
                store.client.log_artifacts(run_id, temporary)
                tags["embedder_seed"] = str(job.seed)
                break
        else:
            tags = _model(ordered[0], folder / ordered[0].key, target, run_id, params)
    for tag, value in tags.items():
        store.client.set_tag(run_id, tag, value)


def _summarise(store: Store, place: Place, members: list[Job], folder: Path, params: Params) -> None:
    """Log the first seed's embedder, and means and deviations over seeds, to a row's run, where they have changed."""
    parent = store.known.get((place.experiment, place.group))
    entries_of = {job.key: store.known.get((place.experiment, job.key)) for job in members}
    digests = {key: entries[0][1] for key, entries in entries_of.items() if entries}
    if not parent or not digests:
        return
    run_id, old = parent[0]
    digest = sha256_json([digests, LAYOUT])
    if digest == old:
        return
    finals = pd.DataFrame([_final(runs.numbers(folder / job.key, job) or []) for job in members if job.key in digests])
    values = {**finals.mean().to_dict(), "run/seeds": float(len(finals))}
    if len(finals) > 1:
        values |= {f"{name}.sd": value for name, value in finals.std(ddof=1).items()}
    times = [_made(folder / job.key, job) for job in members if job.key in digests]
    end = int(1000 * max(times))
    # For one step MLflow keeps the latest value, and of equal times the largest: hence the current time.
    now = int(1000 * time.time())
    store.log(run_id, [(name, value, 0) for name, value in values.items() if math.isfinite(value)], {}, now)
    _model_of_row(store, run_id, [job for job in members if job.key in digests], folder, params)
    store.client.set_tag(run_id, HASH, digest)
    store.client.set_terminated(run_id, "FINISHED", end)
    parent[0] = (run_id, digest)


def _sync(plan: Plan, results: Path, jobs: dict[str, Job] | None, rebuild: bool) -> dict[str, Any]:
    chosen = runs.chosen(plan, jobs)
    folder = Path(results) / "runs"
    tree = Tree(plan)
    done: dict[str, Any] = {"tracked": [], "unchanged": [], "missing": []}
    groups: dict[str, list[Job]] = {}
    for job in plan.jobs.values():  # the means are over all seeds, even where only some are selected
        groups.setdefault(_group(job), []).append(job)
    with opened(plan.params.tracking.address, rebuild=rebuild) as store:
        if rebuild:
            store.clear()
        for key, job in tracked(chosen.items(), "tracking", unit="runs"):
            done[_track(store, tree, job, folder / key)].append(key)
        for place in dict.fromkeys(place for job in chosen.values() for place in tree.places(job)):
            _summarise(store, place, groups.get(place.group, []), folder, plan.params)
        # Below the address of MLflow's pages: runs with their data, source and headline metrics.
        done["views"] = {name: link_to(number) for name, number in sorted(store.experiments.items())}
    log.info("MLflow: %s", ", ".join(f"{len(done[state])} {state}" for state in ("tracked", "unchanged", "missing")))
    return done


# -- the steps ------------------------------------------------------------------------------------------------------


def track_all(plan: Plan, results: Path, jobs: dict[str, Job] | None = None) -> bool:
    """Log all finished runs; unchanged records stay. Returns False where the store is unreachable."""
    return _report(plan, results, jobs, rebuild=False).get("failed") is None


def rebuild(plan: Plan, results: Path, jobs: dict[str, Job] | None = None) -> bool:
    """Refill the store from the runs' folders, whatever it holds. Returns False where the store is unreachable."""
    return _report(plan, results, jobs, rebuild=True).get("failed") is None


def _report(plan: Plan, results: Path, jobs: dict[str, Job] | None, *, rebuild: bool) -> dict[str, Any]:
    if not plan.params.tracking.enabled:
        return {"failed": "tracking is switched off in params.yaml"}
    uri = plan.params.tracking.address
    done = _safely(f"{uri} cannot be written", lambda: _sync(plan, Path(results), jobs, rebuild))
    uri = masked(uri)  # the report is pushed with the results and must hold no password
    return {"uri": uri, **done} if done else {"uri": uri, "failed": "the store is down; see the log"}


def write(plan: Plan, jobs: dict[str, Job], target: Path, *, rebuild: bool = False) -> None:
    """The step of the DAG: log the jobs' runs, and write the outcome for each to `target/tracking.json`."""
    done = _report(plan, Path(plan.params.paths.results), jobs, rebuild=rebuild)
    write_json(target / "tracking.json", done)
