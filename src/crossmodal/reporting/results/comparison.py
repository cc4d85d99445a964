"""Published numbers beside ours: `comparison.parquet`, one row per cell of a published table, and control checks.

Every rendered table is made from it. Means and sample standard deviations are over seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from crossmodal.experiments import Column, Experiment, Job, Paper, Plan, UnreadableError
from crossmodal.experiments.sweeps import sentence
from crossmodal.reporting.results import order, published, quality_control, runs, significance
from crossmodal.reporting.results.cells import NOT_QUICK, PUBLISHED_ONLY, TYPES
from crossmodal.tasks.base import CONTROLS, Task, tasks


def compare(
    plan: Plan, metrics: pd.DataFrame, jobs: dict[str, Job] | None = None, folder: Path | None = None
) -> pd.DataFrame:
    """Every cell of every published table, with the number that we have measured for it.

    Parameters
    ----------
    metrics : as `collect` gives it.
    jobs : the jobs that `metrics` was collected from; cells that need others are `missing: not part of quick`.
    folder : `results/runs`, whose manifests say which runs used a fallback; None leaves that out.

    Returns
    -------
    The columns of `TYPES`. `status` is `done` (for at least one seed; `n_expected` is the planned number of seeds),
    `missing: why` or `published only`. `ours_sd` is the sample standard deviation, null for one seed. `difference` and
    `significant` are null where a stand-in replaces the data set; the latter says whether the published number lies
    outside the 95 % confidence interval of our mean. `ours_low` and `ours_high` are the 95 % interval by bootstrap over
    queries and seeds; `reference` is the run that a cell is tested against, `p_value` and `p_holm` are before and after
    correction over the table, and `against` is `better` or `worse` where the difference is significant. `tau` to
    `tau_rows` (the order of our rows compared with the published one: `order.fill`) and `qc` hold for the whole table.
    `differs` is the remark of the paper's file on how our run differs from the published one. `ours_extra` and
    `ours_settings` are JSON, for cells that are done: our run's values for the table's columns before the numbers, and
    {setting: [ours, published]} where these differ (`published.differences`).
    """
    chosen = runs.chosen(plan, jobs)
    lookup = lookup_of(metrics)
    checks, wrong = controls(metrics), quality_control.faults(metrics)
    kept = _Kept(folder)
    rows = []
    for paper in plan.papers.values():
        for table in paper.tables:
            protocol = protocol_of(plan.folds_of(table))
            played = dict.fromkeys(plan.dataset_of(paper.dataset_of(table, row)) for row in table.rows)
            verdicts = [verdict(checks, dataset, protocol) for dataset in played]
            qc = min(verdicts, key=lambda v: (not v.startswith("off"), v == "ok"), default="ok")  # the worst verdict
            first = len(rows)
            extras = table.extra_keys
            for number, row in enumerate(table.rows):
                for place, column in enumerate(table.columns):
                    cell = {
                        "paper": paper.name,
                        "table": table.id,
                        "row": number,
                        "column": place,
                        "group": row.group,
                        "system": row.label,
                        "column_system": column.system,
                        "dataset": paper.dataset_of(table, row),
                        "split": row.split or table.split,
                        "aspect": column.aspect,
                        "metric": column.metric,
                        "published": row.published[place],
                        "qc": qc,
                        "differs": row.differs,
                    }
                    experiment = row.experiment_of(column)
                    protocol_of_cell = column.protocol or row.protocol or protocol
                    ours = _ours(plan, paper, experiment, column, protocol_of_cell, chosen, lookup, kept, extras)
                    rows.append(cell | ours | _difference(row.published[place], ours))
            order.fill(rows[first:], plan.params.seeds, lookup)
            faults = quality_control.of_rows(wrong, rows[first:])
            if faults and not qc.startswith("off"):
                for row in rows[first:]:
                    row["qc"] = f"off: {faults}"
    if folder is not None:
        significance.fill(plan, rows, {key for key in chosen if _measured(key, lookup)}, folder)
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def _measured(key: str, lookup: Lookup) -> bool:
    return any(number[0] == key for number in lookup)


def protocol_of(folds: int) -> str:
    """The name of the protocol that ranks the test set in this many folds."""
    return "all" if folds == 1 else f"fold{folds}"


Lookup = dict[tuple[str, str, str, str], dict[str, tuple[float, int, int]]]


def lookup_of(metrics: pd.DataFrame) -> Lookup:
    """{(run, aspect, metric, protocol): (value, n_queries, n_gallery)}, keyed by the run first."""
    lookup: Lookup = {}
    for row in metrics.itertuples(index=False):
        run = f"{row.dataset}/{row.split}/{runs.name(row.model, row.variant)}/seed{row.seed}"
        lookup[run, row.aspect, row.metric, row.protocol] = (row.value, row.n_queries, row.n_gallery)
    return lookup


def _ours(
    plan: Plan,
    paper: Paper,
    name: str | None,
    column: Column,
    protocol: str,
    chosen: dict[str, Job],
    lookup: Lookup,
    kept: _Kept,
    extras: list[str],
) -> dict[str, Any]:
    """The columns of a cell that describe our runs."""
    if name is None:
        return {"n_seeds": 0, "n_expected": 0, "status": PUBLISHED_ONLY}
    experiment: Experiment = paper.experiments[name]
    try:
        planned = [plan.job(experiment, seed, paper.name) for seed in plan.params.seeds]
    except UnreadableError as error:
        return {"n_seeds": 0, "n_expected": 0, "experiment": name, "status": f"missing: {error}"}
    expected = [job for job in planned if job.key in chosen]
    first = planned[0]
    about = {
        "experiment": name,
        "ours_dataset": first.dataset,
        "ours_split": first.split,
        "ours_model": first.name,
        "protocol": protocol,
        "comparable": first.dataset == experiment.dataset,
        "n_expected": len(expected),
        "n_seeds": 0,
    }
    if not expected:
        return about | {"status": NOT_QUICK}
    cells = {job.key: lookup.get((job.key, column.aspect, column.metric, protocol)) for job in expected}
    values = pd.DataFrame([cell for cell in cells.values() if cell is not None], columns=["value", "q", "g"])
    if values.empty:
        where = f"{first.name} on {first.dataset}/{first.split}"
        measured = any(key[0] in cells for key in lookup)
        why = f"has no {column.metric} under protocol {protocol}" if measured else "not made yet"
        return about | {"status": f"missing: run {where} {why}"}
    measured = [job for job in expected if cells[job.key] is not None]
    common = plan.params.models.get(experiment.model)
    return about | {
        "status": "done",
        "ours_mean": values.value.mean(),
        "ours_sd": values.value.std(ddof=1) if len(values) > 1 else None,
        "n_seeds": len(values),
        "n_queries": int(values.q.iloc[0]),
        "n_gallery": int(values.g.iloc[0]),
        "fallbacks": kept.fallbacks(job.key for job in measured),
        "ours_extra": as_json(kept.extra(measured[0], extras)),
        "ours_settings": as_json(published.differences(experiment, kept.settings(measured[0]), common)),
        "ours_sweep": kept.sweep(measured[0].key),
    }


def _difference(published: float | None, ours: dict[str, Any]) -> dict[str, Any]:
    """Ours minus published where both are of one data set, and whether that is significant over seeds."""
    mean = ours.get("ours_mean")
    if mean is None or published is None or not ours["comparable"]:
        return {}
    fields = {"difference": mean - published}
    sd, n = ours.get("ours_sd"), ours["n_seeds"]
    if sd is not None:
        from scipy.stats import t

        fields["significant"] = bool(abs(fields["difference"]) > t.ppf(0.975, n - 1) * sd / n**0.5)
    return fields


class _Kept:
    """Manifests and settings from the folders of runs, read once per run."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._manifests: dict[str, dict[str, Any]] = {}
        self._settings: dict[str, dict[str, Any]] = {}

    def manifest(self, key: str) -> dict[str, Any]:
        """A run's manifest; empty where no folder of runs is given."""
        if key not in self._manifests:
            self._manifests[key] = {} if self.folder is None else runs.manifest(self.folder / key)
        return self._manifests[key]

    def fallbacks(self, keys: Iterable[str]) -> str | None:
        """The fallbacks that runs have used, in one text; None for none."""
        listed = [str(fallback) for key in keys for fallback in self.manifest(key).get("fallbacks") or []]
        return "; ".join(dict.fromkeys(listed)) or None

    def sweep(self, key: str) -> str | None:
        """How a run's settings were chosen, in words; None for a run without a sweep."""
        record = self.manifest(key).get("sweep")
        return sentence(record) if record else None

    def settings(self, job: Job) -> dict[str, Any]:
        """The settings that a run was trained with; those of its job where the run has no record of them."""
        if job.key not in self._settings:
            recorded = None if self.folder is None else runs.settings(self.folder / job.key)
            self._settings[job.key] = published.resolved(job) if recorded is None else recorded
        return self._settings[job.key]

    def extra(self, job: Job, keys: Iterable[str]) -> dict[str, Any]:
        """A run's values for the columns before a table's numbers, from its settings or else its manifest."""
        values = self.manifest(job.key) | self.settings(job)
        return {key: values[key] for key in keys if values.get(key) is not None}


def as_json(value: dict[str, Any]) -> str | None:
    return json.dumps(value) if value else None


def controls(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per check of a control: `chance` must lie within bounds of its expectation, and `oracle` be at 100.

    Where items of a class are relevant to each other, the expectation of chance is among its numbers (`map@50_chance`),
    and recall is not checked.

    Returns
    -------
    Columns dataset, split, model, seed, aspect, metric, protocol, value, expected, low, high (per cent) and ok.
    """
    columns = ["dataset", "split", "model", "seed", "aspect", "metric", "protocol", "value"]
    picked = metrics[metrics.model.isin(CONTROLS)].drop(columns="paper").drop_duplicates()
    rows = []
    for (*_, control), part in picked.groupby(["dataset", "split", "seed", "model"], sort=False):
        numbers = part.to_dict("records")
        for task, numbers_of_task in _by_task(numbers).items():
            for number in numbers_of_task:
                expected = task.expected(control, number, numbers_of_task)
                if expected is not None:
                    value, low, high = expected
                    ok = low - 1e-6 <= number["value"] <= high + 1e-6
                    fields = {"expected": value, "low": low, "high": high, "ok": ok}
                    rows.append({name: number[name] for name in columns} | fields)
    return pd.DataFrame(rows, columns=[*columns, "expected", "low", "high", "ok"])


def _by_task(numbers: list[dict[str, Any]]) -> dict[Task, list[dict[str, Any]]]:
    """A control's numbers by the task that they belong to."""
    by_task: dict[Task, list[dict[str, Any]]] = {}
    for number in numbers:
        by_task.setdefault(tasks()[number["task"]], []).append(number)
    return by_task


def verdict(checks: pd.DataFrame, dataset: str, protocol: str) -> str:
    """`ok`, `off: which control and how`, or `not run`, for the tables of a data set under a protocol."""
    here = checks[(checks.dataset == dataset) & (checks.protocol == protocol)]
    missing = [control for control in CONTROLS if not (here.model == control).any()]
    off = here[~here.ok.astype(bool)]
    if len(off):
        worst = off.iloc[0]
        more = f", and {len(off) - 1} more" if len(off) > 1 else ""
        wanted = (
            "100" if worst.model == "oracle" else f"{worst.expected:.2f} (between {worst.low:.2f} and {worst.high:.2f})"
        )
        return (
            f"off: {worst.model} has {worst.aspect} {worst.metric} {worst.value:.2f}, expected {wanted}"
            f" (seed {worst.seed}){more}"
        )
    return f"not run: {' and '.join(missing)}" if missing else "ok"
