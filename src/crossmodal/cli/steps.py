"""Sub-commands that make data, features, subsets and runs: one per rule of the DAG."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossmodal.cli.base import DatasetName, RunName, app, dataset_folder, read_plan, run_of, scope_of
from crossmodal.core.errors import UserError

if TYPE_CHECKING:
    from crossmodal.experiments import Job, Plan


@app.command(rich_help_panel="Steps of the pipeline")
def prepare(dataset: DatasetName) -> None:
    """Read (or draw) the raw files of a data set into `items.parquet`."""
    from crossmodal import experiments
    from crossmodal.core import registry
    from crossmodal.datasets import items

    plan = read_plan()
    folder = dataset_folder(plan, dataset)
    chosen = plan.params.datasets[dataset]
    reader = registry.module("datasets", chosen.reader)
    settings = experiments.validated(reader.Settings, chosen.settings, f"params.yaml: datasets.{dataset}")
    reader.make(settings, folder, title=chosen.title)
    if chosen.arrays is None:
        for error in items.unopened(folder):
            logging.warning("%s; `crossmodal extract` will not accept it", error)


@app.command(rich_help_panel="Steps of the pipeline")
def changes() -> None:
    """Check the raw files for changes, as Snakemake does before its rules: `results/.changes.json`."""
    from crossmodal import dag
    from crossmodal.core.files import write_json

    plan = read_plan()
    changed = dag.changes(plan)
    write_json(Path(plan.params.paths.results) / ".changes.json", changed)
    logging.info("%d steps read raw files that have changed, or files named in settings", len(changed))


@app.command(rich_help_panel="Steps of the pipeline")
def tokenize(dataset: DatasetName) -> None:
    """Cut the captions of a data set into words, once for all runs: `tokens.parquet`."""
    from crossmodal.core.files import write_parquet
    from crossmodal.datasets import items
    from crossmodal.language.tokens import token_table

    plan = read_plan()
    folder = dataset_folder(plan, dataset)
    if (plan.params.datasets[dataset].arrays or {}).get("text"):
        raise UserError(
            f"params.yaml: datasets.{dataset}: its texts are arrays, so that there are no captions to tokenise"
        )
    write_parquet(folder / "tokens.parquet", token_table(items.read(folder), items.words(folder)))


@app.command(rich_help_panel="Steps of the pipeline")
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

    plan = read_plan()
    folder = dataset_folder(plan, dataset)
    chosen = plan.params.datasets[dataset]
    if chosen.relevance == "label":
        frame = splits.make_labelled(items.read(folder), name, chosen.stages)
    else:
        frame = splits.make(items.read(folder), name, plan.params.splits.seed)
    write_parquet(folder / "splits" / f"{name}.parquet", frame)
    logging.info("%s: %s", name, splits.summary(frame))


@app.command(rich_help_panel="Steps of the pipeline")
def extract(
    dataset: DatasetName,
    extractor: Annotated[str, typer.Argument(metavar="EXTRACTOR", help="A name in `extractors` of params.yaml.")],
    modality: Annotated[
        str, typer.Option(help="Needed for `precomputed`, which reads several; by default that of the extractor.")
    ] = "",
) -> None:
    """Extract features of a data set; a killed extraction resumes where it stopped."""
    from crossmodal import experiments
    from crossmodal.core import registry
    from crossmodal.core.errors import suggestion
    from crossmodal.datasets import items
    from crossmodal.features.engine import extraction

    plan = read_plan()
    folder = dataset_folder(plan, dataset)
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


@app.command(rich_help_panel="Steps of the pipeline")
def train(
    run: RunName,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start training anew even if there is a checkpoint.")] = False,
) -> None:
    """Train one run; a killed training resumes after its last epoch and gives the same bits."""
    from crossmodal.experiments.named import before_of
    from crossmodal.runs.train import train_job

    plan = read_plan()
    job, folder = run_of(plan, run)
    before = before_of(plan, job, folder)
    train_job(job, folder, Path(plan.params.paths.data), fresh=fresh, before=before)


@app.command(rich_help_panel="Steps of the pipeline")
def sweep(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="DATASET/SPLIT/MODEL[.VARIANT] of an experiment's `sweep`.")
    ],
    candidate: Annotated[str, typer.Option(help="Try only this candidate, such as `lr2e-4+margin2e-1`.")] = "",
    choose: Annotated[bool, typer.Option("--choose", help="Only choose among the candidates already tried.")] = False,
) -> None:
    """Try the values that an experiment sweeps, and choose the best on validation items: `RUN/sweep/choice.json`."""
    from crossmodal.experiments.named import before_of, job_of
    from crossmodal.experiments.sweeps import folder_of, sentence, tried_file
    from crossmodal.runs import sweep as step

    plan = read_plan()
    results = Path(plan.params.paths.results)
    job = job_of(plan, f"{run.strip('/').partition('/seed')[0]}/seed{plan.params.seeds[0]}")
    folder = folder_of(results, job.key)
    if job.sweep is None:
        raise UserError(f"{job.key}: no experiment of papers/ gives it a `sweep`, so that there is nothing to try")
    for name in [candidate] if candidate else [] if choose else job.sweep.candidates:
        if not candidate and tried_file(folder, name).exists():
            logging.info("%s: candidate %s has been tried already", job.key, name)
            continue
        before = before_of(plan, job, results / "runs" / job.key)
        step.try_candidate(job, name, folder, Path(plan.params.paths.data), before)
    if not candidate:
        typer.echo(sentence(step.choose_candidate(job, folder)))


@app.command(rich_help_panel="Steps of the pipeline")
def evaluate(
    run: RunName,
    task: Annotated[
        str, typer.Option(help="One of the tasks on which the run is evaluated; by default all of them.")
    ] = "",
    step: Annotated[
        str,
        typer.Option(
            help="`encode`, the number of a shard (from 0) or `gather`, where `evaluation.shards` is above 1."
        ),
    ] = "all",
) -> None:
    """Test a trained run on its test items: `TASK/examples.parquet` and `TASK/metrics.json` in its folder."""
    from crossmodal.runs import evaluate as runs

    plan = read_plan()
    job, folder = run_of(plan, run)
    data, count = Path(plan.params.paths.data), plan.params.evaluation.shards
    if step == "all":
        runs.evaluate(job, folder, data, job.scale, task or None)
    elif step == "encode":
        runs.encode_job(job, folder, data, task)
    elif step == "gather":
        runs.gather_job(job, folder, data, job.scale, task, count)
    elif step.isdigit() and int(step) < count:
        runs.shard_job(job, folder, task, int(step), count)
    else:
        raise UserError(f"--step {step!r}: expected all, encode, gather, or a number below evaluation.shards, {count}")


@app.command(rich_help_panel="Steps of the pipeline")
def rehearse(
    quick: Annotated[bool, typer.Option("--quick", help="Use only the experiments marked `quick`.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Use only runs whose path contains this text, such as `flickr30k/full`.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Number of simultaneous jobs; 0: one per core.")] = 0,
    paced: Annotated[
        bool, typer.Option("--plan/--no-plan", help="Measure times, and estimate hours and memory.")
    ] = True,
) -> None:
    """Try every selected job for two steps and one test, list what is missing, and estimate hours, memory and disk."""
    from crossmodal.rehearsal import run as step

    plan = read_plan()
    jobs, _ = scope_of(plan, quick)
    if only:
        jobs = {key: job for key, job in jobs.items() if any(part in key for part in only)}
        if not jobs:
            raise UserError(f"--only {' '.join(only)}: no selected run has this in its path; see crossmodal list runs")
        _add_origins(plan, jobs)
    jobs = _with_candidates(plan, jobs)
    result = step.run(plan, jobs, workers, paced=paced)
    step.show(plan, jobs, result, paced=paced)
    if not result.sound:
        raise typer.Exit(1)


def _with_candidates(plan: Plan, jobs: dict[str, Job]) -> dict[str, Job]:
    """The jobs after the candidates of their sweeps, which are tried with the first seed."""
    first = (job for job in jobs.values() if job.seed == plan.params.seeds[0])
    return {one.key: one for job in first for one in job.candidates.values()} | jobs


def _add_origins(plan: Plan, jobs: dict[str, Job]) -> None:
    """Add the runs that these are initialised from."""
    for job in [*jobs.values()]:
        while job.before is not None:
            job = plan.jobs[job.before]
            jobs[job.key] = job
