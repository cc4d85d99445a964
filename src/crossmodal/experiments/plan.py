"""Turns validated parameters and papers into jobs, one per (data set, split, model, variant, seed)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from crossmodal.core import paths, registry
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import sha256_json
from crossmodal.experiments.inputs import extractors_of, inputs_of, second_extractors_of
from crossmodal.experiments.papers import Paper, read_papers
from crossmodal.experiments.params import MOST_THREADS, Inputs, Params, Scale, extractors_in
from crossmodal.experiments.settings import Strict, read_yaml, validated
from crossmodal.experiments.stand_ins import StandIns, UnreadableError
from crossmodal.experiments.sweeps import Sweep, check_budgets, recorded
from crossmodal.experiments.sweeps import folder_of as sweep_folder
from crossmodal.experiments.tables import Experiment, Table
from crossmodal.modalities import Relevance
from crossmodal.tasks.base import CONTROLS, tasks_of


class Job(Strict):
    """One training run, resolved: all that its result depends on besides the data and the code."""

    dataset: str
    split: str
    model: str
    variant: str = ""
    seed: int
    inputs: dict[str, str]
    second_inputs: dict[str, str] = Field({}, validation_alias=AliasChoices("second_inputs", "beside"))
    """Modality to the extractor of its second form (`Model.second_form`)."""
    settings: dict[str, Any]
    folds: list[int] = Field([1])
    relevance: Relevance = "group"
    also: tuple[str, ...] = ()  # tasks that it is evaluated on besides those of its model
    captioned: bool = True  # whether the data set's texts are captions, and not arrays
    stages: tuple[int, ...] = ()  # sizes of the groups of classes of a subset `classesIofN`
    source: str | None = None  # the data set that knowledge is transferred from
    source_inputs: dict[str, str] = Field({})
    after: str | None = None  # the run that this one is initialised from, without its seed: DATASET/SPLIT/NAME
    origin: str | None = None  # a hash of all that the weights of `after` depend on, except the seed
    threads: int = Field(1, ge=1, le=MOST_THREADS)
    sweep: Sweep | None = None  # what is tried before; `settings` has the choice once it is made
    scale: Scale = "embedded"  # the scale at which it was planned; its effects are in the other fields
    papers: tuple[str, ...] = ()
    quick: bool = False

    @property
    def name(self) -> str:
        """The name of its folder: the model, such as `vsepp`, or `vsepp.batch24` for a variant."""
        return f"{self.model}.{self.variant}" if self.variant else self.model

    @property
    def key(self) -> str:
        return f"{self.dataset}/{self.split}/{self.name}/seed{self.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that the run's weights depend on: its settings, but not its papers or how it is tested."""
        fields = self.model_dump(exclude={"papers", "quick", "folds", "scale", "captioned", "also"})
        fields["beside"] = fields.pop("second_inputs")  # its former name, under which finished runs are known
        if self.sweep is None:
            del fields["sweep"]
        else:
            fields["sweep"] = self.sweep.identity
            fields["settings"] = {k: value for k, value in self.settings.items() if k not in self.sweep.values}
        return fields

    @property
    def digest(self) -> str:
        """The identity of the runs of all seeds."""
        return sha256_json({**self.identity, "seed": None})[:16]

    @property
    def candidates(self) -> dict[str, Job]:
        """{name: job} of what is tried before this run is trained; each has a variant of its own."""
        tried = {} if self.sweep is None else self.sweep.candidates
        return {
            name: self.model_copy(
                update={
                    "variant": "+".join(filter(None, (self.variant, name))),
                    "settings": self.settings | settings,
                    "sweep": None,
                }
            )
            for name, settings in tried.items()
        }

    @property
    def extractors(self) -> list[tuple[str, str]]:
        """(modality, extractor) of all features that it reads."""
        return [*self.inputs.items(), *self.second_inputs.items()]

    @property
    def control(self) -> bool:
        """Whether it is a control, whose answers are known beforehand, and not a run of a model."""
        return self.model in CONTROLS

    @property
    def modalities(self) -> list[str]:
        """The modalities that it reads, in the model's order; those of a control are given in its settings."""
        return self.settings.get("modalities", []) if self.control else [*registry.reads(self.model, self.settings)]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it is evaluated under."""
        return tuple(task.name for task in tasks_of(self.model, self.relevance, self.captioned, self.also))

    @property
    def ranked(self) -> bool:
        """Whether one of its tasks ranks items for queries, so that it has encodings, a gallery and cut-offs."""
        return any(task.ranked for task in tasks_of(self.model, self.relevance, self.captioned, self.also))

    @property
    def before(self) -> str | None:
        """The key of the run that this one is initialised from; None if there is none."""
        return self.after and f"{self.after}/seed{self.seed}"

    @property
    def hash(self) -> str:
        return sha256_json(self.identity)[:16]


def job_in(folder: Path) -> Job:
    """The job that was trained in a run's folder.

    Raises
    ------
    UserError : no run was trained there, or its `config.yaml` is damaged.
    """
    path = made_by_training(folder / "config.yaml")
    job = validated(Job, read_yaml(path), str(path))
    parts = [(key, getattr(job, key)) for key in ("dataset", "split", "model", "variant", "source")]
    inputs = [*job.inputs.items(), *job.second_inputs.items(), *job.source_inputs.items()]
    parts += [*inputs, *(("inputs", modality) for modality, _ in inputs)]
    for key, value in parts:  # each becomes part of a path, and the file may come from others
        paths.check_part(value or "none", f"{path}: {key}")
    return job


def made_by_training(path: Path) -> Path:
    """The path of a file of a run's folder after checking that it exists.

    Raises
    ------
    UserError : the file is missing.
    """
    if not path.exists():
        run = "/".join(path.parent.parts[-4:])
        raise UserError(
            f"{path}: not found; train the run first (crossmodal train {run}), or take one of "
            "those that are there (crossmodal list runs --done)"
        )
    return path


class Plan:
    """The validated parameters, the papers, and the jobs that follow from them."""

    def __init__(self, params: Params, papers: Mapping[str, Paper]):
        self.params = params
        self.papers = dict(papers)
        self.stand_ins = StandIns(params)

    @property
    def present(self) -> frozenset[str]:
        """The published data sets that play themselves, as in `StandIns.present`."""
        return self.stand_ins.present

    def dataset_of(self, published: str) -> str:
        """The data set that is used for a published one at this scale: itself, or its stand-in."""
        return self.stand_ins.dataset_of(published)

    def source_of(self, published: str, target: str = "") -> str:
        """The data set that is used for a published one as the source of a transfer, as in `StandIns.source_of`."""
        return self.stand_ins.source_of(published, target)

    def players(self) -> list[str]:
        """Who plays whom in the experiments, in sentences."""
        experiments = [one for paper in self.papers.values() for one in paper.experiments.values()]
        return self.stand_ins.sentences(dict.fromkeys(n for one in experiments for n in (one.dataset, one.source) if n))

    def extractors_of(self, dataset: str) -> list[tuple[str, str]]:
        """(modality, extractor) of all features of a data set that are read."""
        pairs = [(m, extractor) for m, named in self.inputs_of(dataset).items() for extractor in extractors_in(named)]
        of_jobs = [pair for job in self.jobs.values() if job.dataset == dataset for pair in job.extractors]
        return [*dict.fromkeys(pairs + of_jobs)]

    def inputs_of(self, dataset: str) -> Inputs:
        """{modality: extractor, or one per form} of the features of a data set that are read."""
        return inputs_of(self.params, dataset)

    @property
    def tables(self) -> dict[str, tuple[Paper, Table]]:
        """Every table of every paper, by the name `PAPER-TABLE`."""
        return {f"{paper.name}-{table.id}": (paper, table) for paper in self.papers.values() for table in paper.tables}

    def folds_of(self, table: Table) -> int:
        """The number of folds of a table's protocol at this scale; the test set of a stand-in is ranked whole."""
        return table.folds if self.dataset_of(table.dataset) == table.dataset else 1

    def job(self, experiment: Experiment, seed: int, paper: str = "", dataset: str = "") -> Job:
        """The job of an experiment, on `dataset` itself where one is given."""
        dataset = dataset or self.dataset_of(experiment.dataset)
        chosen = self.params.datasets[dataset]
        if experiment.model in CONTROLS:
            return self._control(experiment, seed, paper, dataset)
        settings = self.params.settings_on(dataset, experiment.model)
        settings |= experiment.published if dataset == experiment.dataset else experiment.stand_in
        settings |= experiment.settings
        source = experiment.source and self.source_of(experiment.source, experiment.dataset)
        sweep = Sweep(values=experiment.sweep, **self.params.sweeps.model_dump()) if experiment.sweep else None
        first = self.job(self.papers[paper].experiments[experiment.after], seed, paper) if experiment.after else None
        reads = registry.reads(experiment.model, settings)
        if sweep and any(registry.reads(experiment.model, settings | one) != reads for one in sweep.grid):
            raise UserError(
                f"papers/{paper}.yaml: sweep of {experiment.model}: its values change which inputs the model reads; "
                "make them experiments of their own"
            )
        job = Job(
            dataset=dataset,
            split=experiment.split,
            model=experiment.model,
            variant=experiment.variant,
            seed=seed,
            inputs=extractors_of(self.params, experiment.model, reads, dataset, experiment.encoder),
            second_inputs=second_extractors_of(self.params, experiment.model, dataset, experiment.encoder),
            settings=settings,
            folds=chosen.folds,
            relevance=chosen.relevance,
            captioned=chosen.captioned,
            also=experiment.also,
            stages=chosen.stages,
            source=source,
            source_inputs=extractors_of(self.params, experiment.model, registry.source_reads(experiment.model), source)
            if source
            else {},
            after=first and first.key.rpartition("/")[0],
            origin=first and first.digest,
            threads=self.params.threads.train,
            sweep=sweep,
            scale=self.params.scale,
            papers=(paper,) if paper else (),
            quick=experiment.quick and seed == self.params.seeds[0],
        )
        return self._chosen(job)

    def _chosen(self, job: Job) -> Job:
        """A job with the settings that its sweep has chosen, if that has been done."""
        record = job.sweep and recorded(sweep_folder(self.params.paths.results, job.key), job.digest, job.sweep)
        if not record:
            return job
        sweep = job.sweep.model_copy(update={"choice": record})
        return job.model_copy(update={"settings": job.settings | record["settings"], "sweep": sweep})

    def _control(self, experiment: Experiment, seed: int, paper: str, dataset: str) -> Job:
        """The job of a control on the items of a data set, which needs no inputs of models."""
        chosen = self.params.datasets[dataset]
        return Job(
            dataset=dataset,
            split=experiment.split,
            model=experiment.model,
            seed=seed,
            inputs={},
            settings={"modalities": list(self.inputs_of(dataset))} if chosen.relevance == "label" else {},
            folds=chosen.folds,
            relevance=chosen.relevance,
            captioned=chosen.captioned,
            stages=chosen.stages,
            threads=self.params.threads.train,
            scale=self.params.scale,
            papers=(paper,) if paper else (),
            quick=experiment.quick and seed == self.params.seeds[0],
        )

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """{key: job} of everything that params.yaml selects, controls included; one job where papers share a run.

        An experiment is left out where its model reads inputs that the data set lacks; the tables say why.

        Raises
        ------
        UserError : two experiments give one run different settings, or no experiment can be run.
        """
        jobs: dict[str, Job] = {}
        unreadable: UnreadableError | None = None
        for paper in self.papers.values():
            for name, experiment in paper.experiments.items():
                for seed in self.params.seeds:
                    try:
                        job = self.job(experiment, seed, paper.name)
                    except UnreadableError as error:
                        unreadable = error
                        break
                    other = jobs.get(job.key)
                    if other is not None and other.identity != job.identity:
                        raise UserError(
                            f"papers/{paper.name}.yaml: experiment {name!r} wants {job.key} with other settings than "
                            f"papers/{other.papers[0]}.yaml does; give one of them a `variant` of its own"
                        )
                    if other is not None:
                        papers = tuple(dict.fromkeys(other.papers + job.papers))
                        also = tuple(dict.fromkeys(other.also + job.also))
                        job = job.model_copy(update={"papers": papers, "quick": job.quick or other.quick, "also": also})
                    jobs[job.key] = job
        if unreadable is not None and not jobs:
            raise unreadable
        for dataset in {job.dataset: None for job in jobs.values()}:
            for control in CONTROLS:
                experiment = Experiment(model=control, dataset=dataset, quick=True)
                job = self.job(experiment, self.params.seeds[0], dataset=dataset)
                jobs.setdefault(job.key, job)
        return jobs

    def mapped(self, jobs: Mapping[str, Job]) -> list[Job]:
        """Those of `jobs` whose embeddings papers want drawn (`map: true`), of the first seed."""
        return self._marked(jobs, lambda experiment: experiment.map)

    def shown(self, jobs: Mapping[str, Job]) -> list[Job]:
        """Those of `jobs` whose answers papers want shown (`gallery: true`), of the first seed."""
        return self._marked(jobs, lambda experiment: experiment.gallery)

    def named(self, jobs: Mapping[str, Job]) -> list[Job]:
        """One of `jobs` per data set and share of annotated images, of those that read names in un-annotated images.

        A share has the same un-annotated images, however many captions an annotated image has.
        """
        first: dict[tuple[str, str], Job] = {}
        for job in jobs.values():
            if job.split != "full" and "semantics" in registry.unannotated(job.model):
                first.setdefault((job.dataset, job.split.partition("-")[0]), job)
        return list(first.values())

    def _marked(self, jobs: Mapping[str, Job], wanted: Callable[[Experiment], bool]) -> list[Job]:
        marked: dict[str, Job] = {}
        for name, paper in self.papers.items():
            for experiment in filter(wanted, paper.experiments.values()):
                with suppress(UnreadableError):
                    key = self.job(experiment, self.params.seeds[0], name).key
                    marked |= {key: jobs[key]} if key in jobs else {}
        return list(marked.values())

    def files_of(self, job: Job) -> list[str]:
        """The files of the data folder that a run or a control reads."""
        data = self.params.paths.data
        folder = f"{data}/{job.dataset}"
        files = [f"{folder}/items.parquet", f"{folder}/splits/{job.split}.parquet"]
        if job.control:
            return files
        read = [*registry.reads(job.model, job.settings).items(), *registry.second_forms(job.model).items()]
        files += _read_by_forms(folder, [*read, *registry.further(job.model).values()])
        files += [f"{folder}/features/{modality}.{name}.json" for modality, name in job.extractors]
        if job.source:
            folder = f"{data}/{job.source}"
            files += [f"{folder}/items.parquet", f"{folder}/splits/full.parquet"]
            files += _read_by_forms(folder, [*registry.source_reads(job.model).items()])
            files += [f"{folder}/features/{modality}.{name}.json" for modality, name in job.source_inputs.items()]
        return files

    @property
    def datasets(self) -> list[str]:
        """The data sets that runs are trained and tested on, or transfer knowledge from."""
        return datasets_of(self.jobs)


def datasets_of(jobs: Mapping[str, Job]) -> list[str]:
    """The data sets that these runs are trained and tested on, or transfer knowledge from."""
    return sorted({name for job in jobs.values() for name in (job.dataset, job.source) if name})


def _read_by_forms(folder: str, read: list[tuple[str, str]]) -> list[str]:
    """The files of a data set that (modality, form) pairs read besides items and features."""
    return [f"{folder}/{name}" for name in dict.fromkeys(n for m, f in read for n in registry.form(f, m)["files"])]


def plan(params: Params, folder: str | Path = "papers") -> Plan:
    """The plan with the jobs of the parameters and papers.

    Raises
    ------
    UserError : a paper, model or data set is unknown, or two experiments give one run different settings.
    """
    result = Plan(params, read_papers(params.papers, folder))
    for paper in result.papers.values():
        for key, experiment in paper.experiments.items():
            if result.dataset_of(experiment.dataset) not in params.datasets:
                raise UserError(
                    f"papers/{paper.name}.yaml: experiments.{key}.dataset: {experiment.dataset!r} is no "
                    f"data set of params.yaml" + suggestion(experiment.dataset, params.datasets)
                )
        check_budgets(paper.name, {key: one.sweep for key, one in paper.experiments.items()}, params.sweeps)
    return result
