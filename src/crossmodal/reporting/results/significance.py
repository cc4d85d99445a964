"""Intervals and significance of the cells of tables, computed from the runs' `examples.parquet`.

A cell is tested against the row that its table names as `baseline`, or else against the best other system with the
same annotation, never against a control. Metrics that are neither a mean over queries nor a formula of their sums
(median rank, sums of recalls) have no such interval and test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.core.console import tracked
from crossmodal.evaluation.statistics import clustered, holm, permutation_p_values, resampled_means
from crossmodal.experiments import CONTROLS, Plan, Table
from crossmodal.reporting.results import runs
from crossmodal.tasks.base import folder_of_metric, lower_is_better
from crossmodal.tasks.base import metric as metric_of

LEVEL = 0.05

System = tuple[str, str]  # split and name of runs
Values = Callable[[str, System, str, str, str], tuple[np.ndarray, np.ndarray, np.ndarray] | None]


def reader(plan: Plan, keys: set[str], folder: Path) -> Values:
    """A function of (dataset, system, protocol, aspect, metric) that returns its (S, Q) values over the seeds.

    Of a metric that is a formula of K sums, they are (S, Q, K). It also returns the (Q,) ids and groups of the queries,
    in the order of their ids; or None where a run's queries are missing or do not give the metric.
    """

    @cache
    def read(task: Path) -> pd.DataFrame | None:
        table = runs.examples(task)
        return None if table is None else table.sort_values(["protocol", "aspect", "query_id"], kind="stable")

    @cache
    def values(dataset: str, system: System, protocol: str, aspect: str, metric: str):
        split, name = system
        rows, ids, groups = [], None, None
        for seed in plan.params.seeds:
            key = f"{dataset}/{split}/{name}/seed{seed}"
            if key not in keys:
                continue
            task = folder_of_metric(folder / key, metric)
            frame = None if task is None else read(task)
            if frame is None:
                return None
            part = frame[(frame.protocol == protocol) & (frame.aspect == aspect)]
            declared = metric_of(metric)
            table = None
            if declared is not None:
                table = declared.of_examples(part) if declared.formula is None else declared.summands(part)
            query_ids = part.query_id.to_numpy()
            if table is None or not len(query_ids) or (ids is not None and not np.array_equal(ids, query_ids)):
                return None
            ids, groups = query_ids, part.query_group.to_numpy()
            rows.append(table)
        return (np.stack(rows), ids, groups) if rows else None

    return values


def fill(plan: Plan, cells: list[dict[str, Any]], keys: set[str], folder: Path) -> None:
    """Put `ours_low`, `ours_high`, `reference`, `p_value`, `p_holm` and `against` into the cells that are done."""
    values = reader(plan, keys, folder)
    tables = {(paper.name, table.id): table for paper in plan.papers.values() for table in paper.tables}
    intervals: dict[tuple, tuple[float, float]] = {}
    for key, table in tracked(tables.items(), "intervals and tests", unit="tables"):
        _fill_table(table, [c for c in cells if (c["paper"], c["table"]) == key], values, intervals)


def _fill_table(table: Table, cells: list[dict[str, Any]], values: Values, intervals: dict) -> None:
    tests: dict[tuple, float] = {}
    comparisons: list[tuple[dict[str, Any], tuple]] = []
    measured: dict[tuple, list[dict[str, Any]]] = {}
    for cell in cells:
        if cell["status"] == "done":
            about = (cell["ours_dataset"], cell["protocol"], cell["aspect"], cell["metric"])
            measured.setdefault(about, []).append(cell)
    for about, here in measured.items():
        dataset, protocol, aspect, metric = about
        values_of = {s: values(dataset, s, protocol, aspect, metric) for s in {_system(cell) for cell in here}}
        present = {system: value for system, value in sorted(values_of.items()) if value is not None}
        if not present:
            continue
        order = list(present)
        first = present[order[0]]
        alike = [system for system in order if np.array_equal(present[system][1], first[1])]
        data = clustered([present[system][0] for system in alike], first[2], metric_of(metric).formula)
        fresh = [system for system in alike if (about, system) not in intervals]
        if fresh:
            low, high, _ = resampled_means(data)
            intervals |= {(about, s): (low[n], high[n]) for n, s in enumerate(alike)}
        pairs = {}
        for cell in here:
            system = _system(cell)
            if system not in alike:
                continue
            cell["ours_low"], cell["ours_high"] = intervals[about, system]
            other = _reference(table, cell, here, metric)
            if other is not None and other in alike and not _control(system):
                cell["reference"] = other[1] if other[0] == system[0] else f"{other[1]} ({other[0]})"
                pair = tuple(sorted((alike.index(system), alike.index(other))))
                pairs[pair] = None
                comparisons.append((cell, (about, pair, other)))
        p = permutation_p_values(data, list(pairs))
        tests |= {(about, pair): value for pair, value in zip(pairs, p, strict=True)}
        for cell, (where, pair, other) in comparisons:
            if where == about:
                cell["p_value"] = tests[about, pair]
                mean = {system: data.means[n] for n, system in enumerate(alike)}
                above = mean[_system(cell)] > mean[other]
                cell["against"] = "better" if above != lower_is_better(metric) else "worse"
    corrected = dict(zip(tests, holm(np.array(list(tests.values()))), strict=True))
    for cell, (about, pair, _) in comparisons:
        cell["p_holm"] = corrected[about, pair]
        if not cell["p_holm"] < LEVEL:
            cell["against"] = None


def _system(cell: dict[str, Any]) -> System:
    return cell["ours_split"], cell["ours_model"]


def _control(system: System) -> bool:
    return system[1].split(".")[0] in CONTROLS


def _reference(table: Table, cell: dict[str, Any], here: list[dict[str, Any]], metric: str) -> System | None:
    """The system that a cell is tested against, of cells of the same direction and metric on the same queries."""
    system = _system(cell)
    others = [other for other in here if _system(other) != system and not _control(_system(other))]
    if table.baseline is not None:
        others = [other for other in others if other["system"] == table.baseline]
        if cell["system"] == table.baseline:
            return None
        same = [other for other in others if other["ours_split"] == system[0]]
        others = same or others
    else:
        others = [other for other in others if other["ours_split"] == system[0]]
    if not others:
        return None
    sign = -1 if lower_is_better(metric) else 1
    return _system(max(others, key=lambda other: (sign * other["ours_mean"], other["ours_model"])))
