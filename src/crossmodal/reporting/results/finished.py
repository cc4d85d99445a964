"""The runs that are there, each with its headline score, the time of its training and its size on disk.

This module imports neither torch nor pandas, since `crossmodal list runs --done` waits for each import.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossmodal.core.errors import UserError
from crossmodal.experiments import Job, Plan
from crossmodal.experiments.named import job_of
from crossmodal.reporting.results import runs
from crossmodal.tasks.base import headlines

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedRun:
    """A run that was tested."""

    run: str
    """DATASET/SPLIT/MODEL[.VARIANT]/seedN"""
    quick: bool
    """Whether `quick` makes it."""
    task: str | None
    """The task of the headline score; None, as are the next three fields, for a run without any of the headlines."""
    aspect: str | None
    metric: str | None
    score: float | None
    seconds: float | None
    """Seconds of training; None for a control, which is not trained."""
    bytes: int
    """Bytes of all files in its folder."""


def finished(plan: Plan) -> list[FinishedRun]:
    """The tested runs in the folder of results, in the order of the plan and then those outside of it by name.

    Runs with damaged metrics are logged and left out, as are those of variants, models or data sets that the plan does
    not know.
    """
    folder = Path(plan.params.paths.results) / "runs"
    keys = {path.relative_to(folder).as_posix() for path in folder.glob("*/*/*/seed*")}
    ordered = [*(key for key in plan.jobs if key in keys), *sorted(keys - {*plan.jobs})]
    found = [(key, folder / key, _job(plan, key)) for key in ordered]
    if unknown := [key for key, _, job in found if job is None]:
        more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        log.warning("left out, since params.yaml and papers/ do not define it: %s%s", unknown[0], more)
    made = [(key, path, job) for key, path, job in found if job is not None and runs.is_made(path, job)]
    described = [_finished(path, job, quick=key in plan.jobs and job.quick) for key, path, job in made]
    return [one for one in described if one is not None]


def _job(plan: Plan, key: str) -> Job | None:
    """The job of a run's folder; None for a run of a model or data set that the plan does not know any more."""
    try:
        return job_of(plan, key)
    except UserError:
        return None


def _finished(folder: Path, job: Job, *, quick: bool) -> FinishedRun | None:
    numbers = runs.numbers(folder, job)
    if numbers is None:
        return None
    head = headline(numbers) or {}
    seconds = runs.manifest(folder).get("seconds")
    return FinishedRun(
        run=job.key,
        quick=quick,
        task=head.get("task"),
        aspect=head.get("aspect"),
        metric=head.get("metric"),
        score=head.get("value"),
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        bytes=size_of(folder),
    )


def headline(numbers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The number by which systems are compared: the first headline that a run has, of its whole test set."""
    known = {(n["aspect"], n["metric"]): n for n in reversed(numbers)}  # of several protocols the first one counts
    known |= {(n["aspect"], n["metric"]): n for n in numbers if n["protocol"] == "all"}
    return next((known[key] for key in headlines() if key in known), None)


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder and those below it."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += size_of(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                total += entry.stat().st_size
    return total
