"""Collects the numbers of all runs in `metrics.parquet`: one row per number and paper. Tables read nothing else.

`write` is the step of the DAG: it writes metrics, comparison, the summary for DVC and its plots.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from crossmodal.core.console import tracked
from crossmodal.core.files import write_parquet, write_text
from crossmodal.experiments import Job, Plan
from crossmodal.reporting.results import comparison, cutoffs, efficiency, runs, summary
from crossmodal.reporting.results.metrics import TYPES

log = logging.getLogger(__name__)


def collect(plan: Plan, folder: Path, jobs: dict[str, Job] | None = None) -> pd.DataFrame:
    """The numbers of all finished runs.

    Parameters
    ----------
    folder : `results/runs`.
    jobs : the jobs to look for; all of the plan by default.

    Returns
    -------
    The columns of `TYPES`. A run that two papers share has its rows twice; a run of no paper (the controls on every
    data set) has the paper ''. Runs that are missing or damaged are logged and left out.
    """
    rows = []
    chosen, further = runs.chosen(plan, jobs), cutoffs.wanted(plan)
    n_collected = 0
    for key, job in tracked(chosen.items(), "reading runs", unit="runs"):
        numbers = runs.numbers(Path(folder) / key, job)
        if numbers is None:
            continue
        n_collected += 1
        metrics, data = further.get(job.dataset, ()), Path(plan.params.paths.data)
        numbers = cutoffs.complete(numbers, metrics, Path(folder) / key, job, data)
        about = {name: getattr(job, name) for name in ("dataset", "split", "model", "variant", "seed")}
        rows += [{"paper": paper, **about, **number} for paper in job.papers or ("",) for number in numbers]
    lacking = sum(not runs.is_made(Path(folder) / key, job) for key, job in chosen.items())
    log.info("%d of %d runs collected%s", n_collected, len(chosen), f"; {lacking} are not made yet" if lacking else "")
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def write(plan: Plan, jobs: dict[str, Job], folder: Path, target: Path) -> None:
    """Write `metrics`, `comparison.parquet`, `annotation_efficiency.csv`, `summary.json` and `plots/` into `target`."""
    metrics = collect(plan, folder, jobs)
    write_parquet(target / "metrics.parquet", metrics)
    write_parquet(target / "comparison.parquet", comparison.compare(plan, metrics, jobs, folder))
    write_text(target / "annotation_efficiency.csv", efficiency.efficiency(plan, jobs, folder).to_csv(index=False))
    summary.write(metrics, jobs, folder, target)
