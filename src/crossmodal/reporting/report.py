"""`report.html`: one page that holds everything it shows (no request leaves it), in light and dark, wide and narrow."""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from crossmodal.experiments import CONTROLS, DIRECTIONS, Job, Plan
from crossmodal.files import read_parquet, write_text
from crossmodal.reporting import annotation, figures, runs, tables
from crossmodal.reporting import comparison as comparing
from crossmodal.reporting.collect import distinct
from crossmodal.reporting.gallery import Gallery, gallery

log = logging.getLogger(__name__)

LIBRARIES = ("crossmodal", "torch", "numpy", "pandas", "pyarrow", "matplotlib", "snakemake", "mlflow")
KS = (1, 5, 10)


def _text(mean: float, sd: float | None = None, digits: int = 1) -> str:
    if pd.isna(mean):
        return tables.DASH
    return f"{mean:,.{digits}f}" + ("" if sd is None or pd.isna(sd) else f" ± {sd:.{digits}f}")


def _time(seconds: float) -> str:
    if pd.isna(seconds):
        return tables.DASH
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def leaderboards(plan: Plan, metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """For each data set its models at full annotation, best first, controls last: means and s.d. over seeds."""
    frame = distinct(metrics)
    boards = []
    for dataset in sorted(frame.dataset.unique()):
        for protocol in sorted(frame[frame.dataset == dataset].protocol.unique()):
            part = frame[(frame.dataset == dataset) & (frame.protocol == protocol) & (frame.split == "full")]
            totals = part[part.metric == "recall_sum"].groupby("name").value
            rows = []
            for name, total in totals.mean().sort_values(ascending=False).items():
                own = part[part["name"] == name]
                cells = []
                for direction in DIRECTIONS:
                    for k in KS:
                        values = own[(own.direction == direction) & (own.metric == f"recall@{k}")].value
                        cells.append((values.mean(), values.std(ddof=1), _text(values.mean())))
                rows.append(
                    {
                        "name": name,
                        "control": own.model.iloc[0] in CONTROLS,
                        "cells": cells,
                        "total": _text(total),
                        "sd": _text(totals.std(ddof=1)[name]),
                        "share": total / (100 * len(cells)) * 100,
                        "seeds": own.seed.nunique(),
                    }
                )
            if rows:
                rows.sort(key=lambda row: row["control"])
                boards.append(
                    {
                        "title": _dataset_title(plan, dataset),
                        "dataset": dataset,
                        "protocol": "the whole test set" if protocol == "all" else f"mean over {protocol[4:]} folds",
                        "sizes": _sizes(part),
                        "rows": rows,
                    }
                )
    return boards


def _dataset_title(plan: Plan, name: str) -> str:
    return plan.params.datasets[name].title if name in plan.params.datasets else name


def _sizes(part: pd.DataFrame) -> str:
    found = []
    for direction, label in zip(DIRECTIONS, ("images", "captions"), strict=True):
        n = part[part.direction == direction].n_queries
        if len(n):
            found.append(f"{int(n.iloc[0]):,} {label}")
    return " and ".join(found)


def overview(metrics: pd.DataFrame, folder: Path, jobs: dict[str, Job]) -> list[dict[str, Any]]:
    """A row for each (data set, split, model): seeds done, sum of recalls, seconds and memory, and what is missing."""
    frame = distinct(metrics)
    totals = frame[(frame.metric == "recall_sum")].sort_values("protocol")  # 'all' first
    totals = totals.drop_duplicates(["dataset", "split", "name", "seed"])
    groups: dict[tuple[str, str, str], list[Job]] = {}
    for job in jobs.values():
        groups.setdefault((job.dataset, job.split, job.name), []).append(job)
    rows = []
    for (dataset, split, name), members in groups.items():
        own = totals[(totals.dataset == dataset) & (totals.split == split) & (totals["name"] == name)]
        done = set(own.seed)
        facts = pd.DataFrame([runs.manifest(folder / job.key) for job in members if job.seed in done])
        facts = facts.reindex(columns=["seconds", "peak_memory_mib", "parameters", "pairs", "best_epoch"]).astype(float)
        mean = facts.mean()
        rows.append(
            {
                "dataset": dataset,
                "split": split,
                "name": name,
                "control": members[0].model in CONTROLS,
                "done": len(done),
                "planned": len(members),
                "missing": ", ".join(str(job.seed) for job in members if job.seed not in done),
                "recall_sum": _text(own.value.mean(), own.value.std(ddof=1)),
                "seconds": _time(mean.seconds),
                "memory": f"{mean.peak_memory_mib:,.0f} MiB" if pd.notna(mean.peak_memory_mib) else tables.DASH,
                "parameters": _short(mean.parameters),
                "pairs": f"{mean.pairs:,.0f}" if pd.notna(mean.pairs) else tables.DASH,
                "best_epoch": _text(mean.best_epoch, digits=0),
                "total_seconds": float(facts.seconds.sum()),
            }
        )
    rows.sort(key=lambda r: (r["dataset"], -figures.share(r["split"]), r["split"], r["control"], r["name"]))
    return rows


def _short(n: float) -> str:
    if pd.isna(n):
        return tables.DASH
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= size:
            return f"{n / size:.1f}{unit}"
    return f"{n:.0f}"


def galleries(plan: Plan, metrics: pd.DataFrame, results: Path, data: Path) -> list[dict[str, Any]]:
    """For each data set the gallery of its best run at full annotation (or at any, where none is full)."""
    frame = distinct(metrics)
    frame = frame[(frame.metric == "recall_sum") & ~frame.model.isin(CONTROLS)]
    found = []
    for dataset, part in frame.groupby("dataset", sort=True):
        part = part[part.split == "full"] if (part.split == "full").any() else part
        best = part.loc[part.value.idxmax()]
        key = f"{dataset}/{best.split}/{best['name']}/seed{best.seed}"
        made: Gallery | None = gallery(data / str(dataset), results / "runs" / key, label=key)
        if made is not None:
            found.append({"title": _dataset_title(plan, str(dataset)), "run": key, "gallery": made})
    return found


def _versions() -> list[tuple[str, str]]:
    from platform import python_version

    found = [("Python", python_version())]
    for name in LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def render(
    plan: Plan,
    results: Path,
    data: Path,
    target: Path,
    jobs: dict[str, Job] | None = None,
    scope: Path | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    results : folder with `runs/`.
    data : folder of the prepared data sets.
    target : the page to write.
    jobs : the jobs that it covers; all of the plan by default.
    scope : folder with their `metrics.parquet` and `comparison.parquet`; the page's own by default.

    Raises
    ------
    UserError : metrics or comparison have not been collected, or of another plan.
    """
    scope = Path(scope or Path(target).parent)
    asked = runs.chosen(plan, jobs)
    metrics = read_parquet(scope / "metrics.parquet")
    compared = read_parquet(scope / "comparison.parquet")
    titles = {name: dataset.title for name, dataset in plan.params.datasets.items()}
    efficient = annotation.efficiency(plan, asked, results / "runs")
    drawn = figures.write(metrics, runs.histories(results / "runs", asked), efficient, titles, scope / "figures")
    views = tables.views(plan, compared)
    papers = [
        {
            "paper": paper,
            "views": [view for view in views if view.paper is paper],
            "html": [Markup(tables.to_html(view)) for view in views if view.paper is paper],
        }
        for paper in plan.papers.values()
    ]
    rows = overview(metrics, results / "runs", asked)
    checks = comparing.controls(metrics)
    boards = leaderboards(plan, metrics)
    page = (
        tables.environment()
        .get_template("report.html.j2")
        .render(
            plan=plan,
            scale=plan.params.scale,
            quick=jobs is not None and len(asked) < len(plan.jobs),
            stand_in=_dataset_title(plan, plan.scale.stand_in) if plan.scale.stand_in else "",
            played=sorted({titles.get(t.dataset, t.dataset) for p in plan.papers.values() for t in p.tables}),
            datasets=[_dataset_title(plan, name) for name in plan.datasets],
            seeds=sorted({job.seed for job in asked.values()}),
            boards=boards,
            directions=DIRECTIONS,
            ks=KS,
            papers=papers,
            cells_done=int((compared.status == "done").sum()),
            cells=len(compared),
            cells_published=int(compared.published.notna().sum()),
            rows=rows,
            done=sum(row["done"] for row in rows),
            planned=len(asked),
            spent=_time(sum(row["total_seconds"] for row in rows)),
            checks=len(checks),
            failed=list(dict.fromkeys(_failures(compared))),
            off=[_check(check) for check in checks[~checks.ok.astype(bool)].itertuples()] if len(checks) else [],
            curves=Markup(figures.inline(drawn["learning-curves"], "Learning curves")),
            annotation=Markup(figures.inline(drawn["annotation"], "Recall at 10 against annotation")),
            efficiency=Markup(figures.inline(drawn["efficiency"], "Mean recall over log-annotations")),
            efficient=[line | {"title": titles.get(line["dataset"], "")} for line in annotation.lines(efficient)],
            maps=_figure(scope / "figures" / "embeddings.svg", "Embeddings in two dimensions"),
            galleries=galleries(plan, metrics, results, data),
            versions=_versions(),
        )
    )
    write_text(target, page)
    log.info("%s: %d of %d runs, %.0f kB", target, sum(r["done"] for r in rows), len(asked), len(page) / 1000)


def _figure(path: Path, label: str) -> Markup:
    """A figure that another step has drawn, or nothing."""
    return Markup(figures.inline(path.read_text(encoding="utf-8"), label) if path.exists() else "")


def _failures(compared: pd.DataFrame) -> list[str]:
    """Tables that fail for another reason than their controls, which are told one by one."""
    here = compared[compared.qc.str.startswith("off: row")]
    return [f"{row.paper} {row.table}, {row.qc.removeprefix('off: ')}" for row in here.itertuples()]


def _check(check: Any) -> str:
    return (
        f"{check.model} on {check.dataset} (seed {check.seed}): {check.direction} {check.metric} is {check.value:.2f}, "
        f"expected {check.low:.2f} to {check.high:.2f}"
    )


def write(plan: Plan, jobs: dict[str, Job], target: Path) -> None:
    """The step of the DAG: `target/report.html` and `target/figures/`."""
    render(plan, Path(plan.params.paths.results), Path(plan.params.paths.data), target / "report.html", jobs)
