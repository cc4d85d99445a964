"""Sub-commands that gather, test, render and track what runs have measured."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmodal.cli.base import RunName, Scope, app, is_quick, read_plan, results_of, run_of, scope_of
from crossmodal.core.errors import UserError

if TYPE_CHECKING:
    from crossmodal.experiments import Job, Plan


@app.command(rich_help_panel="Results")
def collect(
    quick: Annotated[bool, typer.Option("--quick/--no-quick", help="Of the experiments marked `quick`.")] = False,
) -> None:
    """Gather what runs have measured: `metrics.parquet`, `comparison.parquet`, `summary.json`."""
    from crossmodal.reporting.results import collect as step

    plan = read_plan()
    jobs, target = scope_of(plan, quick)
    step.write(plan, jobs, Path(plan.params.paths.results) / "runs", target)


@app.command(rich_help_panel="Results")
def tables(quick: Scope = None) -> None:
    """Write the papers' tables (csv, md, tex, html) from `comparison.parquet`."""
    from crossmodal.reporting.tables import writers as step

    plan = read_plan()
    target = results_of(plan, quick)
    step.write(plan, target)


@app.command(rich_help_panel="Results")
def table(
    name: Annotated[str, typer.Argument(metavar="TABLE", help="PAPER-TABLE, such as a3vse-table1.")],
    quick: Scope = None,
    ours: Annotated[bool, typer.Option("--ours", help="Also rows with a system here that has not run.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All rows, also those with published numbers only.")] = False,
) -> None:
    """Show a paper's table in the terminal: the rows that runs of ours fill, beside the published numbers."""
    from crossmodal.core.files import read_rows
    from crossmodal.reporting.tables import terminal
    from crossmodal.reporting.tables.views import view

    rows = "all" if every else "ours" if ours else "filled"
    plan = read_plan()
    target = results_of(plan, quick)
    terminal.show(view(plan, read_rows(target / "comparison.parquet"), name), rows=rows)


@app.command(rich_help_panel="Results")
def claims(
    quick: Scope = None,
    paper: Annotated[str, typer.Option(help="Show the claims of one paper only, such as a3vse.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Show also those that no run tests.")] = False,
) -> None:
    """Test the papers' claims on our runs: `claims.parquet`, `tables/claims.*`, and the verdicts in the terminal."""
    from crossmodal.core.errors import suggestion
    from crossmodal.reporting.results import claims as step
    from crossmodal.reporting.tables import verdicts

    plan = read_plan()
    if paper and paper not in plan.papers:
        raise UserError(f"--paper: no paper {paper!r} is chosen{suggestion(paper, plan.papers)}")
    jobs, target = scope_of(plan, quick)
    frame = step.write(plan, jobs, target)
    verdicts.write(plan, frame, target / "tables")
    verdicts.show(plan, frame, paper or None, every=every)


@app.command(rich_help_panel="Results")
def measure(
    run: RunName,
    metrics: Annotated[
        list[str],
        typer.Argument(
            metavar="METRIC...", help="recall@K, map@K, ndcg@K, pair_recall@K for any K; of captions meteor, spice."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
) -> None:
    """Measure a tested run at other cut-offs, or its captions by METEOR and SPICE, from the files of its test.

    `crossmodal measure scenes/full/vsepp/seed0 recall@50 ndcg@10`
    """
    import json

    from crossmodal.evaluation.java_metrics import NAMES
    from crossmodal.reporting.results import cutoffs, java_scores
    from crossmodal.reporting.tables import terminal

    plan = read_plan()
    job, folder = run_of(plan, run)
    step = java_scores if {*NAMES} & {*metrics} else cutoffs
    rows = step.measure(folder, job, Path(plan.params.paths.data), metrics)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        terminal.show_numbers(rows)


@app.command(rich_help_panel="Results")
def check(
    quick: Scope = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Another results folder with the same seeds, whose numbers must all be equal; or reference sets, as "
            "in results/reference: equal where the same kind of machine made them, else within their seeds' spread."
        ),
    ] = None,
) -> None:
    """Check the quality of the tables: print each row that fails, and exit with 1 if there is one."""
    from crossmodal import dag
    from crossmodal.reporting.results import quality_control as step

    plan = read_plan()
    jobs, target = scope_of(plan, quick)
    runs = Path(plan.params.paths.results) / "runs"
    for line in dag.missing_raw(plan):
        logging.warning("%s", line)
    another = against if against is not None and (against / "runs").is_dir() else None
    agree = against is None or another is not None or _agrees(plan, jobs, target, against)
    faults = step.check(plan, jobs, runs, target, another)
    for line in faults:
        print(f"failed: {line}", file=sys.stderr)
    if faults or not agree:
        raise typer.Exit(1)
    logging.info("quality control: all tables pass")


def _agrees(plan: Plan, jobs: dict[str, Job], target: Path, folder: Path) -> bool:
    """Print how the collected results compare with the reference sets of a folder; whether they agree with all."""
    from crossmodal.reporting.results import claims, measured, reference, reproduced
    from crossmodal.reporting.tables import agreements

    sets = reference.chosen(plan, folder, quick=target.name == "quick")
    ours = measured.read(target, Path(plan.params.paths.results) / "runs", jobs)
    tested = claims.read(target / "claims.parquet") if (target / "claims.parquet").exists() else None
    others = reference.beside(sets)
    agree = True
    for one in sets:
        found = reproduced.compare(ours, one, [*(other for other in sets if other is not one), *others], tested)
        agreements.show(found, one.about)
        agree &= not found.failed
    return agree


@app.command(rich_help_panel="Results")
def reference(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the set, such as quick: the folder is named so.")],
    quick: Scope = None,
    into: Annotated[Path, typer.Option(help="The folder of reference sets.")] = Path("results/reference"),
    partial: Annotated[
        bool, typer.Option("--partial", help="Also where runs are missing or quality control fails; the set says so.")
    ] = False,
) -> None:
    """Write a reference set from collected results: numbers, verdicts and tables, small enough to be committed.

    `crossmodal check --against results/reference` compares the results of another machine with it.
    """
    from crossmodal.reporting.results import quality_control
    from crossmodal.reporting.results import reference as step

    plan = read_plan()
    jobs, target = scope_of(plan, quick)
    faults = quality_control.check(plan, jobs, Path(plan.params.paths.results) / "runs", target)
    if faults and not partial:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UserError(
            f"{target}: quality control fails: {faults[0]}{more}; make the missing runs and collect again, or choose "
            "the seeds and papers that are there, or write the set all the same with --partial"
        )
    print(step.write(plan, jobs, target, name, into, quick=target.name == "quick", faults=faults))


@app.command(rich_help_panel="Results")
def report(quick: Scope = None) -> None:
    """Write `report.html`, the one page to look at, with the figures that `crossmodal figure` has drawn."""
    from crossmodal.reporting.page import report as step

    plan = read_plan()
    jobs, target = scope_of(plan, quick)
    step.write(plan, jobs, target)


@app.command(rich_help_panel="Results")
def figure(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Without it, all whose files are there.")] = "",
    quick: Scope = None,
) -> None:
    """Draw a figure: `figures/NAME.svg`. `crossmodal list figures` names them."""
    from crossmodal.reporting.figures import base

    plan = read_plan()
    scope = base.Scope.of(plan, is_quick(plan, quick))
    if name:
        base.write(name, scope)
    else:
        base.write_all(scope)


@app.command(rich_help_panel="Results")
def track(
    quick: Scope = None,
    init: Annotated[bool, typer.Option("--init", help="Only create the store.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Fill the store from results/ again, whatever it contains.")
    ] = False,
) -> None:
    """Log finished runs in MLflow. Unchanged records stay; an unreachable store is a warning, not an error."""
    from crossmodal.reporting.tracking import record as step

    plan = read_plan()
    jobs, target = scope_of(plan, quick)
    if init:
        step.make_store(plan.params.tracking)
    else:
        step.write(plan, jobs, target, rebuild=rebuild)
