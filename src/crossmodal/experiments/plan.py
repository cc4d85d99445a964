"""Turns validated parameters and papers into jobs, one per (data set, split, model, variant, seed)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from crossmodal.core import paths, registry
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import sha256_json
from crossmodal.experiments.papers import Paper, read_papers
from crossmodal.experiments.params import MOST_THREADS, PRECOMPUTED, Inputs, Params, Scale, extractors_in
from crossmodal.experiments.settings import Strict, read_yaml, validated
from crossmodal.experiments.stand_ins import StandIns, UnreadableError
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
        return fields

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
        return [(m, extractor) for m, named in self.inputs_of(dataset).items() for extractor in extractors_in(named)]

    def inputs_of(self, dataset: str) -> Inputs:
        """{modality: extractor, or one per form} of the features of a data set that are read."""
        chosen = self.params.datasets[dataset]
        if chosen.arrays is None:
            return {**self.params.inputs, **chosen.inputs}
        extractors = {
            m: PRECOMPUTED if is_array else self.params.inputs.get(m) for m, is_array in chosen.arrays.items()
        }
        return {**{m: extractor for m, extractor in extractors.items() if extractor}, **chosen.inputs}

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
        first = self.job(self.papers[paper].experiments[experiment.after], seed, paper) if experiment.after else None
        return Job(
            dataset=dataset,
            split=experiment.split,
            model=experiment.model,
            variant=experiment.variant,
            seed=seed,
            inputs=self._read(experiment.model, registry.reads(experiment.model, settings), dataset),
            second_inputs=self._second_inputs(experiment.model, dataset),
            settings=settings,
            folds=chosen.folds,
            relevance=chosen.relevance,
            captioned=chosen.captioned,
            also=experiment.also,
            stages=chosen.stages,
            source=source,
            source_inputs=self._read(experiment.model, registry.source_reads(experiment.model), source)
            if source
            else {},
            after=first and first.key.rpartition("/")[0],
            origin=first and sha256_json({**first.identity, "seed": None})[:16],
            threads=self.params.threads.train,
            scale=self.params.scale,
            papers=(paper,) if paper else (),
            quick=experiment.quick and seed == self.params.seeds[0],
        )

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

    def _read(self, model: str, reads: Mapping[str, str], dataset: str) -> dict[str, str]:
        """{modality: extractor} of the modalities that a model reads: a run depends on no others."""
        inputs = self.inputs_of(dataset)
        arrays = self.params.datasets[dataset].arrays or {}
        for modality, form in reads.items():
            declared = registry.form(form, modality)
            if declared["array"] is None and declared["files"] and arrays.get(modality):
                raise UnreadableError(
                    f"params.yaml: datasets.{dataset}: model {model!r} reads {modality} as words, of which there are "
                    f"none, only arrays; give `captions`, or choose papers whose models read vectors"
                )
        extractors = {}
        for modality, form in reads.items():
            array = registry.form(form, modality)["array"]
            if array is None:
                continue
            named = inputs.get(modality, {})
            extractor = named if isinstance(named, str) else named.get(array)
            if extractor is None:
                raise UnreadableError(
                    f"params.yaml: datasets.{dataset}.inputs: model {model!r} reads {modality} features in the form "
                    f"{form!r}, but no extractor is named for them, nor in `inputs` for all data sets"
                )
            extractors[modality] = extractor
        return extractors

    def _second_inputs(self, model: str, dataset: str) -> dict[str, str]:
        """{modality: extractor} of the modalities that a model also reads in a second form."""
        extractors = {}
        for modality, form in registry.second_forms(model).items():
            named = self.inputs_of(dataset).get(modality)
            array = registry.form(form, modality)["array"]  # concepts are made of regions
            if not isinstance(named, Mapping) or array not in named:
                raise UnreadableError(
                    f"params.yaml: datasets.{dataset}.inputs: model {model!r} reads {modality} in the form {form!r} "
                    f"besides, but no extractor is named for it; give {modality} as {{vector: ..., {array}: ...}}"
                )
            extractors[modality] = named[array]
        return extractors

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
        return sorted({name for job in self.jobs.values() for name in (job.dataset, job.source) if name})


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
    return result


def settings_of(job: Job, settings: type[BaseModel]) -> Any:
    """A job's settings, validated by the model's class `Settings`.

    Raises
    ------
    UserError : the model does not accept the settings, or at `scale: full` they would put random numbers in place of
        published data (`Settings.unasked`).
    """
    validated_settings = validated(settings, job.settings, f"model {job.name}")
    if job.scale == "full" and validated_settings.unasked:
        keys = [f"models.{job.model}.{name}" for name in validated_settings.unasked]
        raise UserError(
            f"params.yaml: {', '.join(keys)}: not set, so that random vectors would be used "
            f"({'; '.join(validated_settings.fallbacks)}); name a file there, or set it to `seeded` if you want them"
        )
    return validated_settings


def check_datasets(plan: Plan) -> None:
    """Check the settings of each used data set by its reader's module.

    Raises
    ------
    UserError : a setting is unknown or has an impossible value.
    """
    for name in plan.datasets:
        dataset = plan.params.datasets[name]
        reader = registry.module("datasets", dataset.reader)
        validated(reader.Settings, dataset.settings, f"params.yaml: datasets.{name}")


def check_settings(plan: Plan) -> list[str]:
    """Check the settings of each used data set, extractor and model by its own module.

    This imports the modules, and torch with them, so that building the DAG calls it only after a change.

    Returns
    -------
    One sentence per fallback that the planned runs use.
    """
    fallbacks: dict[str, None] = {}
    used_extractors = {name for dataset in plan.datasets for _, name in plan.extractors_of(dataset)}
    check_datasets(plan)
    for name in used_extractors:
        extractor = plan.params.extractors[name]
        module = registry.module("features", extractor.extractor)
        validated(module.Settings, extractor.settings, f"params.yaml: extractors.{name}")
    # Runs of one name may have other settings on another data set.
    distinct = {(job.name, sha256_json(job.settings)): job for job in plan.jobs.values() if not job.control}
    for job in distinct.values():
        settings = settings_of(job, registry.module("models", job.model).Settings)
        fallbacks |= {f"{job.model}: {what}": None for what in settings.fallbacks}
    read = {name for job in plan.jobs.values() for _, name in (*job.extractors, *job.source_inputs.items())}
    for name in sorted(read):
        for key, value in plan.params.extractors[name].settings.items():
            if value == "seeded":
                fallbacks[f"extractor {name}: {key}: seeded random numbers, which are not trained"] = None
    return [*fallbacks]
