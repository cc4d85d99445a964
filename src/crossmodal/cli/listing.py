"""What `crossmodal list` shows: runs that are planned or there, and the modules of each kind with a line on each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from crossmodal.core import registry
from crossmodal.core.errors import printable
from crossmodal.dag import check_datasets

if TYPE_CHECKING:
    from crossmodal.experiments import Plan

KINDS = {"extractors": "features", **{kind: kind for kind in ("models", "datasets", "forms", "tasks", "figures")}}
"""{what a user lists: the registry's kind}"""


def planned(plan: Plan) -> list[dict[str, Any]]:
    """The runs that params.yaml selects, once the settings of their data sets are checked."""
    check_datasets(plan)
    return [{"run": key, "quick": job.quick} for key, job in plan.jobs.items()]


def described(kind: str) -> list[dict[str, Any]]:
    """Name, module and first line of each module of a kind; of models also what they read and their tasks."""
    rows = []
    for name, module in sorted(registry.names(kind).items()):
        row: dict[str, Any] = {"name": name, "module": module, "about": registry.about(kind, name)}
        rows.append({**row, **_of_model(name)} if kind == "models" else row)
    return rows


def _of_model(name: str) -> dict[str, Any]:
    from crossmodal.tasks.base import tasks

    names = [task.name for task in tasks().values() if any(task.evaluates(name, of) for of in ("group", "label"))]
    return {"reads": registry.reads(name), "others": registry.chooses_modalities(name), "tasks": names}


def show(rows: list[dict[str, Any]], *, as_json: bool, columns: Mapping[str, Iterable[str]]) -> None:
    """Print rows as JSON, or as a table with these columns: {heading: texts}."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from crossmodal.core.display import folding

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True, header_style="dim")
    for head in columns:
        right = head in ("score", "training", "on disk")
        table.add_column(head, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*(Text(printable(cell)) for cell in cells))
    folding().print(table)


def show_planned(plan: Plan, *, as_json: bool) -> None:
    """Print the runs that params.yaml selects, one per line."""
    rows = planned(plan)
    for line in plan.players():
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            typer.echo(f"{row['run']}{'  (quick)' if row['quick'] else ''}")


def show_finished(plan: Plan, *, as_json: bool) -> None:
    """Print the runs that are there."""
    from crossmodal.core.display import readable_bytes, readable_seconds
    from crossmodal.reporting.results.finished import finished
    from crossmodal.tasks.base import label

    found = finished(plan)
    columns = {
        "run": [one.run for one in found],
        "score": ["" if one.score is None else f"{one.score:.1f}" for one in found],
        "of": ["" if one.metric is None else f"{label(one.metric)} ({one.aspect})" for one in found],
        "training": ["" if one.seconds is None else readable_seconds(one.seconds) for one in found],
        "on disk": [readable_bytes(one.bytes) for one in found],
    }
    show([asdict(one) for one in found], as_json=as_json, columns=columns)
    if not as_json:
        size = readable_bytes(sum(one.bytes for one in found))
        more = len({*plan.jobs} - {one.run for one in found})
        typer.echo(f"{len(found)} runs, {size}; {more} more are planned")


def _reads(row: dict[str, Any]) -> str:
    """What a model reads, such as `image as vector, text as tokens`."""
    found = ", ".join(f"{modality} as {form}" for modality, form in row["reads"].items())
    return f"{found}; others by `modalities`" if row["others"] else found


def show_kind(kind: str, *, as_json: bool) -> None:
    """Print the modules of a kind."""
    rows = described(kind)
    own = f"{registry.PACKAGES[kind]}."
    columns = {
        "name": [r["name"] if r["module"].startswith(own) else f"{r['name']}  ({r['module']})" for r in rows],
        "": [row["about"] for row in rows],
    }
    if kind == "models":
        columns["reads"] = [_reads(row) for row in rows]
        columns["tasks"] = [", ".join(name.replace("_", " ") for name in row["tasks"]) for row in rows]
    show(rows, as_json=as_json, columns=columns)
