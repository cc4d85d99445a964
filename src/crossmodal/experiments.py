"""params.yaml and papers/*.yaml to validated jobs: the only reader of either, and free of heavy imports.

`load` merges the parameters with their overlays and checks them; `plan` turns them and the papers into jobs, one a
(data set, split, model, variant, seed). What a data set, extractor or model takes beyond the keys here is checked by
its own module's `Settings`, in `check_settings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from crossmodal import registry
from crossmodal.errors import UserError, suggestion
from crossmodal.files import sha256_json

SPLIT = r"full|[1-9]\d?pct-[1-5]cap"
NAME = r"[a-z0-9][a-z0-9_]*"
VARIANT = r"[a-z0-9][a-z0-9_+-]*"
DIRECTIONS = ("image-to-text", "text-to-image")
CONTROLS = ("chance", "oracle")
PRECOMPUTED = "precomputed"  # the reader of features made elsewhere, and the extractor that gathers them

Scale = Literal["embedded", "full"]
Inputs = dict[str, str | dict[Literal["vector", "regions"], str]]


class Strict(BaseModel):
    """A block of settings in which a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Open(BaseModel):
    """A block whose further keys belong to a module of its own (`reader`, `extractor`) and are checked there."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Dataset(Open):
    reader: str = Field(
        validation_alias=AliasChoices("reader", "kind"),
        description="module of crossmodal.datasets that reads (or draws) the raw files; `kind` means the same",
    )
    title: str = Field(description="name in tables and captions")
    folds: list[int] = Field([1], description="test protocols: 1 is the whole test set, 5 the mean over five folds")
    inputs: Inputs = Field({}, description="modality to extractor, over those of the scale")

    @model_validator(mode="after")
    def _one_name(self) -> Dataset:
        if "kind" in self.settings:
            raise ValueError(
                f"gives both reader: {self.reader} and kind: {self.settings['kind']}; they are one key (a block of an "
                f"overlay is merged with that of params.yaml: give it a name of its own)"
            )
        return self

    @property
    def arrays(self) -> dict[str, bool] | None:
        """Of features made elsewhere: modality to whether it is arrays (else captions). None for raw media."""
        modalities = self.settings.get("modalities")
        if self.reader != PRECOMPUTED or not isinstance(modalities, Mapping):
            return None
        parts = {m: [p] if isinstance(p, Mapping) else p if isinstance(p, list) else [] for m, p in modalities.items()}
        return {m: not any(isinstance(p, Mapping) and p.get("captions") for p in all_) for m, all_ in parts.items()}


class Extractor(Open):
    extractor: str = Field(description="module of crossmodal.features that makes the array")
    modality: Literal["image", "text", "audio", "video", "mesh"] = "image"


class ScaleSettings(Strict):
    stand_in: str | None = Field(None, description="data set that plays the part of every published one")
    inputs: Inputs = Field(
        description="modality to the extractor whose features the models read; or `vector` and `regions` to one each"
    )
    models: dict[str, dict[str, Any]] = Field({}, description="settings of a model at this scale, over its defaults")


class Paths(Strict):
    data: str = "data"
    results: str = "results"


class Threads(Strict):
    features: int = Field(64, ge=1, description="extraction takes as many cores as there are, up to this")
    train: int = Field(1, ge=1, description="torch threads of one training run; a fixed number, so results are too")


class Evaluation(Strict):
    shards: int = Field(1, ge=1, description="jobs over which the ranking of a run's test items is spread; 1: no such")


class Tracking(Strict):
    enabled: bool = True
    uri: str = "sqlite:///mlflow.db"


class Splits(Strict):
    seed: int = 0


class Params(Strict):
    scale: Scale = "embedded"
    papers: list[str]
    seeds: list[int] = Field(min_length=1)
    paths: Paths = Paths()
    threads: Threads = Threads()
    splits: Splits = Splits()
    tracking: Tracking = Tracking()
    evaluation: Evaluation = Evaluation()
    datasets: dict[str, Dataset]
    extractors: dict[str, Extractor]
    scales: dict[Scale, ScaleSettings]

    @field_validator("datasets", "extractors")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name!r}: a name is made of small letters, digits and '_' (it becomes a folder)")
        return value

    @field_validator("extractors")
    @classmethod
    def _gathering(cls, value: dict[str, Extractor]) -> dict[str, Extractor]:
        """Features made elsewhere are gathered without a block that says so."""
        return {**value, PRECOMPUTED: value.get(PRECOMPUTED) or Extractor(extractor=PRECOMPUTED)}

    @model_validator(mode="after")
    def _references(self) -> Params:
        for name, dataset in self.datasets.items():
            if dataset.reader not in registry.names("datasets"):
                raise ValueError(
                    f"datasets.{name}.reader: {dataset.reader!r} is unknown"
                    + suggestion(dataset.reader, registry.names("datasets"))
                )
        for name, extractor in self.extractors.items():
            if extractor.extractor not in registry.names("features"):
                raise ValueError(
                    f"extractors.{name}.extractor: {extractor.extractor!r} is unknown"
                    + suggestion(extractor.extractor, registry.names("features"))
                )
        inputs = {f"datasets.{name}.inputs": dataset.inputs for name, dataset in self.datasets.items()}
        inputs |= {f"scales.{name}.inputs": chosen.inputs for name, chosen in self.scales.items()}
        for place, chosen in inputs.items():
            for modality, named in chosen.items():
                for extractor in _each(named):
                    if extractor not in self.extractors:
                        raise ValueError(
                            f"{place}.{modality}: {extractor!r} is no extractor of `extractors`"
                            + suggestion(extractor, self.extractors)
                        )
        if self.scale not in self.scales:
            raise ValueError(f"scales: {self.scale!r} is chosen by `scale` but has no block")
        for scale, chosen in self.scales.items():
            if chosen.stand_in is not None and chosen.stand_in not in self.datasets:
                raise ValueError(
                    f"scales.{scale}.stand_in: {chosen.stand_in!r} is no data set of `datasets`"
                    + suggestion(chosen.stand_in, self.datasets)
                )
            for model in chosen.models:
                if model not in registry.names("models"):
                    raise ValueError(
                        f"scales.{scale}.models: model {model!r} is unknown"
                        + suggestion(model, registry.names("models"))
                    )
        return self


def _each(named: str | dict[str, str]) -> list[str]:
    """The extractors that a modality of `inputs` names."""
    return [named] if isinstance(named, str) else list(named.values())


class Experiment(Strict):
    """One thing a paper trains; with the seeds of params.yaml it becomes jobs."""

    model: str
    dataset: str
    split: str = Field("full", pattern=f"^({SPLIT})$")
    variant: str = Field("", pattern=f"^({VARIANT})?$")
    settings: dict[str, Any] = Field({}, description="settings at every scale")
    full: dict[str, Any] = Field({}, description="settings at scale full only")
    quick: bool = False


class Column(Strict):
    direction: str
    metric: str
    system: str | None = Field(None, description="a system's name where columns, not rows, tell systems apart")


class Row(Strict):
    label: str
    group: str | None = None
    source: str | None = Field(None, description="where the paper has the number from, if not its own")
    dataset: str | None = None
    split: str | None = None
    extra: dict[str, Any] = {}
    published: list[float | None]
    experiment: str | dict[str, str] | None = Field(None, description="an experiment, or one for each system")
    note: str | None = None


class Table(Strict):
    id: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    source: str = Field(description="document and table that the numbers stand in")
    dataset: str
    split: str = "full"
    protocol: str = Field(description="what the published numbers were measured on, in words")
    folds: int = Field(1, description="folds of the test set whose mean the paper reports")
    baseline: str | None = Field(None, description="label of the row that others are tested against; else the best")
    columns: list[Column]
    rows: list[Row]
    note: str | None = None

    @model_validator(mode="after")
    def _widths(self) -> Table:
        if self.baseline is not None and self.baseline not in [row.label for row in self.rows]:
            raise ValueError(
                f"table {self.id}: baseline: no row {self.baseline!r}"
                + suggestion(self.baseline, [row.label for row in self.rows])
            )
        for row in self.rows:
            if len(row.published) != len(self.columns):
                raise ValueError(
                    f"table {self.id}, row {row.label!r}: {len(row.published)} published numbers for "
                    f"{len(self.columns)} columns (use null for a missing one)"
                )
        return self


class Paper(Strict):
    name: str = ""
    title: str
    authors: str
    venue: str
    year: int
    doi: str
    experiments: dict[str, Experiment] = {}
    tables: list[Table]

    @model_validator(mode="after")
    def _experiments(self) -> Paper:
        for table in self.tables:
            for row in table.rows:
                for name in named_experiments(row):
                    if name not in self.experiments:
                        raise ValueError(
                            f"table {table.id}, row {row.label!r}: no experiment {name!r}"
                            + suggestion(name, self.experiments)
                        )
        return self


def named_experiments(row: Row) -> list[str]:
    """The experiments that fill a row: none, one, or one for each system of the columns."""
    if row.experiment is None:
        return []
    return [row.experiment] if isinstance(row.experiment, str) else list(row.experiment.values())


class Job(Strict):
    """One training run, resolved: all that its result depends on besides the data and the code."""

    dataset: str
    split: str
    model: str
    variant: str = ""
    seed: int
    inputs: dict[str, str]
    settings: dict[str, Any]
    folds: list[int] = [1]
    threads: int = 1
    papers: tuple[str, ...] = ()
    quick: bool = False

    @property
    def name(self) -> str:
        """The model's folder: `vsepp`, or `vsepp.batch24` for a variant."""
        return f"{self.model}.{self.variant}" if self.variant else self.model

    @property
    def key(self) -> str:
        return f"{self.dataset}/{self.split}/{self.name}/seed{self.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """What the run's weights depend on: settings, not the papers that asked for it or how it is tested."""
        return self.model_dump(exclude={"papers", "quick", "folds"})

    @property
    def hash(self) -> str:
        return sha256_json(self.identity)[:16]


class Plan:
    """The validated parameters, the papers and the jobs they ask for."""

    def __init__(self, params: Params, papers: Mapping[str, Paper]):
        self.params = params
        self.papers = dict(papers)
        self.scale = params.scales[params.scale]

    def dataset_of(self, published: str) -> str:
        """The data set that plays a published one at this scale: itself, or the stand-in."""
        return self.scale.stand_in or published

    def extractors_of(self, dataset: str) -> list[tuple[str, str]]:
        """Each (modality, extractor) whose features of a data set are read at this scale."""
        return [(m, extractor) for m, named in self.inputs_of(dataset).items() for extractor in _each(named)]

    def inputs_of(self, dataset: str) -> Inputs:
        """Modality to the extractor, or to one for each form, whose features of a data set are read at this scale."""
        chosen = self.params.datasets[dataset]
        if chosen.arrays is None:
            return {**self.scale.inputs, **chosen.inputs}
        found = {m: PRECOMPUTED if is_array else self.scale.inputs.get(m) for m, is_array in chosen.arrays.items()}
        return {**{m: extractor for m, extractor in found.items() if extractor}, **chosen.inputs}

    def folds_of(self, table: Table) -> int:
        """Folds of a table's protocol at this scale; a stand-in's test set is ranked whole."""
        return 1 if self.scale.stand_in else table.folds

    def job(self, experiment: Experiment, seed: int, paper: str = "") -> Job:
        dataset = self.dataset_of(experiment.dataset)
        settings = {**self.scale.models.get(experiment.model, {})}
        if self.params.scale == "full":
            settings |= experiment.full
        settings |= experiment.settings
        return Job(
            dataset=dataset,
            split=experiment.split,
            model=experiment.model,
            variant=experiment.variant,
            seed=seed,
            inputs=self._read(experiment.model, dataset),
            settings=settings,
            folds=self.params.datasets[dataset].folds,
            threads=self.params.threads.train,
            papers=(paper,) if paper else (),
            quick=experiment.quick and seed == self.params.seeds[0],
        )

    def _read(self, model: str, dataset: str) -> dict[str, str]:
        """The extractors of the modalities that a model reads: a run depends on no others."""
        inputs = self.inputs_of(dataset)
        arrays = self.params.datasets[dataset].arrays or {}
        for modality, form in registry.reads(model).items():
            if form == "tokens" and arrays.get(modality):
                raise UserError(
                    f"params.yaml: datasets.{dataset}: model {model!r} reads {modality} as words, of which there are "
                    f"none, only arrays; give `captions`, or choose papers whose models read vectors"
                )
        found = {}
        for modality, form in registry.reads(model).items():
            if form == "tokens":
                continue
            named = inputs.get(modality, {})
            extractor = named if isinstance(named, str) else named.get(form)
            if extractor is None:
                raise UserError(
                    f"params.yaml: scales.{self.params.scale}.inputs: model {model!r} reads {modality} features of "
                    f"{dataset!r} in the form {form!r}, but no extractor is named for them"
                )
            found[modality] = extractor
        return found

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """{key: job} of everything that params.yaml selects, controls included; one job where papers share a run."""
        jobs: dict[str, Job] = {}
        for paper in self.papers.values():
            for name, experiment in paper.experiments.items():
                for seed in self.params.seeds:
                    job = self.job(experiment, seed, paper.name)
                    other = jobs.get(job.key)
                    if other is not None and other.identity != job.identity:
                        raise UserError(
                            f"papers/{paper.name}.yaml: experiment {name!r} wants {job.key} with other settings than "
                            f"papers/{other.papers[0]}.yaml does; give one of them a `variant` of its own"
                        )
                    if other is not None:
                        papers = tuple(dict.fromkeys(other.papers + job.papers))
                        job = job.model_copy(update={"papers": papers, "quick": job.quick or other.quick})
                    jobs[job.key] = job
        for dataset in {job.dataset: None for job in jobs.values()}:
            for control in CONTROLS:
                job = self.job(Experiment(model=control, dataset=dataset, quick=True), self.params.seeds[0]).model_copy(
                    update={"dataset": dataset}
                )
                jobs.setdefault(job.key, job)
        return jobs

    @property
    def datasets(self) -> list[str]:
        return sorted({job.dataset for job in self.jobs.values()})


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`; blocks are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


class _UniqueKeys(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    """YAML in which a key given twice is an error: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        value = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(value).__name__}")
    return value


def validated(model: type[BaseModel], value: Any, where: str) -> Any:
    """`value` as `model`, or one clear error naming the key, with a suggestion for a misspelt one."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError("\n".join(_explain(model, item, where) for item in error.errors())) from None


def _explain(model: type[BaseModel], item: Mapping[str, Any], where: str) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        owner = _block(model, item["loc"][:-1])
        known = owner.model_fields if owner is not None else ()
        return f"{where}: {place}: unknown key{suggestion(str(item['loc'][-1]), known)}"
    if item["type"] == "value_error":
        return f"{where}: {place + ': ' if place else ''}{item['ctx']['error']}"
    if item["type"] == "missing":
        return f"{where}: {place}: is missing"
    return f"{where}: {place}: {item['msg']}; found {item['input']!r}"


def _block(model: type[BaseModel], path: Iterable[Any]) -> type[BaseModel] | None:
    """The class of the block at `path` below `model`, looked up through lists and dicts of blocks."""
    current: Any = model
    for part in path:
        if not _is_block(current):
            current = next((one for one in getattr(current, "__args__", ()) if _holds_block(one)), None)
        elif part in current.model_fields:
            current = current.model_fields[part].annotation
        else:
            return None
    while current is not None and not _is_block(current):
        current = next((one for one in getattr(current, "__args__", ()) if _holds_block(one)), None)
    return current


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _holds_block(annotation: Any) -> bool:
    return _is_block(annotation) or any(_holds_block(one) for one in getattr(annotation, "__args__", ()))


def load(path: str | Path = "params.yaml", overlays: Iterable[str | Path] = ()) -> Params:
    """The validated parameters of a file and its overlays (later ones win)."""
    value = read_yaml(path)
    for overlay in overlays:
        value = merge(value, read_yaml(overlay))
    return from_config(value, str(path))


def from_config(config: Mapping[str, Any], where: str = "params.yaml") -> Params:
    """Parameters that are in memory already (Snakemake's merged `config`).

    A top-level key that is no parameter and holds a string is a place to be filled in: `photographs: raw/mine` stands
    wherever a value says `{photographs}`, so that an overlay can leave a path to the command line.
    """
    places = {k: v for k, v in config.items() if k not in Params.model_fields and isinstance(v, str)}
    used: set[str] = set()

    def filled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        if isinstance(value, str):
            for name, text in places.items():
                if f"{{{name}}}" in value:
                    used.add(name)
                    value = value.replace(f"{{{name}}}", text)
        return value

    value = {key: filled(one) for key, one in config.items() if key not in places}
    # One that nothing refers to is a misspelt parameter, and is told as such.
    return validated(Params, {**value, **{k: v for k, v in places.items() if k not in used}}, where)


def read_papers(names: Iterable[str], folder: str | Path = "papers") -> dict[str, Paper]:
    folder = Path(folder)
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    papers = {}
    for name in names:
        if name not in known:
            raise UserError(f"params.yaml: papers: no {folder / name}.yaml{suggestion(name, known)}")
        path = folder / f"{name}.yaml"
        paper = validated(Paper, {**read_yaml(path), "name": name}, str(path))
        for key, experiment in paper.experiments.items():
            if experiment.model not in registry.names("models"):
                raise UserError(
                    f"{path}: experiments.{key}.model: model {experiment.model!r} is unknown"
                    + suggestion(experiment.model, registry.names("models"))
                )
        papers[name] = paper
    return papers


def plan(params: Params, folder: str | Path = "papers") -> Plan:
    """Jobs of the parameters and papers.

    Raises
    ------
    UserError : an unknown paper, model or data set, or two experiments that want one run with different settings.
    """
    made = Plan(params, read_papers(params.papers, folder))
    for paper in made.papers.values():
        for key, experiment in paper.experiments.items():
            if made.dataset_of(experiment.dataset) not in params.datasets:
                raise UserError(
                    f"papers/{paper.name}.yaml: experiments.{key}.dataset: {experiment.dataset!r} is no "
                    f"data set of params.yaml" + suggestion(experiment.dataset, params.datasets)
                )
    return made


def check_settings(made: Plan) -> None:
    """Check what only a module knows: the settings of each data set, extractor and model that is used.

    Imports those modules (torch with them), which the DAG's building calls only when something has changed.
    """
    used_extractors = {name for dataset in made.datasets for _, name in made.extractors_of(dataset)}
    for name in made.datasets:
        dataset = made.params.datasets[name]
        reader = registry.module("datasets", dataset.reader)
        validated(reader.Settings, dataset.settings, f"params.yaml: datasets.{name}")
    for name in used_extractors:
        extractor = made.params.extractors[name]
        module = registry.module("features", extractor.extractor)
        validated(module.Settings, extractor.settings, f"params.yaml: extractors.{name}")
    for key, job in {(job.model, job.variant): job for job in made.jobs.values()}.items():
        validated(registry.module("models", job.model).Settings, job.settings, f"model {'.'.join(filter(None, key))}")
