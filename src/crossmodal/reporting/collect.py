"""Runs to numbers: `metrics.parquet` (a row a number) and `comparison.parquet` (a row a cell of a published table)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from crossmodal.errors import UserError
from crossmodal.experiments import Column, Job, Plan, Row, Table
from crossmodal.files import read_json, read_parquet, write_json, write_parquet, write_text

log = logging.getLogger(__name__)

METRICS = [
    *("paper", "dataset", "split", "model", "variant", "seed", "direction", "metric", "protocol", "value"),
    *("n_queries", "n_gallery"),
]


def collect(jobs: Mapping[str, Job], runs: Path) -> pd.DataFrame:
    """All numbers of the runs that are there; a missing or damaged one is logged and left out.

    Returns
    -------
    Frame of `METRICS`; a run that two papers ask for has its rows once for each, a control that none asks for once.
    """
    rows: list[dict[str, Any]] = []
    for key, job in jobs.items():
        path = runs / key / "metrics.json"
        if not path.exists():
            log.warning("%s: not there; its cells stay empty", path)
            continue
        try:
            content = read_json(path)
            described = {name: content["job"][name] for name in ("dataset", "split", "model", "variant", "seed")}
            numbers = [{**described, **number} for number in content["numbers"]]
        except (UserError, KeyError, TypeError) as error:
            log.warning("%s: left out (%s)", path, error)
            continue
        for paper in job.papers or ("",):
            rows += [{"paper": paper, **number} for number in numbers]
    return pd.DataFrame(rows, columns=METRICS)


def experiment_of(row: Row, column: Column) -> str | None:
    if isinstance(row.experiment, dict):
        return row.experiment.get(column.system or "")
    return row.experiment


def compare(plan: Plan, metrics: pd.DataFrame, jobs: Mapping[str, Job]) -> pd.DataFrame:
    """Every cell of every published table beside ours: mean and sample s.d. over the seeds that are there."""
    keys = ["dataset", "split", "model", "variant", "direction", "metric", "protocol"]
    index = dict(list(metrics.groupby(keys)))
    cells = []
    for paper in plan.papers.values():
        for table in paper.tables:
            protocol = "all" if plan.folds_of(table) == 1 else f"fold{plan.folds_of(table)}"
            for number, row in enumerate(table.rows):
                for place, (column, published) in enumerate(zip(table.columns, row.published, strict=True)):
                    cell = {
                        "paper": paper.name,
                        "table": table.id,
                        "row": number,
                        "column": place,
                        "group": row.group,
                        "system": column.system or row.label,
                        "label": row.label,
                        "dataset": row.dataset or table.dataset,
                        "split": row.split or table.split,
                        "direction": column.direction,
                        "metric": column.metric,
                        "published": published,
                        "protocol": protocol,
                    }
                    name = experiment_of(row, column)
                    cells.append(cell | _ours(plan, paper.experiments[name] if name else None, cell, index, jobs))
    return pd.DataFrame(cells)


def _ours(
    plan: Plan, experiment: Any, cell: Mapping[str, Any], index: Mapping, jobs: Mapping[str, Job]
) -> dict[str, Any]:
    empty = {
        "ours_mean": math.nan,
        "ours_sd": math.nan,
        "n_seeds": 0,
        "n_queries": 0,
        "n_gallery": 0,
        "ours_dataset": None,
    }
    if experiment is None:
        return {**empty, "status": "published only"}
    job = plan.job(experiment, plan.params.seeds[0])
    key = (job.dataset, job.split, job.model, job.variant, cell["direction"], cell["metric"], cell["protocol"])
    found = index.get(key)
    if found is None:
        planned = any((j.dataset, j.split, j.name) == (job.dataset, job.split, job.name) for j in jobs.values())
        why = f"run {job.dataset}/{job.split}/{job.name} is not made yet"
        if not planned:
            why = "not among the quick experiments; `snakemake all` runs it"
        return {**empty, "ours_dataset": job.dataset, "status": f"missing: {why}"}
    found = found.drop_duplicates("seed")
    return {
        "ours_mean": float(found.value.mean()),
        "ours_sd": float(found.value.std(ddof=1)) if len(found) > 1 else math.nan,
        "n_seeds": len(found),
        "n_queries": int(found.n_queries.iloc[0]),
        "n_gallery": int(found.n_gallery.iloc[0]),
        "ours_dataset": job.dataset,
        "status": "done",
    }


def controls(metrics: pd.DataFrame) -> list[str]:
    """What is wrong with the controls, in words; empty where chance is at chance and the oracle at 100 %.

    Chance: recall@K of text queries, each with one relevant item, is K / N; five standard errors are allowed.
    """
    wrong = []
    rows = metrics[metrics.metric.str.startswith("recall@")].drop_duplicates(METRICS[1:])
    for row in rows[rows.model == "oracle"].itertuples():
        if row.value < 100:
            wrong.append(f"{row.dataset}: oracle has {row.metric} {row.value:.1f} %, not 100 ({row.direction})")
    for row in rows[(rows.model == "chance") & (rows.direction == "text-to-image")].itertuples():
        p = min(1.0, int(row.metric.split("@")[1]) / row.n_gallery)
        # Captions meet the same gallery vectors: the images, not the captions, are what is independent.
        error = 100 * math.sqrt(p * (1 - p) / min(row.n_queries, row.n_gallery))
        if abs(row.value - 100 * p) > 5 * error + 1e-9:
            wrong.append(
                f"{row.dataset}: chance has {row.metric} {row.value:.2f} %, expected {100 * p:.2f} ± {error:.2f}"
            )
    return wrong


def summary(metrics: pd.DataFrame) -> dict[str, Any]:
    """Means over seeds for `dvc metrics show`: {data set: {split: {model: {number: value}}}}."""
    found: dict[str, Any] = {}
    rows = metrics[metrics.protocol == "all"].drop_duplicates(METRICS[1:])
    keys = ["dataset", "split", "model", "variant", "direction", "metric"]
    for (dataset, split, model, variant, direction, metric), group in rows.groupby(keys):
        name = f"{model}.{variant}" if variant else model
        number = metric if direction == "both" else f"{direction}.{metric}"
        found.setdefault(dataset, {}).setdefault(split, {}).setdefault(name, {})[number] = round(
            float(group.value.mean()), 4
        )
    return found


def write(plan: Plan, jobs: Mapping[str, Job], runs: Path, target: Path) -> None:
    """`metrics.parquet`, `comparison.parquet`, `summary.json` and the curves that `dvc plots` draws."""
    metrics = collect(jobs, runs)
    write_parquet(target / "metrics.parquet", metrics)
    write_parquet(target / "comparison.parquet", compare(plan, metrics, jobs))
    write_json(target / "summary.json", summary(metrics))
    write_text(target / "plots" / "learning-curves.csv", histories(jobs, runs).to_csv(index=False))


def histories(jobs: Mapping[str, Job], runs: Path) -> pd.DataFrame:
    """Epochs of all runs that were trained: run, split, name, seed, epoch, loss, val_recall_sum."""
    frames = []
    for key, job in jobs.items():
        path = runs / key / "history.parquet"
        if path.exists():
            frame = read_parquet(path)
            if len(frame):
                kept = frame[["epoch", "loss", "val_recall_sum"]]
                names = {"run": key, "dataset": job.dataset, "split": job.split, "name": job.name, "seed": job.seed}
                frames.append(kept.assign(**names))
    columns = ["run", "dataset", "split", "name", "seed", "epoch", "loss", "val_recall_sum"]
    return pd.concat(frames)[columns] if frames else pd.DataFrame(columns=columns)


def title_of(plan: Plan, table: Table) -> str:
    """What our numbers of a table were measured on, in words."""
    dataset = plan.dataset_of(table.dataset)
    return plan.params.datasets[dataset].title
