"""Evaluates a trained job on its test items: each task has a folder with its examples and its metrics."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from crossmodal.core import cores
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import read_parquet, read_record, write_json
from crossmodal.corpus.opening import load
from crossmodal.experiments import Job
from crossmodal.modalities import MODALITIES
from crossmodal.runs.build import CHECKPOINTS
from crossmodal.runs.trained import trained
from crossmodal.tasks.base import Number, Task, tasks, too_few
from crossmodal.tasks.ranked import shards
from crossmodal.training.devices import device_slot

if TYPE_CHECKING:
    from crossmodal.training.loop import Limit

log = logging.getLogger(__name__)


def evaluate(
    job: Job, folder: Path, data: Path, scale: str, only: str | None = None, limit: Limit | None = None
) -> None:
    """Evaluate a trained job on its tasks, and write the `metrics.json` of each task below `folder`.

    Parameters
    ----------
    scale : the scale of the run (`embedded` or `full`), which is recorded in `metrics.json`.
    only : the name of one of the job's tasks; None for all of them.
    limit : how much of the data is kept, for a trial of the run.

    Raises
    ------
    UserError : a run that is not trained, weights that differ from its manifest, or a task that is not the job's.
    """
    chosen_tasks = [_task(job, only)] if only else [tasks()[name] for name in job.tasks]
    if job.control:
        _control(job, folder, data, scale, chosen_tasks, limit)
        return
    model, corpus = trained(job, folder, data, limit)
    with device_slot(CHECKPOINTS) as device:
        model.to(device)
        for task in chosen_tasks:
            target = folder / task.name
            target.mkdir(exist_ok=True)
            _write(job, folder, task, scale, task.evaluate(model, corpus, job.folds, device, target))


def _control(job: Job, folder: Path, data: Path, scale: str, chosen_tasks: list[Task], limit: Limit | None) -> None:
    """Evaluate a control, whose predictions are made from the ids and the ground truth of the test items."""
    cores.compute_in(job.threads)
    modalities = job.settings.get("modalities")
    if modalities is None:
        present = set(read_parquet(data / job.dataset / "items.parquet", ["modality"]).modality)
        modalities = [m for m in MODALITIES if m in present]
    chosen = {"relevance": job.relevance, "stages": job.stages}
    corpus = load(data / job.dataset, job.split, dict.fromkeys(modalities, "ids"), {}, **chosen)
    corpus = corpus if limit is None else corpus.sampled(limit.items)
    for task in chosen_tasks:
        target = folder / task.name
        target.mkdir(parents=True, exist_ok=True)
        _write(job, folder, task, scale, task.control(job.model, corpus, job.folds, job.seed, target))


def _task(job: Job, name: str) -> Task:
    if name not in job.tasks:
        raise UserError(
            f"{job.key}: is not evaluated on the task {name!r}; its tasks are {', '.join(job.tasks) or 'none'}"
            + suggestion(name, job.tasks)
        )
    return tasks()[name]


def encode_job(job: Job, folder: Path, data: Path, name: str) -> None:
    """The first of three steps of a ranking in shards: write the encodings of the test items as .npy into `encoded`."""
    model, corpus = trained(job, folder, data)
    target = folder / _task(job, name).name / "encoded"
    with device_slot(CHECKPOINTS) as device:
        shards.encode(model.to(device), corpus, device, target)


def shard_job(job: Job, folder: Path, name: str, number: int, count: int) -> None:
    """The second step: rank shard `number` of `count` and write it to `shards/NUMBER.npz`."""
    cores.compute_in(job.threads)
    target = folder / _task(job, name).name
    shards.rank(target / "encoded", number, count, target / "shards" / f"{number}.npz")


def gather_job(job: Job, folder: Path, data: Path, scale: str, name: str, count: int) -> None:
    """The last step: join the shards and write the files of `evaluate`, with the same bits.

    A model that does not compare vectors is evaluated as a whole here.
    """
    cores.compute_in(job.threads)
    task = _task(job, name)
    target = folder / task.name
    if not shards.compares_vectors(target / "encoded"):
        log.info("%s: has no vectors to cut: its test items are ranked whole", job.key)
        evaluate(job, folder, data, scale, name)
        return
    paths = [target / "shards" / f"{number}.npz" for number in range(count)]
    _write(job, folder, task, scale, task.written(*shards.gather(target / "encoded", paths), job.folds, target))


def _write(job: Job, folder: Path, task: Task, scale: str, numbers: list[Number]) -> None:
    about = {
        "dataset": job.dataset,
        "split": job.split,
        "model": job.model,
        "variant": job.variant,
        "seed": job.seed,
    }
    content = {"job": about, "task": task.name, "scale": scale, "numbers": numbers}
    if not job.control:
        content["weights_sha256"] = read_record(folder / "manifest.json")["weights_sha256"]
    write_json(folder / task.name / "metrics.json", content)
    for row in numbers:
        log.info("%(protocol)-6s %(aspect)-14s %(metric)-12s %(value)8.2f", row)
    if warning := too_few(numbers):
        log.warning("%s: %s", job.key, warning)
