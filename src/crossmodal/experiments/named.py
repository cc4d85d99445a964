"""Runs that are named by their keys or by their folders, as users do on the command line and in Python."""

from __future__ import annotations

import os
from pathlib import Path

from crossmodal.core.errors import UserError, suggestion
from crossmodal.experiments.params import LARGEST_SEED
from crossmodal.experiments.plan import Job, Plan, job_in
from crossmodal.experiments.settings import validated
from crossmodal.experiments.tables import Experiment


def job_of(plan: Plan, key: str) -> Job:
    """The job `DATASET/SPLIT/MODEL[.VARIANT]/seedN`.

    Raises
    ------
    UserError : the path names no run, the data set or model is unknown, or the model reads inputs that the set lacks.
    """
    if key in plan.jobs:
        return plan.jobs[key]
    parts = key.strip("/").split("/")
    if len(parts) != 4 or not parts[3].startswith("seed") or not parts[3][4:].isdigit():
        raise UserError(f"{key!r} names no run; expected DATASET/SPLIT/MODEL/seedN, such as world/full/vsepp/seed0")
    dataset, split, name, seed = parts
    if int(seed[4:]) > LARGEST_SEED:
        raise UserError(f"{key}: a seed is a whole number from 0 to {LARGEST_SEED}")
    for other in plan.jobs.values():  # another seed of a planned run has the same settings
        if (other.dataset, other.split, other.name) == (dataset, split, name):
            return other.model_copy(update={"seed": int(seed[4:]), "quick": False})
    model, _, variant = name.partition(".")
    if variant:
        raise UserError(f"{key}: no experiment of papers/*.yaml defines the variant {variant!r} of {model}")
    if dataset not in plan.params.datasets:
        raise UserError(f"{key}: data set {dataset!r} is unknown" + suggestion(dataset, plan.params.datasets))
    experiment = validated(Experiment, {"model": model, "dataset": dataset, "split": split}, f"run {key}")
    try:
        return plan.job(experiment, int(seed[4:]), dataset=dataset)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def run_at(plan: Plan, name: str | Path) -> tuple[Job, Path]:
    """The job and the folder of a run that is named, or whose folder is, wherever that lies.

    A run that the plan does not have is what the `config.yaml` in its folder says.

    Parameters
    ----------
    name : DATASET/SPLIT/MODEL[.VARIANT]/seedN, or the folder of a run, absolute or relative.

    Raises
    ------
    UserError : the name is no run's, and the folder holds no trained run.
    """
    key, folder = place_of(Path(plan.params.paths.results), name)
    if key is None:
        return job_in(folder), folder
    try:
        return job_of(plan, key), folder
    except UserError:
        if not (folder / "config.yaml").is_file():
            raise
        return job_in(folder), folder


def place_of(results: Path, name: str | Path) -> tuple[str | None, Path]:
    """The key and the folder of a run that is named by either; no key for a folder that lies outside of `results`.

    Raises
    ------
    UserError : a folder that lies outside and holds no trained run.
    """
    runs, folder = results / "runs", Path(name)
    for place, root in ((folder.absolute(), runs.absolute()), (Path(os.path.realpath(folder)), runs.resolve())):
        if place.is_relative_to(root):
            key = place.relative_to(root).as_posix()
            return key, runs / key
    if (folder / "config.yaml").is_file():
        return None, folder
    if folder.is_dir() and len(folder.parts) != 4:
        raise UserError(f"{folder}: holds no trained run, since it has no config.yaml; name the folder seedN of a run")
    return str(name).strip("/"), runs / str(name).strip("/")


def before_of(plan: Plan, job: Job, folder: Path) -> Path | None:
    """The folder of the run that the one in `folder` is initialised from, which lies beside it; None without such."""
    if job.before is None:
        return None
    folder = folder.absolute()
    beside = "/".join(folder.parts[-4:]) == job.key
    return (folder.parents[3] if beside else Path(plan.params.paths.results) / "runs") / job.before
