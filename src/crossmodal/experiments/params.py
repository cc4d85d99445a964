"""params.yaml as pydantic models: the only definition of its keys and their meaning.

Further settings of a data set, extractor or model are checked by the class `Settings` of its own module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import AliasChoices, Field, PositiveInt, field_validator, model_validator

from crossmodal.core import isolation, limits, paths, registry
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.limits import Limits
from crossmodal.experiments.settings import Open, Strict, merge, read_yaml, validated
from crossmodal.experiments.sweeps import Budget
from crossmodal.modalities import Modality, Relevance

NAME = r"[a-z0-9][a-z0-9_]*"
PLACE = re.compile(r"\{([^{}]*)\}")  # a placeholder, which a value of the same name fills
MOST_SEEDS = 200
MOST_THREADS = 1024  # more than any machine has cores
LARGEST_SEED = 2**32 - 1  # both NumPy and torch accept it
PRECOMPUTED = "precomputed"  # the reader of features extracted elsewhere, and the extractor that collects them

Scale = Literal["embedded", "full"]
StrPath = str | PathLike[str]
Inputs = dict[str, str | dict[str, str]]  # modality to an extractor, or one per form
Models = dict[str, dict[str, Any]]


class Dataset(Open):
    reader: str = Field(
        validation_alias=AliasChoices("reader", "kind"),
        description="module of crossmodal.datasets that reads (or draws) the raw files; `kind` is a synonym of this "
        "key",
    )
    title: str = Field(description="name of the data set in tables and captions")
    folds: list[int] = Field(
        [1], description="test protocols: 1 for the whole test set, 5 for the mean over five folds"
    )
    inputs: Inputs = Field({}, description="modality to extractor, which replaces the `inputs` of all data sets")
    encoders: dict[str, Inputs] | None = Field(
        None, description="its features of encoders, which replace all `encoders`; those that are not named it lacks"
    )
    models: Models = Field(
        {}, description="settings of a model for this data set, which replace the `models` of all data sets"
    )
    like: str | None = Field(
        None,
        description="another data set whose `models`, and those of the set that it is like itself, are used where this "
        "one does not set them",
    )
    relevance: Relevance = Field(
        "group",
        description="which items are relevant to each other: those of the same `group` (an image and its "
        "captions) or of the same `label`",
    )
    stages: tuple[PositiveInt, ...] = Field(
        (),
        description="sizes of the groups of classes in the subsets `classesIofN` for this N; by default groups "
        "have equal size",
    )
    size: dict[Literal["train", "val", "test"], PositiveInt] = Field(
        {},
        description="number of images in each partition, from which a rehearsal estimates hours before the files exist",
    )
    home: str | None = Field(None, description="address where its files can be obtained")
    stand_in: str | None = Field(
        None, description="data set that stands in for it at every scale, instead of the stand-in of the scale"
    )

    @model_validator(mode="after")
    def _one_name(self) -> Dataset:
        if "kind" in self.settings:
            raise ValueError(
                f"gives both reader: {self.reader} and kind: {self.settings['kind']}; these are the same key (a block "
                "of an overlay is merged with that of params.yaml: give it a name of its own)"
            )
        return self

    @property
    def arrays(self) -> dict[str, bool] | None:
        """{modality: whether it has arrays (else captions)} for features extracted elsewhere; None for raw media."""
        modalities = self.settings.get("modalities")
        if self.reader != PRECOMPUTED or not isinstance(modalities, Mapping):
            return None
        parts = {m: [p] if isinstance(p, Mapping) else p if isinstance(p, list) else [] for m, p in modalities.items()}
        return {m: not any(isinstance(p, Mapping) and p.get("captions") for p in all_) for m, all_ in parts.items()}

    @property
    def captioned(self) -> bool:
        """Whether its texts are captions; data sets of raw media are taken to have them."""
        return self.arrays is None or not self.arrays.get("text", True)


class Extractor(Open):
    extractor: str = Field(description="module of crossmodal.features that computes the array")
    modality: Modality = "image"


class ScaleSettings(Strict):
    """The data sets used for published ones at a scale; a run's settings depend on the data set it is trained on."""

    stand_ins: dict[str, str] = Field({}, description="published data set to the data set that stands in for it")
    prefer_raw: bool = Field(
        True, description="whether a data set whose raw files are there plays itself, whatever `stand_ins` names for it"
    )
    source_stand_ins: dict[str, str] = Field(
        {},
        description="published data set to the data set that stands in for it as the source of transfer; by default "
        "its usual stand-in",
    )


class Paths(Strict):
    data: str = "data"
    results: str = "results"

    _plain = field_validator("data", "results")(paths.folder)


class Threads(Strict):
    features: int = Field(
        64,
        ge=1,
        description="most cores of one extraction or drawing; in the workflow, features of drawn data take one each",
    )
    train: int = Field(
        1,
        ge=1,
        le=MOST_THREADS,
        description="torch threads per training run; the number is fixed, so that results do not depend on the machine",
    )


class Evaluation(Strict):
    shards: int = Field(
        1,
        ge=1,
        description="number of jobs over which the ranking of a run's test items is spread; 1: a single process",
    )


class Tracking(Strict):
    enabled: bool = True
    uri: str = Field("sqlite:///mlflow.db", description="MLflow store of the runs, unless MLFLOW_TRACKING_URI is set")
    models: Literal["all", "first", "none"] = Field(
        "all", description="which runs are tracked with their embedder: all, those of the first seed, or none"
    )

    @property
    def address(self) -> str:
        """The store's address, from the environment, as MLflow's users expect, or else from params.yaml."""
        return os.environ.get("MLFLOW_TRACKING_URI") or self.uri


class Splits(Strict):
    seed: int = 0


class Params(Strict):
    scale: Scale = "embedded"
    papers: list[str]
    seeds: list[int] = Field(min_length=1, max_length=MOST_SEEDS)
    paths: Paths = Paths()
    threads: Threads = Threads()
    splits: Splits = Splits()
    sweeps: Budget = Budget()
    tracking: Tracking = Tracking()
    evaluation: Evaluation = Evaluation()
    limits: Limits = Limits()
    datasets: dict[str, Dataset]
    extractors: dict[str, Extractor]
    inputs: Inputs = Field(
        {},
        description="modality to the extractor of its features; or a mapping of forms of input (`vector`, `regions`, "
        "`pixels`, `images`, or those of other packages) to one extractor each",
    )
    encoders: dict[str, Inputs] = Field(
        {},
        description="name to features as in `inputs`, which experiments with `encoder: NAME` read in place of those",
    )
    models: Models = Field({}, description="settings of a model, which replace its defaults")
    scales: dict[Scale, ScaleSettings] = Field({}, description="which data set stands in for which published one")

    @field_validator("seeds", mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        if isinstance(value, list) and (odd := [entry for entry in value if isinstance(entry, bool)]):
            raise ValueError(f"{str(odd[0]).lower()} is no number; expected whole numbers such as [0, 1, 2]")
        return value

    @field_validator("seeds")
    @classmethod
    def _of_generators(cls, value: list[int]) -> list[int]:
        for place, seed in enumerate(value):
            if not 0 <= seed <= LARGEST_SEED:
                raise ValueError(f"{seed}: a seed is a whole number from 0 to {LARGEST_SEED}")
            if seed in value[:place]:
                raise ValueError(f"{seed} occurs twice; each seed is one run: name it once")
        return value

    @field_validator("datasets", "extractors")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(NAME, name):
                raise ValueError(
                    f"{name!r}: a name consists of lower-case letters, digits and '_' (it becomes a folder)"
                )
        return value

    @field_validator("extractors")
    @classmethod
    def _gathering(cls, value: dict[str, Extractor]) -> dict[str, Extractor]:
        """Add the extractor of precomputed features, which needs no block of its own."""
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
        inputs = {"inputs": self.inputs}
        inputs |= {f"datasets.{name}.inputs": dataset.inputs for name, dataset in self.datasets.items()}
        inputs |= {f"encoders.{name}": chosen for name, chosen in self.encoders.items()}
        for name, dataset in self.datasets.items():
            inputs |= {f"datasets.{name}.encoders.{key}": chosen for key, chosen in (dataset.encoders or {}).items()}
        for place, chosen in inputs.items():
            for modality, named in chosen.items():
                forms = {} if isinstance(named, str) else named
                for form in forms:
                    _check_form(form, modality, f"{place}.{modality}")
                for extractor in extractors_in(named):
                    if extractor not in self.extractors:
                        raise ValueError(
                            f"{place}.{modality}: {extractor!r} is no extractor of `extractors`"
                            + suggestion(extractor, self.extractors)
                        )
        named = {
            f"datasets.{name}.{key}": getattr(dataset, key)
            for name, dataset in self.datasets.items()
            for key in ("stand_in", "like")
        }
        for name, chosen in self.scales.items():
            for key in ("stand_ins", "source_stand_ins"):
                named |= {f"scales.{name}.{key}.{played}": by for played, by in getattr(chosen, key).items()}
        for place, dataset in named.items():
            if dataset is not None and dataset not in self.datasets:
                raise ValueError(
                    f"{place}: {dataset!r} is no data set of `datasets`" + suggestion(dataset, self.datasets)
                )
        for name in self.datasets:
            others = self._alike(name)
            if others[-1] in others[:-1]:
                raise ValueError(f"datasets.{name}.like: {' is like '.join(others)}, in a circle; take one of them out")
        models = {"models": self.models}
        models |= {f"datasets.{name}.models": dataset.models for name, dataset in self.datasets.items()}
        for place, blocks in models.items():
            for model in blocks:
                if model not in registry.names("models"):
                    raise ValueError(
                        f"{place}: model {model!r} is unknown" + suggestion(model, registry.names("models"))
                    )
        return self

    def players(self, scales: Iterable[Scale] = get_args(Scale)) -> set[str]:
        """The data sets that are used for published ones at these scales."""
        names = {dataset.stand_in for dataset in self.datasets.values()}
        names |= {by for scale in scales for by in self.at(scale).stand_ins.values()}
        return names - {None}

    def at(self, scale: Scale) -> ScaleSettings:
        """The settings of a scale: which data sets are used for published ones."""
        return self.scales.get(scale, ScaleSettings())

    def settings_on(self, dataset: str, model: str) -> dict[str, Any]:
        """A model's settings on a data set: general ones, those of the sets it is `like`, its own; later ones win."""
        blocks = [self.models, *(self.datasets[name].models for name in reversed(self._alike(dataset)))]
        return {key: value for block in blocks for key, value in block.get(model, {}).items()}

    def _alike(self, dataset: str) -> list[str]:
        """A data set, the one that it is `like`, and so on; the last one stands twice if they go in a circle."""
        names = [dataset]
        while (other := self.datasets[names[-1]].like) and len({*names}) == len(names):
            names.append(other)
        return names


def _check_form(form: str, modality: str, place: str) -> None:
    """Raise an error for a form of input that no extractor makes."""
    extracted = [name for name in registry.names("forms") if registry.form(name, modality)["array"] == name]
    if form not in extracted:
        raise ValueError(f"{place}: {form!r} is no form of input that is extracted" + suggestion(form, extracted))


def extractors_in(named: str | dict[str, str]) -> list[str]:
    """The extractors that a modality of `inputs` names."""
    return [named] if isinstance(named, str) else list(named.values())


def load(
    path: str | Path = "params.yaml", overlays: Iterable[str | Path] = (), config: Mapping[str, Any] | None = None
) -> Params:
    """The validated parameters of a file, its overlays and single values, merged as Snakemake merges them.

    Parameters
    ----------
    overlays : further files, of which later ones win, as those of `snakemake --configfile`.
    config : values that win over all files, as those of `snakemake --config`; `config_of` reads them from words.

    Raises
    ------
    UserError : a file cannot be read, is an overlay that names nothing below it, or a parameter is invalid.
    """
    files = [path, *overlays]
    value: dict[str, Any] = {}
    for file in files:
        value = merge(value, read_yaml(file))
    if not overlays and "extractors" not in value:
        raise UserError(
            f"{path}: has no `extractors`, so that it is an overlay; name what it lies over before it "
            f"(--params params.yaml --params {path})"
        )
    return from_config(merge(value, config or {}), " over ".join(map(str, reversed(files))))


def params_of(files: StrPath | Iterable[StrPath], config: Mapping[str, Any] | None = None) -> Params:
    """The parameters of files, whose limits and permitted folders hold from now on in this process."""
    first, *overlays = [files] if isinstance(files, str | PathLike) else [*files]
    params = load(first, overlays, config)
    limits.use(params.limits)
    isolation.bound(params.limits)
    paths.allow([dataset.settings for dataset in params.datasets.values()])
    return params


def config_of(words: Iterable[str]) -> dict[str, Any]:
    """The values of `NAME=VALUE`, which are read as `snakemake --config` reads them; blocks of one name are merged.

    >>> config_of(["scale=full", "seeds=[0, 1]", "paths={data: mine}", "paths={results: there}"])
    {'scale': 'full', 'seeds': ['0', '1'], 'paths': {'data': 'mine', 'results': 'there'}}

    Raises
    ------
    UserError : a word has another form.
    """
    config: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*", name):
            raise UserError(f"--config {word!r}: expected NAME=VALUE, such as photographs=/data/flickr8k")
        config = merge(config, {name: _value_of(text)})
    return config


def _value_of(text: str) -> Any:
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    try:
        return yaml.load(text, yaml.BaseLoader)  # without types: the parameters know their own
    except (yaml.YAMLError, RecursionError):
        return text


def from_config(config: Mapping[str, Any], where: str = "params.yaml") -> Params:
    """Parameters that are in memory already (Snakemake's merged `config`).

    A top-level key that is no parameter and holds a string or a number is a placeholder: `photographs: raw/mine`
    replaces `{photographs}` in every value, so that an overlay can leave a path to the command line. A value that is a
    placeholder alone becomes a number where that is one.
    """
    places = {
        k: v
        for k, v in config.items()
        if k not in Params.model_fields and isinstance(v, str | int | float) and not isinstance(v, bool)
    }
    filling = _Filling(places, where)
    try:
        value = {key: filling.of(part) for key, part in config.items() if key not in places}
    except RecursionError:
        raise UserError(f"{where}: is nested too deeply") from None
    # A placeholder that no value refers to is reported as a misspelt parameter.
    return validated(Params, {**value, **{k: v for k, v in places.items() if k not in filling.used}}, where)


class _Filling:
    """Fills placeholders in, each value once: what they contain is not filled again, and all of it is bounded.

    The values may come from Snakemake, which bounds nothing.
    """

    def __init__(self, places: Mapping[str, str | int | float], where: str):
        self.places, self.where = places, where
        self.used: set[str] = set()
        self.values = self.characters = 0

    def of(self, value: Any) -> Any:
        self.values += 1
        if self.values > (most := limits.current().yaml_nodes):
            raise UserError(f"{self.where}: has more than {most:,} values, those that aliases repeat among them")
        if isinstance(value, Mapping):
            return {key: self.of(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.of(part) for part in value]
        if not isinstance(value, str):
            return value
        alone = PLACE.fullmatch(value)
        if alone and alone[1] in self.places:
            self.used.add(alone[1])
            return self.places[alone[1]]
        return PLACE.sub(self._content, value)

    def _content(self, place: re.Match[str]) -> str:
        if place[1] not in self.places:
            return place[0]
        self.used.add(place[1])
        content = str(self.places[place[1]])
        self.characters += len(content)
        if self.characters > (most := limits.current().yaml_bytes):
            raise UserError(f"{self.where}: {place[0]}: fills more than {most:,} characters in; shorten its value")
        return content
