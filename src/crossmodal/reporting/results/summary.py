"""Files for `dvc metrics show` and `dvc plots show`: means over seeds as JSON, learning curves and recalls as CSV."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd

from crossmodal.core.files import write_json, write_text
from crossmodal.experiments import Job
from crossmodal.reporting.results import runs
from crossmodal.reporting.results.metrics import distinct
from crossmodal.tasks.base import criteria, headlines

CURVES = ["run", "where", "model", "epoch", "validation", "loss"]
RECALLS = ["run", "where", "dataset", "split", "model", "seed", "aspect", "protocol", "k", "recall"]


def summary(metrics: pd.DataFrame) -> dict[str, Any]:
    """{data set: {split: {model: {number: mean over seeds}}}}.

    Numbers are named `recall_sum`, `image-to-text.recall@1` and so on, and `average.map@50` where items of a class are
    relevant to each other; those of another protocol than the whole test set begin with its name.
    """
    result: dict[str, Any] = {}
    by_class = (metrics.metric == "map@50") & (metrics.aspect == "average")
    wanted = metrics[metrics.metric.str.match(r"recall(_sum|@\d+)$") | by_class]
    means = distinct(wanted).groupby(["dataset", "split", "name", "protocol", "aspect", "metric"]).value.mean()
    for (dataset, split, name, protocol, aspect, metric), value in means.items():
        label = metric if aspect == "both" else f"{aspect}.{metric}"
        label = label if protocol == "all" else f"{protocol}.{label}"
        result.setdefault(dataset, {}).setdefault(split, {}).setdefault(name, {})[label] = round(float(value), 4)
    return result


def headline(metrics: pd.DataFrame) -> dict[str, Any]:
    """{data set: {split: {model: {number: mean over seeds}}}} with one number per model, to compare versions by.

    It is the sum of recalls over both directions or, for runs without one, the mean average precision over all
    directions.
    """
    result: dict[str, Any] = {}
    wanted = metrics[(metrics.protocol == "all") & metrics.aspect.isin([aspect for aspect, _ in headlines()])]
    means = distinct(wanted).groupby(["dataset", "split", "name", "metric"]).value.mean()
    for metric in dict.fromkeys(metric for _, metric in headlines()):
        if metric in means.index.unique("metric"):
            for (dataset, split, name), value in means.xs(metric, level="metric").items():
                numbers = result.setdefault(dataset, {}).setdefault(split, {}).setdefault(name, {})
                if not numbers:
                    numbers[metric] = round(float(value), 4)
    return result


def curves(jobs: dict[str, Job], folder: Path) -> pd.DataFrame:
    """The epochs of all runs in the columns `CURVES`."""
    frame = runs.histories(folder, jobs)
    where = frame["dataset"] + " " + frame["split"]
    validation = frame.reindex(columns=[*criteria()]).astype("float64").bfill(axis=1).iloc[:, 0]
    return frame.assign(where=where, model=frame["name"], validation=validation).reindex(columns=CURVES)


def recalls(metrics: pd.DataFrame) -> pd.DataFrame:
    """The recalls of all runs against K in the columns `RECALLS`."""
    frame = distinct(metrics[metrics.metric.str.match(r"recall@\d+$")])
    run = frame.dataset + "/" + frame.split + "/" + frame.name.rename("run") + "/seed" + frame.seed.astype("string")
    k = frame.metric.str.removeprefix("recall@").astype("int64")
    where = frame.dataset + " " + frame.split
    return frame.assign(run=run, where=where, k=k, recall=frame.value, model=frame["name"]).reindex(columns=RECALLS)


def _csv(frame: pd.DataFrame) -> str:
    stream = io.StringIO()
    frame.to_csv(stream, index=False, lineterminator="\n", float_format="%.6g")
    return stream.getvalue()


def write(metrics: pd.DataFrame, jobs: dict[str, Job], folder: Path, target: Path) -> None:
    """Write `summary.json`, `headline.json`, `plots/learning_curves.csv` and `plots/recall.csv` into `target`."""
    write_json(target / "summary.json", summary(metrics))
    write_json(target / "headline.json", headline(metrics))
    write_text(target / "plots" / "learning_curves.csv", _csv(curves(jobs, folder)))
    write_text(target / "plots" / "recall.csv", _csv(recalls(metrics)))
