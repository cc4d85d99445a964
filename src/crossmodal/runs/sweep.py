"""Tries the candidates of a sweep, and chooses the one that does best on validation items."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from crossmodal.core.display import readable_seconds
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import read_record, write_json
from crossmodal.experiments import Job
from crossmodal.experiments.sweeps import CHOICE, choose, tried_file
from crossmodal.runs.build import CHECKPOINTS
from crossmodal.runs.train import train_job
from crossmodal.runs.trained import trained
from crossmodal.tasks.base import chooser_of

log = logging.getLogger(__name__)


def try_candidate(job: Job, name: str, folder: Path, data: Path, before: Path | None = None) -> dict[str, Any]:
    """Train a candidate, whose weights are not kept, and record its value on validation items.

    Parameters
    ----------
    job : the run with the sweep; its seed is that of the candidate.
    folder : the folder of the sweep.
    before : folder of the run that the candidate begins from, if it begins from one.

    Returns
    -------
    The record: `settings`, the `value` of the criterion (None where training diverged), and the `epoch` and `seconds`.

    Raises
    ------
    UserError : the sweep has no such candidate, or no task of the model has a criterion; or as `train_job`.
    """
    candidates = job.candidates
    if name not in candidates:
        raise UserError(f"{job.key}: the sweep has no candidate {name!r}{suggestion(name, candidates)}")
    candidate = candidates[name]
    from crossmodal.training.loop import DivergedError  # imported here, since it takes seconds

    record: dict[str, Any] = {"settings": job.sweep.candidates[name], "value": None, "epoch": None, "seconds": None}
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".candidate-", dir=folder) as scratch:
        try:
            train_job(candidate, Path(scratch), data, before=before)
        except DivergedError as error:
            log.warning("%s: candidate %s: %s", job.key, name, error)
        else:
            record["value"], record["epoch"] = _validated(candidate, Path(scratch), data)
            record["seconds"] = read_record(Path(scratch) / "manifest.json")["seconds"]
    write_json(tried_file(folder, name), record)
    return record


def _validated(job: Job, folder: Path, data: Path) -> tuple[float, int | None]:
    """The value of the criterion on validation items at the best epoch, and the epoch; None for a closed form."""
    task = _chooser(job)
    history = pd.read_parquet(folder / "history.parquet")
    if len(history):
        epoch = read_record(folder / "manifest.json")["best_epoch"]
        return float(history.set_index("epoch").loc[epoch, f"val_{task.criterion}"]), int(epoch)
    from crossmodal.training.devices import device_slot

    model, corpus = trained(job, folder, data)
    with device_slot(CHECKPOINTS) as device:
        scores = import_module(task.selection).validate(model.to(device), corpus, "val", device, None)
    return float(scores[task.criterion]), None


def _chooser(job: Job) -> Any:
    task = chooser_of(job.model, job.relevance)
    if task is None:
        raise UserError(f"{job.key}: sweep: no task of model {job.model!r} has a criterion on validation items")
    return task


def choose_candidate(job: Job, folder: Path) -> dict[str, Any]:
    """Choose among the recorded candidates, and write `choice.json`: the choice, the criterion and all that was tried.

    Raises
    ------
    UserError : the run has no sweep, a candidate has not been tried, or training diverged for all.
    """
    if job.sweep is None:
        raise UserError(f"{job.key}: has no `sweep` in papers/, so that there is nothing to choose")
    records = {}
    for name, settings in job.sweep.candidates.items():
        path = tried_file(folder, name)
        if not path.exists():
            raise UserError(
                f"{path}: not found; try the candidate first: crossmodal sweep {job.key.rpartition('/')[0]} "
                f"--candidate {name}"
            )
        records[name] = {**read_record(path), "settings": settings}
    best = choose(records)
    task = _chooser(job)
    record = {
        "digest": job.digest,
        "settings": job.sweep.candidates[best],
        "criterion": task.criterion,
        "label": task.criterion_label,
        "seed": job.seed,
        "combinations": len(job.sweep.grid),
        "drawn_with": job.sweep.seed,
        "tried": [{"name": name, **one} for name, one in records.items()],
    }
    write_json(folder / CHOICE, record)
    spent = sum(one["seconds"] or 0 for one in records.values())
    log.info("%s: %s is chosen of %d candidates (%s)", job.key, best, len(records), readable_seconds(spent))
    return record
