"""`report.html`: one self-contained page (it sends no requests), light or dark, for wide and narrow screens.

The papers' tables are HTML; the page's scripts draw the leaderboard, the curves and the galleries from JSON in it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from crossmodal.core.console import tracked
from crossmodal.core.display import readable_seconds
from crossmodal.core.files import read_parquet, records_of, write_text
from crossmodal.experiments import CONTROLS, Job, Plan
from crossmodal.reporting.figures.base import ANNOTATION, Scope
from crossmodal.reporting.page import provenance, sections, showcase
from crossmodal.reporting.page.curves import curves
from crossmodal.reporting.page.gallery import Gallery, Items, described, gallery
from crossmodal.reporting.page.leaderboard import label, leaderboard
from crossmodal.reporting.results import claims as testing
from crossmodal.reporting.results import comparison as comparing
from crossmodal.reporting.results import efficiency, runs
from crossmodal.reporting.results.metrics import distinct
from crossmodal.reporting.results.shares import share
from crossmodal.reporting.tables import verdicts, views, writers
from crossmodal.reporting.tables.views import DASH
from crossmodal.tasks.base import criteria, headlines, ranking_of, tasks

log = logging.getLogger(__name__)

SCRIPTS = ("page.js", "sort.js", "board.js", "chart.js", "heat.js", "gallery.js")
COSTS = ["seconds", "peak_memory_mib", "gpu_memory_mib", "energy_joules", "gpu_energy_joules"]
COSTS += ["parameters", "pairs", "best_epoch"]
SYSTEMS = 2  # best systems per data set whose galleries are shown


def _text(mean: float, sd: float | None = None, digits: int = 1) -> str:
    if pd.isna(mean):
        return DASH
    return f"{mean:,.{digits}f}" + ("" if sd is None or pd.isna(sd) else f" ± {sd:.{digits}f}")


def _time(seconds: float) -> str:
    return DASH if pd.isna(seconds) else readable_seconds(seconds)


def criterion_of_runs(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per run with its data set's criterion: the sum of recalls or, where there is none, the mean mAP@50.

    The columns are dataset, split, name, model, seed, criterion and value, of the protocol that ranks the whole test
    set.
    """
    frame = distinct(metrics)
    keys = ["dataset", "split", "name", "model", "seed"]
    criteria = pd.DataFrame(columns=[*keys, "criterion", "value"])
    for aspect, metric in headlines():
        part = frame[(frame.aspect == aspect) & (frame.metric == metric)]
        part = part.sort_values("protocol").drop_duplicates(keys)  # the protocol 'all' sorts first
        new = part[~part.dataset.isin(criteria.dataset)].assign(criterion=metric)[[*keys, "criterion", "value"]]
        criteria = pd.concat([criteria, new], ignore_index=True) if len(criteria) else new.reset_index(drop=True)
    return criteria


def best(criterion: pd.DataFrame) -> pd.DataFrame:
    """The systems of each data set by their mean over seeds, best first; if any has full annotation, only those."""
    frame = criterion[~criterion.model.isin(CONTROLS)]
    full = frame[frame.split == "full"].dataset.unique()
    frame = frame[(frame.split == "full") | ~frame.dataset.isin(full)]
    means = frame.groupby(["dataset", "split", "name", "criterion"], as_index=False).value.agg(["mean", "std", "size"])
    return means.sort_values(["dataset", "mean"], ascending=[True, False], kind="stable")


def _dataset_title(plan: Plan, name: str) -> str:
    return plan.params.datasets[name].title if name in plan.params.datasets else name


def overview(
    criterion: pd.DataFrame, manifests: dict[str, dict[str, Any]], jobs: dict[str, Job]
) -> list[dict[str, Any]]:
    """One row per (data set, split, model): the seeds that are done, the criterion, its cost, and what is missing.

    Parameters
    ----------
    criterion : as `criterion_of_runs` gives it.
    manifests : run to its manifest, of the runs that are done.
    jobs : the jobs that the page covers.
    """
    totals = dict(list(criterion.groupby(["dataset", "split", "name"])))
    groups: dict[tuple[str, str, str], list[Job]] = {}
    for job in jobs.values():
        groups.setdefault((job.dataset, job.split, job.name), []).append(job)
    rows = []
    for (dataset, split, name), members in groups.items():
        rows_of = totals.get((dataset, split, name), criterion.iloc[:0])
        done = {job.seed for job in members if job.key in manifests}
        facts = pd.DataFrame([manifests[job.key] for job in members if job.key in manifests])
        facts = facts.reindex(columns=COSTS).apply(pd.to_numeric, errors="coerce")
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
                "criterion": _text(rows_of.value.mean(), rows_of.value.std(ddof=1)),
                "facts": {key: None if pd.isna(value) else float(value) for key, value in mean.items()},
                "seconds": _time(mean.seconds),
                "memory": _memory(mean.peak_memory_mib),
                "gpu_memory": _memory(mean.gpu_memory_mib),
                "energy": _energy(mean.energy_joules),
                "gpu_energy": _energy(mean.gpu_energy_joules),
                "parameters": _short(mean.parameters),
                "pairs": f"{mean.pairs:,.0f}" if pd.notna(mean.pairs) else DASH,
                "best_epoch": _text(mean.best_epoch, digits=0),
                "total_seconds": float(facts.seconds.sum()),
            }
        )
    rows.sort(key=lambda r: (r["dataset"], -share(r["split"]), r["split"], r["control"], r["name"]))
    return rows


def _energy(joules: float) -> str:
    return f"{joules / 3600:,.2f} Wh" if pd.notna(joules) else DASH


def _memory(mib: float) -> str:
    return f"{mib:,.0f} MiB" if pd.notna(mib) else DASH


def _short(n: float) -> str:
    if pd.isna(n):
        return DASH
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= size:
            return f"{n / size:.1f}{unit}"
    return f"{n:.0f}"


def galleries(
    plan: Plan, jobs: dict[str, Job], criterion: pd.DataFrame, results: Path, data: Path
) -> list[dict[str, Any]]:
    """For each data set the galleries of its best systems and of the runs that papers mark, with the same queries.

    A best system is shown by the seed with the largest criterion, and what papers mark (A3VSE, figure 4: sparse splits)
    by the first seed. The queries are chosen by the ranks of the best system of all.
    """
    by_dataset: list[tuple[Items, list[Gallery]]] = []
    marked = [job for job in plan.shown(jobs) if (ranking_of(results / "runs" / job.key) / "examples.parquet").exists()]
    systems_of = [*best(criterion).groupby("dataset", sort=True)]
    for dataset, systems in tracked(systems_of, "galleries", unit="data sets"):
        dataset_params = plan.params.datasets.get(str(dataset))
        items = Items(data / str(dataset), getattr(dataset_params, "relevance", "group"))
        keys = []
        for system in systems.head(SYSTEMS).itertuples():
            runs_of = criterion[(criterion.dataset == dataset) & (criterion.split == system.split)]
            run = runs_of[runs_of["name"] == system.name].sort_values("value").iloc[-1]
            key = f"{dataset}/{run.split}/{run['name']}/seed{run.seed}"
            keys += [key] if key not in jobs or jobs[key].ranked else []  # others have no ranked answers
        of_dataset: list[Gallery] = []
        for key in dict.fromkeys([*keys, *(job.key for job in marked if job.dataset == dataset)]):
            shown = gallery(items, results / "runs" / key, label=key, like=of_dataset[0] if of_dataset else None)
            of_dataset += [shown] if shown is not None else []
        if of_dataset:
            by_dataset.append((items, of_dataset))
    return [entry | {"title": _dataset_title(plan, entry["dataset"])} for entry in described(by_dataset)]


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
    jobs : the jobs that it covers; all jobs of the plan by default.
    scope : folder with their `metrics.parquet` and `comparison.parquet`; the page's own by default.

    Raises
    ------
    UserError : metrics or comparison have not been collected, or were collected for another plan.
    """
    scope = Path(scope or Path(target).parent)
    chosen = runs.chosen(plan, jobs)
    metrics = read_parquet(scope / "metrics.parquet")
    compared = read_parquet(scope / "comparison.parquet")
    efficient = efficiency.read(scope / "annotation_efficiency.csv")
    titles = {name: dataset.title for name, dataset in plan.params.datasets.items()}
    epochs = runs.histories(results / "runs", chosen)
    drawn = sections.drawn(Scope(plan, chosen, str(scope)))
    criterion = criterion_of_runs(metrics)
    measured = metrics[["dataset", "split", "model", "variant", "seed"]].drop_duplicates().itertuples(index=False)
    done = {f"{r.dataset}/{r.split}/{runs.name(r.model, r.variant)}/seed{r.seed}" for r in measured}
    manifests = {key: runs.manifest(results / "runs" / key) for key in chosen if key in done}
    rows = overview(criterion, manifests, chosen)
    checks = comparing.controls(metrics)
    shown_views = views.all_views(plan, records_of(compared))
    papers = [
        {
            "paper": paper,
            "views": [view for view in shown_views if view.paper is paper],
            "html": [Markup(writers.to_html(view)) for view in shown_views if view.paper is paper],
        }
        for paper in plan.papers.values()
    ]
    links = provenance.tracked(plan.params.tracking)
    shown = galleries(plan, chosen, criterion, results, data)
    base = Path(os.path.relpath(results / "runs", Path(target).parent)).as_posix()
    content = {
        "board": leaderboard(metrics, titles, links) | {"base": base},
        "curves": curves(epochs) | {"titles": titles},
        "galleries": shown,
    }
    page = (
        writers.environment()
        .get_template("report.html.j2")
        .render(
            plan=plan,
            scale=plan.params.scale,
            quick=jobs is not None and len(chosen) < len(plan.jobs),
            stand_ins=_stand_ins(plan, titles),
            datasets=[_dataset_title(plan, name) for name in sorted({job.dataset for job in chosen.values()})],
            models=sorted({job.name for job in chosen.values() if job.model not in CONTROLS}),
            seeds=sorted({job.seed for job in chosen.values()}),
            leaders=_leaders(plan, best(criterion)),
            papers=papers,
            claims=_claims(plan, scope / "claims.parquet"),
            cells_done=int((compared.status == "done").sum()),
            cells=len(compared),
            cells_published=int(compared.published.notna().sum()),
            rows=rows,
            costs=[key for key in ("gpu_memory", "energy", "gpu_energy") if any(row[key] != DASH for row in rows)],
            done=sum(row["done"] for row in rows),
            planned=len(chosen),
            spent=_time(sum(row["total_seconds"] for row in rows)),
            made=provenance.of_runs(manifests.values()),
            code=provenance.code(),
            checks=len(checks),
            failed=list(dict.fromkeys(_failures(compared))),
            off=[_check(check) for check in checks[~checks.ok.astype(bool)].itertuples()] if len(checks) else [],
            has_curves=bool(content["curves"]["runs"]),
            several=any(len(part) > 2 for part in _directions(metrics).values()),
            annotation=[section for section in drawn if section["id"] == ANNOTATION.name],
            efficient=[line | {"title": titles.get(line["dataset"], "")} for line in efficiency.lines(efficient)],
            others=[section for section in drawn if section["id"] != ANNOTATION.name],
            galleries=shown,
            showcases=showcase.parts(plan, chosen, results, data),
            content={name: htmlsafe_json_dumps(value, separators=(",", ":")) for name, value in content.items()},
            script=Markup("\n".join((writers.TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        )
    )
    write_text(target, page)
    log.info("%s: %d of %d runs, %.0f kB", target, sum(r["done"] for r in rows), len(chosen), len(page) / 1000)


def _claims(plan: Plan, path: Path) -> Markup | None:
    """The papers' claims with their verdicts; None where no claim has been tested."""
    claim_lines = verdicts.lines(plan, testing.read(path)) if path.exists() else []
    return verdicts.to_html(claim_lines) if claim_lines else None


def _stand_ins(plan: Plan, titles: dict[str, str]) -> list[tuple[str, list[str]]]:
    """(stand-in, the published data sets that it replaces) for each stand-in."""
    played_by: dict[str, dict[str, None]] = {}
    for paper, table in plan.tables.values():
        for dataset in dict.fromkeys([table.dataset, *(paper.dataset_of(table, row) for row in table.rows)]):
            played = plan.dataset_of(dataset)
            if played != dataset:
                played_by.setdefault(titles.get(played, played), {})[titles.get(dataset, dataset)] = None
    return [(stand_in, sorted(played)) for stand_in, played in played_by.items()]


def _leaders(plan: Plan, systems: pd.DataFrame) -> list[dict[str, Any]]:
    """The best and the second best system of each data set."""
    leaders = []
    for dataset, part in systems.groupby("dataset", sort=True):
        first = part.iloc[0]
        second = part.iloc[1] if len(part) > 1 else None
        leaders.append(
            {
                "title": _dataset_title(plan, str(dataset)),
                "split": first.split,
                "name": first["name"],
                "criterion": _criterion_name(first.criterion),
                "value": _text(first["mean"], first["std"]),
                "seeds": int(first["size"]),
                "second": None if second is None else f"{second['name']} {_text(second['mean'], second['std'])}",
            }
        )
    return leaders


def _criterion_name(metric: str) -> str:
    return criteria().get(f"val_{metric}") or f"mean {label(metric)}"


def _directions(metrics: pd.DataFrame) -> dict[str, set[str]]:
    """{data set: the directions in which it was tested}"""
    ranked = {aspect for task in tasks().values() if task.ranked for aspect in task.aspects if "-to-" in aspect}
    single = metrics[metrics.aspect.isin(ranked)]
    return {str(name): set(part) for name, part in single.groupby("dataset").aspect}


def _failures(compared: pd.DataFrame) -> list[str]:
    """Tables that fail quality control for another reason than their controls, which are listed one by one."""
    here = compared[compared.qc.str.startswith("off: row")]
    return [f"{row.paper} {row.table}, {row.qc.removeprefix('off: ')}" for row in here.itertuples()]


def _check(check: Any) -> str:
    return (
        f"{check.model} on {check.dataset} (seed {check.seed}): {check.aspect} {check.metric} is {check.value:.2f}, "
        f"expected {check.low:.2f} to {check.high:.2f}"
    )


def write(plan: Plan, jobs: dict[str, Job], target: Path) -> None:
    """The step of the DAG: write `target/report.html` with the figures that are drawn already."""
    render(plan, Path(plan.params.paths.results), Path(plan.params.paths.data), target / "report.html", jobs)
