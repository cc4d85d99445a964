"""Annotation efficiency of the runs: `annotation_efficiency.csv`, one row per system, direction and metric.

It measures how well a system uses few annotated pairs: its mean recall or CIDEr over log-annotations, the pairs that it
needs for a target, and their ratio to those of a reference. Intervals are by bootstrap over queries and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.core.errors import UserError
from crossmodal.evaluation.efficiency import annotations_to_reach, area
from crossmodal.evaluation.statistics import clustered, resampled_means
from crossmodal.experiments import CONTROLS, Job, Plan
from crossmodal.reporting.results import runs
from crossmodal.reporting.results.significance import reader
from crossmodal.tasks.base import Task, label, tasks

SHARE = 0.9
"""The target recall as a share of the lowest best recall of the compared systems, so that all of them reach it."""

TYPES = {
    "dataset": "string",
    "aspect": "string",
    "metric": "string",
    "system": "string",
    "splits": "string",
    "pairs_least": "float64",
    "pairs_most": "float64",
    "n_seeds": "int64",
    "area": "float64",
    "area_low": "float64",
    "area_high": "float64",
    "target": "float64",
    "pairs_needed": "float64",
    "pairs_needed_low": "float64",
    "pairs_needed_high": "float64",
    "reference": "string",
    "ratio": "float64",
    "ratio_low": "float64",
    "ratio_high": "float64",
}


def efficiency(plan: Plan, jobs: dict[str, Job], folder: Path) -> pd.DataFrame:
    """Annotation efficiency of every system that was trained on at least two amounts of annotation.

    Systems are compared where they were trained on the same splits. `reference` is the system with the highest area;
    `ratio` is the number of annotated pairs that the system needs to reach `target`, divided by that of the reference.

    Parameters
    ----------
    folder : `results/runs`.

    Returns
    -------
    The columns of `TYPES`: areas and targets are in per cent, intervals are of 95 %, and values are null where a curve
    stays below the target.
    """
    rows = [row for task in tasks().values() if task.curves for row in _of_task(task, plan, jobs, folder)]
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def _of_task(task: Task, plan: Plan, jobs: dict[str, Job], folder: Path) -> list[dict[str, Any]]:
    """The rows of the runs that were evaluated on a task."""
    keys = {key for key in jobs if (folder / key / task.name / "examples.parquet").exists()}
    values = reader(plan, keys, folder)
    pairs = _pairs({key: jobs[key] for key in sorted(keys)}, folder)
    families: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for dataset, name in sorted({(d, n) for d, _, n in pairs}):
        splits = sorted((s for d, s, n in pairs if (d, n) == (dataset, name)), key=lambda s: pairs[dataset, s, name])
        if len({pairs[dataset, split, name] for split in splits}) == len(splits) > 1:
            families.setdefault((dataset, tuple(splits)), []).append(name)
    rows = []
    for (dataset, splits), names in families.items():
        amounts = {name: np.array([pairs[dataset, split, name] for split in splits]) for name in names}
        for aspect in task.aspects:
            for metric in task.curves:
                by_system = {
                    (name, split): values(dataset, (split, name), "all", aspect, metric)
                    for name in names
                    for split in splits
                }
                about = {"dataset": dataset, "aspect": aspect, "metric": metric, "splits": " ".join(splits)}
                rows += [about | row for row in _rows(names, splits, amounts, by_system)]
    return rows


def _pairs(jobs: dict[str, Job], folder: Path) -> dict[tuple[str, str, str], float]:
    """{(data set, split, system): number of annotated pairs that it was trained on}, from the manifests."""
    counts_of: dict[tuple[str, str, str], list[float]] = {}
    for key, job in jobs.items():
        pairs = runs.manifest(folder / key).get("pairs")
        if job.model not in CONTROLS and pairs:
            counts_of.setdefault((job.dataset, job.split, job.name), []).append(float(pairs))
    return {about: float(np.mean(values)) for about, values in counts_of.items()}


def _rows(
    names: list[str], splits: tuple[str, ...], amounts: dict[str, np.ndarray], values_of: dict[tuple[str, str], Any]
) -> list[dict[str, Any]]:
    """The rows of systems that were trained on the same splits, for one direction and metric."""
    present = [value for value in values_of.values() if value is not None]
    if len(present) < len(values_of) or any(not np.array_equal(value[1], present[0][1]) for value in present):
        return []
    data = clustered([value[0] for value in values_of.values()], present[0][2])
    means, (_, _, drawn) = data.means, resampled_means(data)
    place = {name: slice(n * len(splits), (n + 1) * len(splits)) for n, name in enumerate(names)}
    areas = {name: float(area(amounts[name], means[place[name]])) for name in names}
    best = max(names, key=lambda name: (areas[name], name))
    target = round(SHARE * min(float(means[place[name]].max()) for name in names), 1)
    needed = {n: float(annotations_to_reach(amounts[n], means[place[n]], target)) for n in names}
    needed_drawn = {n: annotations_to_reach(amounts[n], drawn[place[n]].T, target) for n in names}
    rows = []
    for name in names:
        row = {
            "system": name,
            "pairs_least": amounts[name].min(),
            "pairs_most": amounts[name].max(),
            "n_seeds": min(len(values_of[name, split][0]) for split in splits),
            "area": areas[name],
            "target": target,
            "pairs_needed": needed[name],
        }
        row |= _interval("area", area(amounts[name], drawn[place[name]].T))
        row |= _interval("pairs_needed", needed_drawn[name])
        if name != best:
            row |= {"reference": best, "ratio": needed[name] / needed[best]}
            row |= _interval("ratio", needed_drawn[name] / needed_drawn[best])
        rows.append(row)
    return rows


def _interval(name: str, drawn: np.ndarray) -> dict[str, float]:
    """The 95 % interval of draws; a draw that misses the target counts as infinite, and an infinite bound is null."""
    with np.errstate(invalid="ignore"):
        ends = np.percentile(np.where(np.isnan(drawn), np.inf, drawn), [2.5, 97.5], method="inverted_cdf")
    return {f"{name}_{end}": value for end, value in zip(("low", "high"), ends, strict=True) if np.isfinite(value)}


def read(path: Path) -> pd.DataFrame:
    """The table `annotation_efficiency.csv` as `efficiency` returned it.

    Raises
    ------
    UserError : the file is missing or damaged.
    """
    try:
        return pd.read_csv(path, dtype=TYPES, keep_default_na=True)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; the step that makes it (`crossmodal collect`) has not run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); run `crossmodal collect` again") from None


def lines(frame: pd.DataFrame, metrics: Sequence[str] = ("recall@10", "cider")) -> list[dict[str, str]]:
    """The rows of some metrics as texts for the report."""
    return [
        {
            "dataset": str(row.dataset),
            "aspect": str(row.aspect),
            "system": str(row.system),
            "metric": label(row.metric),
            "amounts": f"{row.pairs_least:,.0f} to {row.pairs_most:,.0f}",
            "area": _span(row.area, row.area_low, row.area_high, 1),
            "target": f"{row.target:.1f}",
            "needed": _span(row.pairs_needed, row.pairs_needed_low, row.pairs_needed_high, 0),
            "ratio": "" if pd.isna(row.reference) else _span(row.ratio, row.ratio_low, row.ratio_high, 2),
            "reference": "" if pd.isna(row.reference) else str(row.reference),
        }
        for row in frame[frame.metric.isin(metrics)].itertuples()
    ]


def _span(value: float, low: float, high: float, digits: int) -> str:
    if pd.isna(value):
        return "not reached"
    text = f"{value:,.{digits}f}"
    ends = ["…" if pd.isna(end) else f"{end:,.{digits}f}" for end in (low, high)]
    return f"{text} ({ends[0]} to {ends[1]})"
