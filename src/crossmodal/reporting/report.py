"""`report.html`: the one page to look at, self-contained, with tables, curves and a gallery of queries."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from crossmodal import __version__
from crossmodal.experiments import Job, Plan
from crossmodal.files import read_json, read_parquet, write_text
from crossmodal.reporting import figures, tables
from crossmodal.reporting.collect import controls, histories

log = logging.getLogger(__name__)

QUERIES = 6  # a direction in a gallery
SHOWN = 5  # items of each query
THUMBNAIL = 150  # pixels, long side


def write(plan: Plan, jobs: Mapping[str, Job], target: Path) -> None:
    """The figures and `report.html` of a scope, from what is there."""
    runs = Path(plan.params.paths.results) / "runs"
    metrics = read_parquet(target / "metrics.parquet")
    history = histories(jobs, runs)
    curves, annotation = figures.learning_curves(history), figures.annotation(metrics)
    write_text(target / "figures" / "learning-curves.svg", curves)
    write_text(target / "figures" / "annotation.svg", annotation)
    made = {grid.name: grid for grid in tables.grids(plan, target)}
    papers = [
        {
            "paper": paper,
            "tables": [Markup(tables.to_html(made[f"{paper.name}-{table.id}"])) for table in paper.tables],
        }
        for paper in plan.papers.values()
    ]
    page = Environment(loader=PackageLoader("crossmodal.reporting"), autoescape=True, undefined=StrictUndefined)
    text = page.get_template("report.html").render(
        plan=plan,
        params=plan.params,
        papers=papers,
        curves=Markup(curves),
        annotation=Markup(annotation),
        faults=controls(metrics),
        runs=overview(metrics, jobs, runs),
        n_runs=metrics.drop_duplicates(["dataset", "split", "model", "variant", "seed"]).shape[0],
        n_planned=len(jobs),
        galleries=[g for name in plan.datasets if (g := gallery(plan, jobs, runs, name, metrics)) is not None],
        fallbacks=fallbacks(jobs, runs),
        version=__version__,
    )
    write_text(target / "report.html", text)


def overview(metrics: pd.DataFrame, jobs: Mapping[str, Job], runs: Path) -> list[dict[str, Any]]:
    """A row a (data set, split, system): recalls as mean and s.d. over seeds, time and memory of its runs."""
    found = []
    rows = metrics[metrics.protocol == "all"].drop_duplicates(
        ["dataset", "split", "model", "variant", "seed", "direction", "metric"]
    )
    for (dataset, split, model, variant), group in rows.groupby(["dataset", "split", "model", "variant"], sort=False):
        name = f"{model}.{variant}" if variant else model
        manifests = [
            read_json(path)
            for job in jobs.values()
            if (job.dataset, job.split, job.name) == (dataset, split, name)
            and (path := runs / job.key / "manifest.json").exists()
        ]

        def show(direction: str, metric: str, group: pd.DataFrame = group) -> str:
            values = group[(group.direction == direction) & (group.metric == metric)].value
            sd = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
            return f"{values.mean():.1f}{sd}"

        found.append(
            {
                "dataset": dataset,
                "split": split,
                "name": name,
                "seeds": group.seed.nunique(),
                "sum": float(group[group.metric == "recall_sum"].value.mean()),
                "cells": [
                    show("both", "recall_sum"),
                    *(show(d, m) for d in tables.ARROWS for m in ("recall@1", "recall@10", "median_rank")),
                ],
                "pairs": manifests[0]["pairs"] if manifests else 0,
                "seconds": float(np.mean([m["seconds"] for m in manifests])) if manifests else float("nan"),
                "memory": max((m["peak_memory_mib"] for m in manifests), default=float("nan")),
            }
        )
    return sorted(found, key=lambda row: (row["dataset"], -row["sum"]))


def fallbacks(jobs: Mapping[str, Job], runs: Path) -> list[str]:
    found: dict[str, None] = {}
    for key in jobs:
        path = runs / key / "manifest.json"
        if path.exists():
            found |= dict.fromkeys(read_json(path).get("fallbacks", []))
    return list(found)


def gallery(
    plan: Plan, jobs: Mapping[str, Job], runs: Path, dataset: str, metrics: pd.DataFrame
) -> dict[str, Any] | None:
    """Queries of the best run that was trained on a data set, in both directions, with their first five items.

    Hits and misses both: queries are taken at even steps through the queries ordered by rank.
    """
    rows = metrics[(metrics.dataset == dataset) & (metrics.metric == "recall_sum") & (metrics.protocol == "all")]
    rows = rows[~rows.model.isin(["chance", "oracle"])]
    if rows.empty:
        return None
    best = rows.loc[rows.value.idxmax()]
    name = f"{best.model}.{best.variant}" if best.variant else best.model
    key = f"{dataset}/{best.split}/{name}/seed{best.seed}"
    folder = Path(plan.params.paths.data) / dataset
    items = read_parquet(folder / "items.parquet").set_index("item_id")
    root = folder / read_json(folder / "items.json")["root"]
    queries = read_parquet(runs / key / "queries.parquet")
    queries = queries[queries.protocol == "all"]
    thumbnails: dict[str, str] = {}

    def card(item: str) -> dict[str, Any]:
        row = items.loc[item]
        if row.modality != "image":
            return {"text": row.source, "image": None}
        if item not in thumbnails:
            thumbnails[item] = thumbnail(root / row.source)
        return {"text": None, "image": thumbnails[item]}

    sections = []
    for direction, group in queries.groupby("direction"):
        ordered = group.sort_values(["rank", "query_id"], kind="stable")
        picked = ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, QUERIES + 2)[1:-1].astype(int))]
        shown = []
        for query in picked.itertuples():
            own = items.loc[query.query_id].group_id
            top = [{**card(item), "match": items.loc[item].group_id == own} for item in list(query.top)[:SHOWN]]
            shown.append({"query": card(query.query_id), "rank": query.rank, "top": top})
        sections.append({"direction": tables.ARROWS.get(direction, direction), "queries": shown})
    return {"dataset": plan.params.datasets[dataset].title, "run": key, "sections": sections}


def thumbnail(path: Path) -> str:
    """A small JPEG as a data address."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
