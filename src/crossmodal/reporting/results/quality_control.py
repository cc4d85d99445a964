"""Quality control of metrics and tables: impossible numbers, runs of one seed that differ, runs that are missing.

`faults` checks numbers, `check` a whole scope; the command `crossmodal check` prints the latter with the rows' names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.experiments import Job, Plan
from crossmodal.reporting.results import runs
from crossmodal.tasks.base import metric as metric_of
from crossmodal.tasks.base import tasks

KEY = ["dataset", "split", "model", "variant", "seed"]
NUMBER = ["aspect", "metric", "protocol"]


@dataclass(frozen=True)
class Fault:
    """Something wrong with the numbers of a run."""

    dataset: str
    split: str
    name: str
    seed: int
    what: str

    def __str__(self) -> str:
        return f"{self.dataset}/{self.split}/{self.name}/seed{self.seed}: {self.what}"


def faults(metrics: pd.DataFrame) -> list[Fault]:
    """Values that a metric cannot have, recalls that fall with K, and runs with two values for one number."""
    listed = []
    plain = metrics.drop(columns="paper").drop_duplicates()
    for run, part in plain.groupby(KEY, sort=True):
        dataset, split, model, variant, seed = run
        about = (dataset, split, runs.name(model, variant), seed)
        for row in part.itertuples(index=False):
            why = out_of_range(row.metric, row.value, row.n_gallery)
            if why is not None:
                listed.append(Fault(*about, f"{row.aspect} {why}"))
        twice = part.groupby(NUMBER).value.agg(["size", "min", "max"])
        for (aspect, metric, protocol), row in twice[twice["size"] > 1].iterrows():
            what = f"two runs of this seed differ: {aspect} {metric} ({protocol}) is {row['min']:g} and {row['max']:g}"
            listed.append(Fault(*about, what))
        recalls = part[[bool((m := metric_of(name)) and name == f"recall@{m.k}") for name in part.metric]]
        for (aspect, protocol), rows in recalls.groupby(["aspect", "protocol"]):
            rows = rows.assign(k=[metric_of(name).k for name in rows.metric]).sort_values("k")
            if (np.diff(rows.value) < -1e-9).any():
                values = ", ".join(f"{value:g}" for value in rows.value)
                listed.append(Fault(*about, f"{aspect} recall falls as K grows ({protocol}): {values}"))
    return listed


def out_of_range(name: str, value: float, n_gallery: int) -> str | None:
    """The reason why a metric cannot have a value, by the bounds of its task; None if it can."""
    if not math.isfinite(value):
        return f"{name} is {value}"
    declared = metric_of(name)
    if declared is None:
        return None
    low, high = declared.range(n_gallery)
    slack = 1e-9 * max(1.0, abs(value))
    return None if low - slack <= value <= high + slack else f"{name} is {value:.6g}, expected {low:g} to {high:g}"


def of_rows(faults: Iterable[Fault], cells: list[dict[str, Any]]) -> str | None:
    """The first fault that concerns a table's cells, with its row, and the number of others; None for none."""
    labels = {
        (cell["ours_dataset"], cell["ours_split"], cell["ours_model"]): cell["system"]
        for cell in reversed(cells)
        if cell.get("status") == "done"
    }
    touching = [(labels[f.dataset, f.split, f.name], f) for f in faults if (f.dataset, f.split, f.name) in labels]
    if not touching:
        return None
    label, fault = touching[0]
    more = f", and {len(touching) - 1} more" if len(touching) > 1 else ""
    return f"row {label!r}: {fault}{more}"


def check(plan: Plan, jobs: dict[str, Job], folder: Path, target: Path, against: Path | None = None) -> list[str]:
    """The failures of a scope's tables, one line each; empty where all is well.

    A table fails if its controls are off or were not run, a number is impossible, runs of a row are missing though they
    were planned, a run's metrics do not follow from its queries, or (with `against`, another results folder) the same
    run has other numbers there.

    Raises
    ------
    UserError : there is no `comparison.parquet` yet, or `against` is no folder of results.
    """
    if against is not None and not (against / "runs").is_dir():
        raise UserError(f"{against}: has no folder `runs`; expected another results folder to compare the runs with")
    compared = read_parquet(target / "comparison.parquet")
    messages: dict[str, None] = {}
    for (paper, table), part in compared.groupby(["paper", "table"], sort=False):
        qc = str(part.qc.iloc[0])
        where = f"{paper} {table}"
        if qc.startswith("off"):
            messages[f"{where}: {qc.removeprefix('off: ')}"] = None
        elif qc.startswith("not run") and (part.status == "done").any():
            messages[f"{where}: controls not run: {qc.removeprefix('not run: ')}"] = None
        lacking: dict[str, None] = {}
        for row in part.itertuples():
            if row.n_expected and row.n_seeds < row.n_expected:
                run = f"{row.ours_dataset}/{row.ours_split}/{row.ours_model}"
                if not any(runs.is_made(folder / key, job) for key, job in jobs.items() if _is_seed(key, run)):
                    lacking[run] = None
                    continue
                what = f"{row.n_seeds} of {row.n_expected} seeds of {run} are present, without a stated reason"
                if has := _measured(jobs, folder, run, row.protocol):
                    wanted = f"{row.aspect} {row.metric} ({row.protocol})"
                    what = f"{run} was tested, but {wanted} was not measured; there are {', '.join(has)}"
                messages[f"{where}: row {row.system!r}: {what}"] = None
        if lacking:
            first, *others = lacking
            more = f", and {len(others)} more" if others else ""
            messages[f"{where}: {len(lacking)} of its runs are not made: {first}{more}"] = None
    for key, job in jobs.items():
        numbers = runs.numbers(folder / key, job)
        if numbers is not None:
            messages |= dict.fromkeys(f"{key}: {what}" for what in _own(folder / key, numbers))
            other = runs.numbers(against / "runs" / key, job) if against is not None else None
            if other is not None:
                messages |= dict.fromkeys(f"{key}: {what}" for what in _other(numbers, other, against))
    return list(messages)


def _is_seed(key: str, run: str) -> bool:
    """Whether `DATASET/SPLIT/MODEL/seedN` is a seed of `DATASET/SPLIT/MODEL`."""
    return key.rpartition("/")[0] == run


def _measured(jobs: dict[str, Job], folder: Path, run: str, protocol: str) -> list[str]:
    """`direction metric` for each number that all runs `DATASET/SPLIT/MODEL` have; empty where a run is missing."""
    every = [runs.numbers(folder / key, job) for key, job in jobs.items() if _is_seed(key, run)]
    if not every or None in every:
        return []
    return [*dict.fromkeys(f"{n['aspect']} {n['metric']}" for n in every[0] if n["protocol"] == protocol)]


def _own(folder: Path, numbers: list[dict[str, Any]]) -> list[str]:
    """The differences between a run's metrics and those computed from its examples."""
    messages = []
    for name in dict.fromkeys(number["task"] for number in numbers):
        examples = runs.examples(folder / name)
        if examples is None:
            messages.append(f"{name}/examples.parquet is missing or damaged")
            continue
        folds: dict[tuple[str, str], list[pd.DataFrame]] = {}
        for (protocol, aspect, _), part in examples.groupby(["protocol", "aspect", "fold"], sort=True):
            folds.setdefault((aspect, protocol), []).append(part)
        for number in (number for number in numbers if number["task"] == name):
            declared = tasks()[name].metric(number["metric"])
            parts = folds.get((number["aspect"], number["protocol"]), ())
            values = [declared.value(part) for part in parts] if declared is not None else []
            if not values or None in values:
                continue
            again = float(np.mean(values))
            if abs(again - number["value"]) > 1e-9 * max(1.0, abs(again)):
                what = f"{number['aspect']} {number['metric']} ({number['protocol']})"
                messages.append(f"{what} is {number['value']:.6g}, but its examples give {again:.6g}")
    return messages


def _other(numbers: list[dict[str, Any]], other: list[dict[str, Any]], where: Path) -> list[str]:
    """The differences between two runs of one seed."""
    others = {tuple(n[key] for key in NUMBER): n["value"] for n in other}
    keys = [tuple(n[key] for key in NUMBER) for n in numbers]
    return [
        f"two runs of this seed differ: {' '.join(key)} is {n['value']!r} here and {others[key]!r} in {where}"
        for key, n in zip(keys, numbers, strict=True)
        if key in others and others[key] != n["value"]
    ]
