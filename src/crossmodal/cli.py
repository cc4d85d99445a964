"""`crossmodal`: one sub-command per rule of the DAG. Its imports are lazy, so that `--help` is quick."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmodal.core.errors import UserError, printable

if TYPE_CHECKING:
    from crossmodal.experiments import Job, Plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="A reproducible benchmark pipeline for cross-modal retrieval. `snakemake --cores all all` runs it all; each "
    "sub-command here is one step of it, for running or debugging that step alone.",
    epilog="Settings come from `params.yaml` (or `--params`), experiments and published numbers from `papers/*.yaml`.",
)

features_app = typer.Typer(no_args_is_help=True, help="List the features below `data/`, or remove what none needs.")
app.add_typer(features_app, name="features")

_state: dict[str, Path] = {}
OPENING = ("prepare", "extract", "report", "search")  # commands that open other people's files


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
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("PIL", "matplotlib", "alembic", "urllib3", "git", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if context.obj is main and context.invoked_subcommand in OPENING:
        from crossmodal.core import isolation

        isolation.begin()


def _plan() -> Plan:
    from crossmodal import experiments
    from crossmodal.core import isolation, limits, paths

    params = experiments.load(_state["params"])
    limits.use(params.limits)
    isolation.bound(params.limits)
    paths.allow([dataset.settings for dataset in params.datasets.values()])
    return experiments.plan(params)


def _dataset(plan: Plan, name: str) -> Path:
    from crossmodal.core.errors import suggestion

    if name not in plan.params.datasets:
        raise UserError(f"data set {name!r} is unknown" + suggestion(name, plan.params.datasets))
    return Path(plan.params.paths.data) / name


DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="A name in `datasets` of params.yaml.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="DATASET/SPLIT/MODEL[.VARIANT]/seedN, or its folder.")]
Scope = Annotated[bool, typer.Option("--quick", help="Only the experiments marked `quick`; written to results/quick.")]


def _run(plan: Plan, name: str):
    from crossmodal.dag import job_of

    runs = Path(plan.params.paths.results) / "runs"
    key = str(Path(name).relative_to(runs)) if Path(name).is_relative_to(runs) else name
    return job_of(plan, key), runs / key


@app.command()
def prepare(dataset: DatasetName) -> None:
    """Read (or draw) the raw files of a data set into `items.parquet`."""
    from crossmodal import experiments
    from crossmodal.core import registry

    plan = _plan()
    folder = _dataset(plan, dataset)
    chosen = plan.params.datasets[dataset]
    reader = registry.module("datasets", chosen.reader)
    settings = experiments.validated(reader.Settings, chosen.settings, f"params.yaml: datasets.{dataset}")
    reader.make(settings, folder, title=chosen.title)


@app.command()
def changes() -> None:
    """Check the raw files for changes, as Snakemake does before its rules: `results/.changes.json`."""
    from crossmodal import dag
    from crossmodal.core.files import write_json

    plan = _plan()
    found = dag.changes(plan)
    write_json(Path(plan.params.paths.results) / ".changes.json", found)
    logging.info("%d steps read raw files that have changed since, or files that settings name", len(found))


@app.command()
def tokenize(dataset: DatasetName) -> None:
    """Cut the captions of a data set into words, once for all runs: `tokens.parquet`."""
    from crossmodal.core.files import write_parquet
    from crossmodal.datasets import items
    from crossmodal.language.tokens import token_table

    plan = _plan()
    folder = _dataset(plan, dataset)
    if (plan.params.datasets[dataset].arrays or {}).get("text"):
        raise UserError(f"params.yaml: datasets.{dataset}: its text is arrays; there are no captions to cut into words")
    write_parquet(folder / "tokens.parquet", token_table(items.read(folder), items.words(folder)))


@app.command()
def split(
    dataset: DatasetName,
    name: Annotated[
        str, typer.Argument(metavar="SPLIT", help="`full`, `none`, NNpct-Mcap such as 10pct-5cap, or classesIofN.")
    ],
) -> None:
    """Choose the annotated pairs of a sparse corpus, or the classes of a stage: `splits/SPLIT.parquet`."""
    from crossmodal.core.files import write_parquet
    from crossmodal.corpus import splits
    from crossmodal.datasets import items

    plan = _plan()
    folder = _dataset(plan, dataset)
    chosen = plan.params.datasets[dataset]
    if chosen.relevance == "label":
        made = splits.make_labelled(items.read(folder), name, chosen.stages)
    else:
        made = splits.make(items.read(folder), name, plan.params.splits.seed)
    write_parquet(folder / "splits" / f"{name}.parquet", made)
    logging.info("%s: %s", name, splits.summary(made))


@app.command()
def extract(
    dataset: DatasetName,
    extractor: Annotated[str, typer.Argument(metavar="EXTRACTOR", help="A name in `extractors` of params.yaml.")],
    modality: Annotated[str, typer.Option(help="For `precomputed`, which knows several; else the extractor's.")] = "",
) -> None:
    """Extract features of a data set; a killed extraction resumes where it stopped."""
    from crossmodal import experiments
    from crossmodal.core import registry
    from crossmodal.core.errors import suggestion
    from crossmodal.datasets import items
    from crossmodal.features.engine import extraction

    plan = _plan()
    folder = _dataset(plan, dataset)
    if extractor not in plan.params.extractors:
        raise UserError(f"extractor {extractor!r} is unknown" + suggestion(extractor, plan.params.extractors))
    chosen = plan.params.extractors[extractor]
    if modality and chosen.extractor != experiments.PRECOMPUTED and modality != chosen.modality:
        raise UserError(f"extractor {extractor!r} reads {chosen.modality} items, not {modality} ones")
    modality = modality or chosen.modality
    module = registry.module("features", chosen.extractor)
    settings = experiments.validated(module.Settings, chosen.settings, f"params.yaml: extractors.{extractor}")
    extraction.run(
        chosen.extractor,
        items.read(folder),
        items.root(folder),
        settings,
        folder / "features" / f"{modality}.{extractor}",
        threads=plan.params.threads.features,
        modality=modality,
        store=Path(plan.params.paths.data) / ".features",
    )


@app.command()
def train(
    run: RunName,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew even where a checkpoint could be gone on from.")
    ] = False,
) -> None:
    """Train one run; a killed training resumes after its last epoch and gives the same bits."""
    from crossmodal.runs.train import train_job

    plan = _plan()
    job, folder = _run(plan, run)
    before = job.before and Path(plan.params.paths.results) / "runs" / job.before
    train_job(job, folder, Path(plan.params.paths.data), fresh=fresh, before=before)


@app.command()
def evaluate(
    run: RunName,
    task: Annotated[str, typer.Option(help="One of the tasks that the run is asked; by default all of them.")] = "",
    step: Annotated[
        str, typer.Option(help="`encode`, a shard's number from 0, or `gather`, with `evaluation.shards` above 1.")
    ] = "all",
) -> None:
    """Test a trained run on its test items: `TASK/examples.parquet` and `TASK/metrics.json` in its folder."""
    from crossmodal.runs import evaluate as runs

    plan = _plan()
    job, folder = _run(plan, run)
    data, count = Path(plan.params.paths.data), plan.params.evaluation.shards
    if step == "all":
        runs.evaluate(job, folder, data, plan.params.scale, task or None)
    elif step == "encode":
        runs.encode_job(job, folder, data, task)
    elif step == "gather":
        runs.gather_job(job, folder, data, plan.params.scale, task, count)
    elif step.isdigit() and int(step) < count:
        runs.shard_job(job, folder, task, int(step), count)
    else:
        raise UserError(f"--step {step!r}: expected all, encode, gather, or a number below evaluation.shards, {count}")


@app.command()
def rehearse(
    quick: Annotated[bool, typer.Option("--quick", help="Only the experiments marked `quick`.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only runs whose path has this in it, such as `flickr30k/full`.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Jobs at a time; 0: one per core.")] = 0,
    paced: Annotated[bool, typer.Option("--plan/--no-plan", help="Take times, and plan hours and memory.")] = True,
) -> None:
    """Try every selected job for two steps and one test, list what is missing, and estimate hours, memory and disk."""
    from crossmodal.rehearsal import run as step

    plan = _plan()
    jobs, _ = _scope(plan, quick)
    if only:
        jobs = {key: job for key, job in jobs.items() if any(part in key for part in only)}
        if not jobs:
            raise UserError(f"--only {' '.join(only)}: no selected run has this in its path; see crossmodal list runs")
        _add_origins(plan, jobs)
    found = step.run(plan, jobs, workers, paced=paced)
    step.show(plan, jobs, found, paced=paced)
    if not found.sound:
        raise typer.Exit(1)


def _add_origins(plan: Plan, jobs: dict[str, Job]) -> None:
    """Add the runs that these are initialised from."""
    for job in [*jobs.values()]:
        while job.before is not None:
            job = plan.jobs[job.before]
            jobs[job.key] = job


def _scope(plan: Plan, quick: bool) -> tuple[dict, Path]:
    results = Path(plan.params.paths.results)
    if quick:
        return {key: job for key, job in plan.jobs.items() if job.quick}, results / "quick"
    return plan.jobs, results


@app.command()
def collect(quick: Scope = False) -> None:
    """Gather what runs have measured: `metrics.parquet`, `comparison.parquet`, `summary.json`."""
    from crossmodal.reporting.results import collect as step

    plan = _plan()
    jobs, target = _scope(plan, quick)
    step.write(plan, jobs, Path(plan.params.paths.results) / "runs", target)


@app.command()
def tables(quick: Scope = False) -> None:
    """Write the papers' tables (csv, md, tex, html) from `comparison.parquet`."""
    from crossmodal.reporting.tables import writers as step

    plan = _plan()
    _, target = _scope(plan, quick)
    step.write(plan, target)


@app.command()
def table(
    name: Annotated[str, typer.Argument(metavar="TABLE", help="PAPER-TABLE, such as a3vse-table1.")],
    quick: Annotated[bool, typer.Option("--quick", help="Of results/quick.")] = False,
    ours: Annotated[bool, typer.Option("--ours", help="Only rows with a system here.")] = False,
) -> None:
    """Show a paper's table in the terminal: published numbers and ours."""
    from crossmodal.core.files import read_parquet
    from crossmodal.reporting.tables import terminal
    from crossmodal.reporting.tables.views import view

    plan = _plan()
    _, target = _scope(plan, quick)
    terminal.show(view(plan, read_parquet(target / "comparison.parquet"), name), only_ours=ours)


@app.command()
def claims(
    quick: Scope = False,
    paper: Annotated[str, typer.Option(help="Show those of one paper alone, such as a3vse.")] = "",
) -> None:
    """Test the papers' claims on our runs: `claims.parquet`, `tables/claims.*`, and each verdict in the terminal."""
    from crossmodal.core.errors import suggestion
    from crossmodal.reporting.results import claims as step
    from crossmodal.reporting.tables import verdicts

    plan = _plan()
    if paper and paper not in plan.papers:
        raise UserError(f"--paper: no paper {paper!r} is chosen{suggestion(paper, plan.papers)}")
    jobs, target = _scope(plan, quick)
    frame = step.write(plan, jobs, target)
    verdicts.write(plan, frame, target / "tables")
    verdicts.show(plan, frame, paper or None)


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What to fetch; without it, all names.")] = "",
    to: Annotated[Path, typer.Option(help="Folder of raw files, where params.yaml looks for them.")] = Path("raw"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree to the licence that is shown.")] = False,
) -> None:
    """Download raw files from their publishers; a broken download resumes, and files are checked and unpacked."""
    from crossmodal import downloads

    if not name:
        for key, one in downloads.origins().items():
            typer.echo(f"{key}  {one.title} ({'by hand' if one.by_hand else one.about})")
        typer.echo("torchvision/NETWORK  weights of a network of torchvision, such as torchvision/resnet152")
        return
    origin = downloads.named(name)
    typer.echo(f"{origin.title}, {origin.about}\nfrom {origin.home}\nlicence: {origin.licence}")
    if not yes and not typer.confirm("Do you agree to it, and shall the files be fetched?"):
        raise typer.Exit(1)
    for line in downloads.fetch(origin, to, progress=sys.stderr.isatty()):
        typer.echo(line)


@app.command()
def measure(
    run: RunName,
    metrics: Annotated[list[str], typer.Argument(metavar="METRIC...", help="recall@K, map@K or ndcg@K, for any K.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list in place of a table.")] = False,
) -> None:
    """Measure a tested run at other cut-offs, from the files of its test.

    `crossmodal measure world/full/vsepp/seed0 recall@50 ndcg@10`
    """
    import json

    from crossmodal.reporting.results import cutoffs
    from crossmodal.reporting.tables import terminal

    plan = _plan()
    job, folder = _run(plan, run)
    rows = cutoffs.measure(folder, job, Path(plan.params.paths.data), metrics)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        terminal.show_numbers(rows)


@app.command()
def check(
    quick: Scope = False,
    against: Annotated[
        Path | None, typer.Option(help="Another results folder, of the same seeds: every number must be the same.")
    ] = None,
) -> None:
    """Check the quality of the tables: print each row that fails, and exit with 1 if there is one."""
    from crossmodal.reporting.results import quality_control as step

    plan = _plan()
    jobs, target = _scope(plan, quick)
    said = step.check(plan, jobs, Path(plan.params.paths.results) / "runs", target, against)
    for line in said:
        print(f"failed: {line}", file=sys.stderr)
    if said:
        raise typer.Exit(1)
    logging.info("quality control: all tables pass")


@app.command()
def report(quick: Scope = False) -> None:
    """Write `report.html`, the one page to look at, with the figures that `crossmodal figure` has drawn."""
    from crossmodal.reporting.page import report as step

    plan = _plan()
    jobs, target = _scope(plan, quick)
    step.write(plan, jobs, target)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Without it, all that are wanted are drawn.")] = "",
    quick: Scope = False,
) -> None:
    """Draw a figure: `figures/NAME.svg`. `crossmodal list figures` names those that are wanted."""
    from crossmodal.reporting.figures import base

    scope = base.Scope.of(_plan(), quick)
    for one in [name] if name else [figure.name for figure in base.wanted(scope)]:
        base.write(one, scope)


@app.command()
def track(
    quick: Scope = False,
    init: Annotated[bool, typer.Option("--init", help="Only make the store.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Refill the store from results/, whatever it holds.")
    ] = False,
) -> None:
    """Log finished runs in MLflow. Unchanged records stay; an unreachable store is a warning, not an error."""
    from crossmodal.reporting.tracking import record as step

    plan = _plan()
    jobs, target = _scope(plan, quick)
    if init:
        step.make_store(plan.params.tracking)
    else:
        step.write(plan, jobs, target, rebuild=rebuild)


@app.command()
def backbone(
    target: Annotated[Path, typer.Argument(help="Weights file to write (safetensors).")],
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 2,
) -> None:
    """Train the world's small image network again (about 15 minutes on two cores)."""
    from crossmodal.features.networks import world_backbone as step

    step.train(step.Settings(), target, threads=threads)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="runs, models, datasets, extractors, forms, tasks or figures")] = "runs",
) -> None:
    """List the runs that params.yaml selects, or the models, data sets, extractors, forms, tasks or figures known."""
    from crossmodal.core import registry

    kinds = {"extractors": "features", **{kind: kind for kind in ("models", "datasets", "forms", "tasks", "figures")}}
    if what == "runs":
        for key, job in _plan().jobs.items():
            typer.echo(f"{key}{'  (quick)' if job.quick else ''}")
    elif what in kinds:
        for name, module in sorted(registry.names(kinds[what]).items()):
            typer.echo(f"{name}  ({module})")
    else:
        raise UserError(f"list {what!r}: expected runs, models, datasets, extractors, forms, tasks or figures")


@features_app.command("ls")
def features_ls(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, sizes in bytes.")] = False,
) -> None:
    """List all features with the data sets that have them, sizes and where they come from."""
    import json

    from crossmodal.features.engine import catalog

    found = catalog.entries(Path(_plan().params.paths.data))
    if as_json:
        typer.echo(json.dumps([entry.describe() for entry in found], indent=2))
    else:
        catalog.show(found)


@features_app.command("prune")
def features_prune(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove features from the store that no data set uses any more."""
    from crossmodal.features.engine import catalog

    gone = catalog.unused(catalog.entries(Path(_plan().params.paths.data)))
    if not gone:
        typer.echo("nothing to remove: each entry of the store is some data set's")
        return
    catalog.show(gone)
    if not yes and not typer.confirm(f"remove these {len(gone)}?"):
        raise typer.Exit(1)
    freed = sum(catalog.remove(entry) for entry in gone)
    typer.echo(f"{catalog.readable(freed)} freed")


@app.command()
def search(
    run: RunName,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="A sentence to search for.")] = None,
    image: Annotated[Path | None, typer.Option(help="Search for an image file.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Search for a sound file.")] = None,
    video: Annotated[Path | None, typer.Option(help="Search for a video file.")] = None,
    mesh: Annotated[Path | None, typer.Option(help="Search for a mesh file.")] = None,
    item: Annotated[str | None, typer.Option(help="Search for an item of the data set, by its id.")] = None,
    to: Annotated[str | None, typer.Option(help="Modality of the answers, where the run has more than two.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Answers.")] = 10,
    partition: Annotated[str, typer.Option(help="Items that are searched: train, val, test or all.")] = "test",
    html: Annotated[Path | None, typer.Option(help="Write the answers as a page, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of a table.")] = False,
) -> None:
    """Search the items of a trained run's data set by a sentence or a file of yours.

    `crossmodal search world/full/vsepp/seed0 "a red ball left of a cup"`
    """
    from crossmodal.inference import search as step
    from crossmodal.reporting.page import search_results

    files = {"image": image, "audio": audio, "video": video, "mesh": mesh}
    queries = [step.Query(modality, str(path)) for modality, path in files.items() if path is not None]
    queries += [step.Query("text", text)] if text is not None else []
    queries += [step.Query("", "", item)] if item is not None else []
    if len(queries) != 1:
        raise UserError(
            f"{len(queries)} queries are given; expected one: a TEXT, a file (--image, --audio, ...) or --item"
        )
    if partition not in ("train", "val", "test", "all"):
        raise UserError(f"--partition {partition!r}: expected train, val, test or all")
    plan = _plan()
    _, folder = _run(plan, run)
    found = step.search(plan, folder, queries[0], to, k=k, partition=partition)
    search_results.show(found, as_json=as_json)
    if html is not None:
        search_results.write(found, html)


@app.command()
def schema() -> None:
    """Print the JSON schema of params.yaml, made from the classes that check it."""
    import json

    from crossmodal.experiments import Params

    typer.echo(json.dumps(Params.model_json_schema(), indent=2))


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
        print(f"error: {error.filename or 'a file'}: cannot be written: {why}", file=sys.stderr)
        sys.exit(2)
