"""All measured numbers in the form that the page's leaderboard reads: one row per data set, split, protocol and system.

Each row holds one value per seed. The page computes means and standard deviations of what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from crossmodal.experiments import CONTROLS
from crossmodal.reporting.results.metrics import distinct
from crossmodal.reporting.results.shares import ordered_splits
from crossmodal.tasks.base import headlines, is_of_chance, label, lower_is_better, metric, metric_names

OVERVIEW = ("recall@1", "recall@5", "recall@10")


def leaderboard(metrics: pd.DataFrame, titles: Mapping[str, str], links: Mapping[str, str]) -> dict[str, Any]:
    """The rows, the columns and the groups of columns to choose from.

    Parameters
    ----------
    metrics : `metrics.parquet`.
    titles : data set to its title.
    links : run to the address of its record in MLflow, of those that have one.

    Returns
    -------
    `columns` has one entry per (aspect, metric), `compared` if its best value is marked; `rows[i].values[j]` are the
    values of column j, one per seed (null where a seed lacks it); `views` names groups of columns.
    """
    frame = distinct(metrics)
    pairs = frame[["aspect", "metric"]].drop_duplicates().itertuples(index=False)
    columns = sorted({(str(d), str(m)) for d, m in pairs}, key=_place)
    place = {column: i for i, column in enumerate(columns)}
    rows = []
    keys = ["dataset", "split", "protocol", "name", "model"]
    for (dataset, split, protocol, name, model), part in frame.groupby(keys, sort=True):
        seeds = sorted(part.seed.unique().tolist())
        values: dict[int, list[float | None]] = {}
        for entry in part.itertuples():
            values_of = values.setdefault(place[entry.aspect, entry.metric], [None] * len(seeds))
            values_of[seeds.index(entry.seed)] = round(float(entry.value), 3)
        row = {"dataset": dataset, "split": split, "protocol": protocol, "name": name, "seeds": seeds}
        run = f"{dataset}/{split}/{name}/seed"
        linked = {str(seed): links[f"{run}{seed}"] for seed in seeds if f"{run}{seed}" in links}
        rows.append(row | {"control": model in CONTROLS, "values": values, "links": linked})
    return {
        "columns": [
            {"aspect": d, "metric": m, "lower": lower_is_better(m), "label": label(m), "compared": not is_of_chance(m)}
            for d, m in columns
        ],
        "views": _views(columns),
        "rows": rows,
        "titles": {name: titles.get(name, name) for name in sorted(frame.dataset.unique())},
        "splits": ordered_splits(map(str, frame.split)),
    }


def _place(column: tuple[str, str]) -> tuple[Any, ...]:
    """Sort key of a column: single directions by name, image to text first, then numbers over all directions."""
    aspect, metric = column
    names = metric_names()
    order = names.index(metric) if metric in names else len(names)
    return aspect in _wholes(), aspect, order, metric


def _wholes() -> frozenset[str]:
    """Names in the column `aspect` that stand for several directions together, such as `average`."""
    return frozenset(aspect for aspect, _ in headlines())


def _is_mean(name: str) -> bool:
    """Whether a metric is a mean over queries, so that those of several directions may stand side by side."""
    declared = metric(name)
    return declared is not None and declared.addends is not None


def _views(columns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Groups of columns: the recalls with their sum, each metric over all directions, and all metrics per direction."""
    whole = _wholes()
    directions = list(dict.fromkeys(d for d, _ in columns if d not in whole))
    views = []
    recalls = [i for i, (d, m) in enumerate(columns) if m in OVERVIEW and d in ("image-to-text", "text-to-image")]
    wholes = [i for i, (d, _) in enumerate(columns) if d in whole]
    if recalls or wholes:
        views.append({"title": "Overview", "columns": recalls + wholes})
    if len(directions) > 2:
        for metric in dict.fromkeys(m for _, m in columns if not lower_is_better(m) and _is_mean(m)):
            picked = [i for i, (_, m) in enumerate(columns) if m == metric]
            if len(picked) > 2:
                views.append({"title": f"{label(metric)}, every direction", "columns": picked})
    for aspect in directions:
        title = aspect.replace("-to-", " to ")
        views.append(
            {
                "title": title[:1].upper() + title[1:],
                "columns": [i for i, (d, _) in enumerate(columns) if d == aspect],
            }
        )
    return views
