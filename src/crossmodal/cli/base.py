"""The command `crossmodal` itself: its global options, its errors, and what several sub-commands share."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmodal.core.errors import UserError, printable

if TYPE_CHECKING:
    from crossmodal.experiments import Plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="A reproducible benchmark pipeline for cross-modal retrieval. `snakemake --cores all all` runs it all; each "
    "sub-command here is one step of it, for running or debugging that step alone.",
    epilog="Settings come from `params.yaml` (or `--params`), experiments and published numbers from `papers/*.yaml`.",
)

_state: dict[str, Path] = {}
OPENING = ("prepare", "extract", "report", "search")  # commands that open other people's files


class _Printable(logging.Formatter):
    """Formats lines of the log without control characters, since names and texts in them come from files of others."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the library's name
        return "\n    ".join(map(printable, super().formatMessage(record).split("\n")))


@app.callback()
def _options(
    context: typer.Context,
    params: Annotated[
        Path, typer.Option(envvar="CROSSMODAL_PARAMS", help="Parameters; the DAG passes its merged configuration.")
    ] = Path("params.yaml"),
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every detail.")] = False,
) -> None:
    _state["params"] = params
    level = logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in ("PIL", "matplotlib", "alembic", "urllib3", "git", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if context.obj is main and context.invoked_subcommand in OPENING:
        from crossmodal.core import isolation

        isolation.begin()


def read_plan() -> Plan:
    from crossmodal import experiments
    from crossmodal.core import isolation, limits, paths

    params = experiments.load(_state["params"])
    limits.use(params.limits)
    isolation.bound(params.limits)
    paths.allow([dataset.settings for dataset in params.datasets.values()])
    return experiments.plan(params)


def dataset_folder(plan: Plan, name: str) -> Path:
    from crossmodal.core.errors import suggestion

    if name not in plan.params.datasets:
        raise UserError(f"data set {name!r} is unknown" + suggestion(name, plan.params.datasets))
    return Path(plan.params.paths.data) / name


DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="A name in `datasets` of params.yaml.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="DATASET/SPLIT/MODEL[.VARIANT]/seedN, or its folder.")]
Scope = Annotated[bool, typer.Option("--quick", help="Only the experiments marked `quick`; written to results/quick.")]


def run_of(plan: Plan, name: str):
    from crossmodal.dag import job_of

    runs = Path(plan.params.paths.results) / "runs"
    key = str(Path(name).relative_to(runs)) if Path(name).is_relative_to(runs) else name
    return job_of(plan, key), runs / key


def scope_of(plan: Plan, quick: bool) -> tuple[dict, Path]:
    results = Path(plan.params.paths.results)
    if quick:
        return {key: job for key, job in plan.jobs.items() if job.quick}, results / "quick"
    return plan.jobs, results


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, not a traceback."""
    try:
        app(obj=main)  # tells `_options` that no test runs this, so that the process may fork
    except UserError as error:
        print(*(printable(line) for line in f"error: {error}".split("\n")), sep="\n", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        from crossmodal.core.files import reason

        why = reason(error)
        if why is None or os.environ.get("CROSSMODAL_DEBUG"):
            raise
        print(printable(f"error: {error.filename or 'a file'}: cannot be written: {why}"), file=sys.stderr)
        sys.exit(2)
