"""The command `crossmodal` itself: its global options, its errors, and what several sub-commands share."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmodal.core.errors import UserError, printable

if TYPE_CHECKING:
    from crossmodal.experiments import Job, Params, Plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    help="A reproducible benchmark pipeline for cross-modal retrieval. `snakemake --cores all all` runs it all; each "
    "sub-command here is one step of it, for running or debugging that step alone.",
    epilog="Settings come from `params.yaml` (or `--params`), experiments and published numbers from `papers/*.yaml`.",
)

_state: dict[str, list[str]] = {}
COLLECTED = "metrics.parquet"  # what `collect` leaves in `results/` or `results/quick/`
OPENING = ("prepare", "extract", "report", "search", "describe", "export")  # they open other people's files


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"crossmodal {metadata.version('crossmodal')}")
        raise typer.Exit


class _Printable(logging.Formatter):
    """Formats lines of the log without control characters, since names and texts in them come from files of others."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the library's name
        return "\n    ".join(map(printable, super().formatMessage(record).split("\n")))


@app.callback()
def _options(
    context: typer.Context,
    params: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Parameters; if repeated, later files overlay earlier ones, as with `snakemake --configfile`. By "
            "default `params.yaml`, or what CROSSMODAL_PARAMS names (the DAG passes its merged configuration).",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A value over those of the files, as with `snakemake --config`."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every detail.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    _state["params"] = params or [os.environ.get("CROSSMODAL_PARAMS") or "params.yaml"]
    _state["config"] = config or []
    level = logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in ("PIL", "matplotlib", "alembic", "urllib3", "git", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if context.obj is main and context.invoked_subcommand in OPENING:
        from crossmodal.core import isolation

        isolation.begin()


def read_params() -> Params:
    from crossmodal import experiments

    return experiments.params_of(_state["params"], experiments.config_of(_state["config"]))


def read_plan() -> Plan:
    from crossmodal import experiments

    return experiments.plan(read_params())


def dataset_folder(plan: Plan, name: str) -> Path:
    from crossmodal.core.errors import suggestion

    if name not in plan.params.datasets:
        raise UserError(f"data set {name!r} is unknown" + suggestion(name, plan.params.datasets))
    return Path(plan.params.paths.data) / name


DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="A name in `datasets` of params.yaml.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="DATASET/SPLIT/MODEL[.VARIANT]/seedN, or its folder.")]
Scope = Annotated[
    bool | None,
    typer.Option(
        "--quick/--no-quick",
        show_default=False,
        help="Of the experiments marked `quick`, in results/quick, or of all, in results; by default of all, or of the "
        "`quick` ones where only these are collected.",
    ),
]


def run_of(plan: Plan, name: str) -> tuple[Job, Path]:
    from crossmodal.experiments.named import run_at

    return run_at(plan, name)


def check_page(page: Path, files: Iterable[str]) -> None:
    """Check before any work that a page can be written, and replaces none of the files that it is about.

    Raises
    ------
    UserError : it is a folder, lies below a file, or is one of the files.
    """
    if page.is_dir():
        raise UserError(f"--html {page}: is a folder; name a file, such as {page / 'page.html'}")
    above = next(folder for folder in page.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"--html {page}: {above} is a file; name a file in a folder")
    if page.exists() and any(Path(file).exists() and page.samefile(file) for file in files):
        raise UserError(f"--html {page}: is the file that is asked about; name another one for the page")


def is_quick(plan: Plan, quick: bool | None) -> bool:
    """Whether a command reads `results/quick`: as its option says or, without one, where only that is collected."""
    results = Path(plan.params.paths.results)
    if quick is None:
        quick = not (results / COLLECTED).exists() and (results / "quick" / COLLECTED).exists()
        if quick:
            typer.echo(f"{results}: holds no collected results; {results / 'quick'} is read in its place", err=True)
    return quick


def results_of(plan: Plan, quick: bool | None) -> Path:
    """The folder of the results that a command reads."""
    results = Path(plan.params.paths.results)
    return results / "quick" if is_quick(plan, quick) else results


def scope_of(plan: Plan, quick: bool | None) -> tuple[dict, Path]:
    """The jobs and the folder of the results that a command reads."""
    quick = is_quick(plan, quick)
    jobs = {key: job for key, job in plan.jobs.items() if job.quick} if quick else plan.jobs
    return jobs, results_of(plan, quick)


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may have bytes that are no text
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
        print(printable(f"error: {error.filename or 'a file'}: cannot be opened or written: {why}"), file=sys.stderr)
        sys.exit(2)
