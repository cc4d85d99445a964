"""The base class of tasks, and the one list of metrics that tables, charts, checks and the papers' YAML read.

This module does not import torch, so that labels and ranges of metrics can be looked up quickly.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record, write_parquet

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

Number = dict[str, Any]
"""One number of `metrics.json`, with the keys aspect, metric, protocol, value, n_queries and n_gallery."""
NUMBER = {"aspect": str, "metric": str, "protocol": str, "value": (int, float), "n_queries": int, "n_gallery": int}
LONGEST = 200
"""Characters of the name of a metric, an aspect or a protocol are fewer."""
MOST_NUMBERS = 5000
"""Numbers of a task of a run are fewer."""
LARGEST = 2**63
"""Numbers of a run are smaller, so that they fit into the columns of a table."""
CONTROLS = ("chance", "oracle")
EXAMPLE = ("protocol", "aspect", "fold")
"""Columns that the examples of every task have."""
Examples = Mapping[str, np.ndarray]
"""Columns of a task's `examples.parquet`, one row per example."""


@dataclass(frozen=True)
class Metric:
    """A metric of a task, or a family of metrics (`recall@K` for every whole number K from 1)."""

    name: str
    label: str  # the label in tables, charts and the report; that of a family contains the K too
    meaning: str  # the explanation in the caption of a table, such as "recall in per cent"
    columns: tuple[str, ...] = ()  # the columns of the examples' table from which the metric is computed
    addends: Callable[[Examples, int], np.ndarray] | None = None
    """Takes the columns and K, and returns the (Q,) values whose mean is the metric; None if it is not such a mean."""
    formula: Callable[[np.ndarray], np.ndarray] | None = None
    """Takes (..., C) sums of the columns over examples, and returns (...) values of a metric that is a formula of sums,
    such as BLEU, so that it has intervals and tests like a mean.
    """
    whole: Callable[[Examples, int], float] | None = None
    """Takes the columns and K, and returns a metric that is neither a mean nor a formula of sums, such as a median."""
    better: Literal["higher", "lower"] = "higher"
    low: float = 0.0
    high: float = 100.0
    of_gallery: bool = False  # whether the metric is a rank, which is at most the size of the gallery
    headline: bool = False  # whether systems are compared by it; the first one that a run has is used
    k: int = 0  # the cut-off of a family's member

    @property
    def family(self) -> bool:
        """Whether this is a family of metrics."""
        return self.name.endswith("@K")

    def named(self, name: str) -> Metric | None:
        """This metric, or the member of this family, if it has the given name; None otherwise."""
        if not self.family:
            return self if name == self.name else None
        stem, _, k = name.rpartition("@")
        if f"{stem}@K" != self.name or not re.fullmatch(r"[1-9]\d{0,8}", k):
            return None
        return replace(self, name=name, label=f"{self.label.removesuffix('K')}{k}", k=int(k))

    def of_examples(self, examples: Examples) -> np.ndarray | None:
        """(Q,) values whose mean is the metric; None if the metric is not a mean, or columns are missing."""
        if self.addends is None or any(column not in examples for column in self.columns):
            return None
        return self.addends(examples, self.k)

    def summands(self, examples: Examples) -> np.ndarray | None:
        """(Q, C) columns whose sums `formula` takes; None if the metric has no formula, or columns are missing."""
        if self.formula is None or any(column not in examples for column in self.columns):
            return None
        return np.stack([np.asarray(examples[column], np.float64) for column in self.columns], 1)

    def value(self, examples: Examples) -> float | None:
        """The metric over all examples; None if it cannot be computed from their columns."""
        if any(column not in examples for column in self.columns):
            return None
        if self.formula is not None:
            return float(self.formula(self.summands(examples).sum(0)))
        if self.whole is not None:
            return float(self.whole(examples, self.k))
        added = self.of_examples(examples)
        return None if added is None else float(np.mean(added))

    def range(self, n_gallery: int) -> tuple[float, float]:
        """The smallest and the largest possible value for a gallery of `n_gallery` items."""
        return self.low, float(n_gallery) if self.of_gallery else self.high


class Task(ABC):
    """Base class of tasks, without state; each module of `crossmodal.tasks` has a class `Task` derived from it."""

    name: ClassVar[str]
    title: ClassVar[str]
    place: ClassVar[int] = 100
    """Position among the tasks; the first task of a model that has a criterion chooses the model's epochs."""
    asks: ClassVar[str]
    """The method that a model must have to be evaluated on the task."""
    on_request: ClassVar[tuple[str, ...]] = ()
    """Methods one of which is enough where an experiment names the task in `also`."""
    metrics: ClassVar[tuple[Metric, ...]]
    aspects: ClassVar[tuple[str, ...]]
    """Possible values of `aspect`: such as `image-to-text`, or the name of a learning setting."""
    overall: ClassVar[str] = ""
    """The aspect that summarises all others."""
    criterion: ClassVar[str] = ""
    """The number on validation items whose largest value determines the epoch; empty if the task chooses none."""
    criterion_label: ClassVar[str] = ""
    selection: ClassVar[str] = ""
    """The module whose `validate` measures the criterion: the only part of a task that trained weights depend on."""

    curves: ClassVar[tuple[str, ...]] = ()
    """Metrics by which systems are compared over amounts of annotation."""
    of_captions: ClassVar[bool] = False
    """Whether the ground truth is captions, so that data whose texts are arrays do not have it."""
    ranked: ClassVar[bool] = False
    """Whether items are ranked for queries, so that examples have ranks and the ranking may be cut into shards."""
    controls: ClassVar[tuple[str, ...]] = CONTROLS
    """Controls whose results are known beforehand, by which the scoring is checked: `chance` and `oracle`."""

    @abstractmethod
    def hosts(self, relevance: str) -> bool:
        """Whether data with relevance by `group` or by `label` have the task's ground truth."""

    @abstractmethod
    def targets(self, corpus: Corpus) -> Any:
        """The test items and their ground truth, in a form of the task's own."""

    @abstractmethod
    def predict(self, model: Model, corpus: Corpus, targets: Any, device: torch.device) -> Any:
        """The model's predictions for the targets; no metric is computed here."""

    @abstractmethod
    def score(self, targets: Any, predictions: Any, folds: list[int]) -> tuple[DataFrame, list[Number]]:
        """Compute the metrics of predictions.

        Parameters
        ----------
        folds : the numbers of folds into which the test items are cut; 1 is the whole test set.

        Returns
        -------
        The examples' table, from whose columns the metrics are computed, and the rows of `metrics.json`. The table has
        the columns `EXAMPLE` in any case.

        Raises
        ------
        UserError : predictions that cannot be scored.
        """

    def keep(self, targets: Any, predictions: Any, folder: Path) -> None:  # noqa: B027, most keep nothing
        """Write further parts of the predictions into the task's folder."""

    def chance(self, targets: Any, seed: int) -> Any:
        """The predictions of a control that knows nothing."""
        raise NotImplementedError

    def oracle(self, targets: Any) -> Any:
        """The predictions of a control that knows the ground truth."""
        raise NotImplementedError

    def expected(self, control: str, number: Number, numbers: Iterable[Number]) -> tuple[float, float, float] | None:
        """The expected value of a control's number, to check the scoring.

        Parameters
        ----------
        numbers : all of the control's numbers on the same data.

        Returns
        -------
        The expected value, and the lower and the upper bound within which the number must lie; None if these are
        unknown.
        """
        return None

    def truth_is_best(self, number: Number) -> bool:
        """Whether the oracle, which knows the ground truth, reaches the best possible value of a number."""
        return True

    def evaluate(
        self, model: Model, corpus: Corpus, folds: list[int], device: torch.device, folder: Path
    ) -> list[Number]:
        """Evaluate a model on the test items, and write `examples.parquet` and further files of the task into `folder`.

        Returns
        -------
        The rows of `metrics.json`.

        Raises
        ------
        UserError : predictions that cannot be scored.
        """
        targets = self.targets(corpus)
        return self.written(targets, self.predict(model, corpus, targets, device), folds, folder)

    def control(self, name: str, corpus: Corpus, folds: list[int], seed: int, folder: Path) -> list[Number]:
        """Evaluate the predictions of a control (`chance` or `oracle`), as `evaluate` does those of a model."""
        targets = self.targets(corpus)
        predictions = self.chance(targets, seed) if name == "chance" else self.oracle(targets)
        return self.written(targets, predictions, folds, folder)

    def written(self, targets: Any, predictions: Any, folds: list[int], folder: Path) -> list[Number]:
        """Score predictions, write the task's files into `folder`, and return the rows of `metrics.json`.

        Raises
        ------
        UserError : predictions that cannot be scored, or examples without one of the columns `EXAMPLE`.
        """
        examples, numbers = self.score(targets, predictions, folds)
        if lacking := [name for name in EXAMPLE if name not in examples]:
            raise UserError(f"task {self.name!r}: its examples have no column {lacking[0]!r}; add it in `score`")
        self.keep(targets, predictions, folder)
        write_parquet(folder / "examples.parquet", examples)
        return numbers

    def evaluates(self, model: str, relevance: str, captioned: bool = True, also: Iterable[str] = ()) -> bool:
        """Whether runs of a model or a control on data with this relevance are evaluated on this task.

        Parameters
        ----------
        captioned : whether the data set's texts are captions; otherwise they are arrays, or it has none.
        also : the names of tasks that the experiment asks besides those that the model's methods are for.
        """
        if not self.hosts(relevance) or (self.of_captions and not captioned):
            return False
        if model in CONTROLS:
            return model in self.controls
        return self.asks in registry.methods(model) or (self.name in also and self.answers(model))

    def answers(self, model: str) -> bool:
        """Whether a model has a method for the task, be it one that has to be requested."""
        methods = registry.methods(model)
        return self.asks in methods | registry.on_request(model) or bool(methods.intersection(self.on_request))

    def shown(self) -> list[Any]:
        """Facts of the task that tables, charts and checks show, so that a change of these facts rebuilds them."""
        facts = [(m.name, m.label, m.meaning, m.better, m.low, str(m.high), m.headline) for m in self.metrics]
        return [self.name, self.title, self.place, self.overall, self.criterion, self.criterion_label, *facts]

    def metric(self, name: str) -> Metric | None:
        """The metric with the given name, with K filled in; None if the task has none."""
        return next((match for metric in self.metrics if (match := metric.named(name))), None)


@cache
def tasks() -> dict[str, Task]:
    """Name to task, ordered by `place`."""
    listed = [registry.module("tasks", name).Task() for name in sorted(registry.names("tasks"))]
    return {task.name: task for task in sorted(listed, key=lambda task: (task.place, task.name))}


def tasks_of(model: str, relevance: str, captioned: bool = True, also: Iterable[str] = ()) -> Iterator[Task]:
    """The tasks on which runs of a model or a control are evaluated, for data of this kind (see `Task.evaluates`)."""
    return (task for task in tasks().values() if task.evaluates(model, relevance, captioned, also))


def all_metrics() -> Iterator[Metric]:
    """The metrics and families of all tasks, without duplicates."""
    by_name = {}
    for task in tasks().values():
        for metric in task.metrics:
            by_name.setdefault(metric.name, metric)
    return iter(by_name.values())


@cache
def metric_names() -> list[str]:
    """Names of all metrics, to suggest one for a misspelt name; a family is listed at the cut-offs that papers use."""
    listed = [[m.name.replace("@K", f"@{k}") for k in (1, 5, 10, 50)] if m.family else [m.name] for m in all_metrics()]
    return list(dict.fromkeys(name for names in listed for name in names))


@cache
def aspects() -> frozenset[str]:
    """Possible values of `aspect` over all tasks."""
    return frozenset(name for task in tasks().values() for name in task.aspects)


@cache
def metric(name: str) -> Metric | None:
    """The metric with the given name in any task, with K filled in; None if there is none."""
    return next((match for declared in all_metrics() if (match := declared.named(name))), None)


def too_few(numbers: Iterable[Mapping[str, Any]]) -> str:
    """A sentence on each recall@K that is 100 for any order, since no more than K items are ranked; empty for none.

    Parameters
    ----------
    numbers : rows with `metric` and `n_gallery`, of a run or a table.
    """
    galleries: dict[str, int] = {}
    for number in numbers:
        name, size = number["metric"], number["n_gallery"]
        declared = metric(name) if name.startswith("recall@") else None
        if declared is not None and size and declared.k >= size:
            galleries[declared.label] = min(size, galleries.get(declared.label, size))
    if not galleries:
        return ""
    fewest = min(galleries.values())
    items = "item is" if fewest == 1 else "items are"
    return f"Too few test items: only {fewest} {items} ranked, so that {', '.join(galleries)} is 100 for any order."


def is_of_chance(name: str) -> bool:
    """Whether a metric is what a random order has of another one, which is a property of the test and of no system."""
    return name.endswith("_chance")


def label(name: str) -> str:
    """The printed label of a metric, such as `R@10`, or `mAP@50 chance` for what a random order has of it.

    The label of an undeclared metric is its name with spaces for underscores.
    """
    if is_of_chance(name):
        return f"{label(name.removesuffix('_chance'))} chance"
    declared = metric(name)
    return declared.label if declared else name.replace("_", " ")


def criteria() -> dict[str, str]:
    """Columns of a run's history by which its epochs may have been chosen, with their labels."""
    return {f"val_{task.criterion}": task.criterion_label for task in tasks().values() if task.criterion}


def headlines() -> list[tuple[str, str]]:
    """(aspect, metric) of the numbers by which systems are compared; the first one that a run has is used."""
    pairs = [(task.overall, m.name) for task in tasks().values() if task.overall for m in task.metrics if m.headline]
    return list(dict.fromkeys(pairs))


def lower_is_better(name: str) -> bool:
    """Whether a lower value of the metric is better; False for an unknown metric."""
    declared = metric(name)
    return declared is not None and declared.better == "lower"


def chooser_of(model: str, relevance: str) -> Task | None:
    """The task by whose criterion the epochs of a model are chosen; None if none of its tasks has a criterion."""
    return next((task for task in tasks_of(model, relevance) if task.criterion), None)


def source_of_training(model: str, relevance: str) -> str:
    """Hash of the source code that a model's weights depend on: of the model, the training and the choice of epochs."""
    task = chooser_of(model, relevance)
    return registry.source_hash("models", model, (task.selection,) if task else ())


def ranking_of(run: Path) -> Path:
    """The folder of a run's retrieval task; that of the first retrieval task if the run has none yet."""
    names = [task.name for task in tasks().values() if task.ranked]
    return next((run / name for name in names if (run / name).is_dir()), run / names[0])


def folder_of_metric(run: Path, name: str) -> Path | None:
    """The folder of the run's task that measures the metric with the given name; None if the run has no such task."""
    measuring = [task.name for task in tasks().values() if task.metric(name)]
    return next((run / task for task in measuring if (run / task).is_dir()), None)


def read_numbers(path: Path) -> tuple[dict[str, Any], list[Number]]:
    """The whole `metrics.json` of a task of a run, and the numbers in it, which may come from others.

    Raises
    ------
    UserError : it cannot be read (`read_record`), or a number of it lacks a key, is not finite, or is of another type.
    """
    content = read_record(path)
    rows = content.get("numbers")
    if not isinstance(rows, list) or len(rows) > MOST_NUMBERS:
        raise UserError(f"{path}: expected a list `numbers` of at most {MOST_NUMBERS}; evaluate the run again")
    for row in rows:
        for key, kind in NUMBER.items():
            value = row.get(key) if isinstance(row, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UserError(f"{path}: lacks {key}, or it is {type(value).__name__}; evaluate the run again")
            if isinstance(value, str) and (len(value) > LONGEST or re.search(r"\d{10}", value)):
                raise UserError(f"{path}: {key} is {value[:80]!r}, no name of a task's; evaluate the run again")
            if not isinstance(value, str) and not (-LARGEST < value < LARGEST):
                raise UserError(f"{path}: {str(row['metric'])[:80]}: {key} is no finite number; evaluate the run again")
    return content, [{key: row[key] for key in NUMBER} for row in rows]
