"""What every task declares, and the one list of metrics that tables, charts, checks and papers' YAML read.

No torch here: to look up a label or a range costs no import of what computes the numbers.
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

from crossmodal import registry
from crossmodal.files import write_parquet

if TYPE_CHECKING:
    import torch
    from pandas import DataFrame

    from crossmodal.corpus.corpus import Corpus
    from crossmodal.models.base import Model

Number = dict[str, Any]
"""A row of `metrics.json`: direction, metric, protocol, value, n_queries, n_gallery."""
CONTROLS = ("chance", "oracle")
Examples = Mapping[str, np.ndarray]
"""Columns of a task's `examples.parquet`, one row per example."""


@dataclass(frozen=True)
class Metric:
    """A number that comes out of a task, or a family of them (`recall@K` for every whole number K from 1)."""

    name: str
    label: str  # what tables, charts and the page print; a family's has its K too
    meaning: str  # for the sentence below a table: "recall in per cent"
    columns: tuple[str, ...] = ()  # of the examples' table, that it is made of
    addends: Callable[[Examples, int], np.ndarray] | None = None
    """(Q,) what each example adds to the mean that the metric is, of the columns and K; None: it is no such mean."""
    whole: Callable[[Examples, int], float] | None = None
    """The metric of all examples at once, where it is no mean over them, such as a median."""
    better: Literal["higher", "lower"] = "higher"
    low: float = 0.0
    high: float = 100.0
    of_gallery: bool = False  # the metric is a rank: at least `low`, at most the size of the gallery
    headline: bool = False  # by which systems are told apart: the first that a run has
    k: int = 0

    @property
    def family(self) -> bool:
        return self.name.endswith("@K")

    def named(self, name: str) -> Metric | None:
        """This metric, or the member of the family, if the name is its own."""
        if not self.family:
            return self if name == self.name else None
        stem, _, k = name.rpartition("@")
        if f"{stem}@K" != self.name or not re.fullmatch(r"[1-9]\d*", k):
            return None
        return replace(self, name=name, label=f"{self.label.removesuffix('K')}{k}", k=int(k))

    def of_examples(self, examples: Examples) -> np.ndarray | None:
        """(Q,) what each example adds to the mean; None where the metric is no mean, or the columns are not there."""
        if self.addends is None or any(column not in examples for column in self.columns):
            return None
        return self.addends(examples, self.k)

    def value(self, examples: Examples) -> float | None:
        """The metric of all examples; None where they do not say it."""
        if any(column not in examples for column in self.columns):
            return None
        if self.whole is not None:
            return float(self.whole(examples, self.k))
        added = self.of_examples(examples)
        return None if added is None else float(np.mean(added))

    def range(self, n_gallery: int) -> tuple[float, float]:
        """The least and the largest value that it can have."""
        return self.low, float(n_gallery) if self.of_gallery else self.high


class Task(ABC):
    """A question; the class `Task` of each module of `crossmodal.tasks` is one of these. It holds no state."""

    name: ClassVar[str]
    title: ClassVar[str]
    place: ClassVar[int] = 100
    """Where it stands among the tasks: of those that choose epochs a model's first one does."""
    asks: ClassVar[str]
    """The method that a model must have to be asked."""
    metrics: ClassVar[tuple[Metric, ...]]
    aspects: ClassVar[tuple[str, ...]]
    """What `direction` may be: `image-to-text`, or a setting's name."""
    overall: ClassVar[str] = ""
    """The one of them that stands for all the others together."""
    criterion: ClassVar[str] = ""
    """The number on validation items by whose largest value an epoch is chosen; empty: the task chooses none."""
    criterion_label: ClassVar[str] = ""
    selection: ClassVar[str] = ""
    """The module whose `validate` measures the criterion: the only part of a task that trained weights depend on."""

    ranked: ClassVar[bool] = False
    """Whether items are ranked for queries: the examples have ranks, and shards may be cut."""
    controls: ClassVar[tuple[str, ...]] = CONTROLS
    """Answers that are known beforehand, by which the scoring is checked: those of `chance` and of `oracle`."""

    @abstractmethod
    def hosts(self, relevance: str) -> bool:
        """Whether data whose items are relevant to each other by `group` or by `label` have the truth."""

    @abstractmethod
    def targets(self, corpus: Corpus) -> Any:
        """What is asked of the test items, and what is true of them."""

    @abstractmethod
    def predict(self, model: Model, corpus: Corpus, targets: Any, device: torch.device) -> Any:
        """What the model answers; no metric in here."""

    @abstractmethod
    def score(self, targets: Any, predictions: Any, folds: list[int]) -> tuple[DataFrame, list[Number]]:
        """The examples' table, whose columns the metrics are made of, and the rows of `metrics.json`.

        Raises
        ------
        UserError : answers that cannot be scored.
        """

    def keep(self, targets: Any, predictions: Any, folder: Path) -> None:  # noqa: B027, most keep nothing
        """Write what else is kept of the answers into the task's folder."""

    def chance(self, targets: Any, seed: int) -> Any:
        """The answers of a control that knows nothing."""
        raise NotImplementedError

    def oracle(self, targets: Any) -> Any:
        """The answers of a control that knows everything."""
        raise NotImplementedError

    def expected(self, control: str, number: Number, numbers: Iterable[Number]) -> tuple[float, float, float] | None:
        """What a control's number must be, and the interval that it must lie in; None where nothing is known of it.

        Parameters
        ----------
        numbers : all of the control's numbers on the same data.
        """
        return None

    def evaluate(
        self, model: Model, corpus: Corpus, folds: list[int], device: torch.device, folder: Path
    ) -> list[Number]:
        """Ask the model about the test items; writes `examples.parquet` and what else is kept into `folder`.

        Returns
        -------
        The rows of `metrics.json`.

        Raises
        ------
        UserError : answers that cannot be scored.
        """
        targets = self.targets(corpus)
        return self.written(targets, self.predict(model, corpus, targets, device), folds, folder)

    def control(self, name: str, corpus: Corpus, folds: list[int], seed: int, folder: Path) -> list[Number]:
        """The same of a control's answers."""
        targets = self.targets(corpus)
        predictions = self.chance(targets, seed) if name == "chance" else self.oracle(targets)
        return self.written(targets, predictions, folds, folder)

    def written(self, targets: Any, predictions: Any, folds: list[int], folder: Path) -> list[Number]:
        """Score answers and write what is kept of them."""
        examples, numbers = self.score(targets, predictions, folds)
        self.keep(targets, predictions, folder)
        write_parquet(folder / "examples.parquet", examples)
        return numbers

    def asked(self, model: str, relevance: str) -> bool:
        """Whether runs of a model on such data, or of a control, are evaluated under this task."""
        if model in CONTROLS:
            return model in self.controls and self.hosts(relevance)
        return self.asks in registry.methods(model) and self.hosts(relevance)

    def shown(self) -> list[Any]:
        """What tables, charts and checks show of the task: they are made again when it changes."""
        facts = [(m.name, m.label, m.meaning, m.better, m.low, str(m.high), m.headline) for m in self.metrics]
        return [self.name, self.title, self.place, self.overall, self.criterion, self.criterion_label, *facts]

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, K filled in; None if the task has none."""
        return next((found for metric in self.metrics if (found := metric.named(name))), None)


@cache
def tasks() -> dict[str, Task]:
    """Every task by its name, in the order of their places."""
    found = [registry.module("tasks", name).Task() for name in sorted(registry.names("tasks"))]
    return {task.name: task for task in sorted(found, key=lambda task: (task.place, task.name))}


def asked_of(model: str, relevance: str) -> Iterator[Task]:
    """The tasks that runs of a model are evaluated under."""
    return (task for task in tasks().values() if task.asked(model, relevance))


def metrics() -> Iterator[Metric]:
    """All metrics of all tasks, families among them, each once."""
    seen = {}
    for task in tasks().values():
        for metric in task.metrics:
            seen.setdefault(metric.name, metric)
    return iter(seen.values())


@cache
def metric_names() -> list[str]:
    """Names of all metrics; a family's members for the cut-offs that papers have, to be suggested for others."""
    found = [[m.name.replace("@K", f"@{k}") for k in (1, 5, 10, 50)] if m.family else [m.name] for m in metrics()]
    return list(dict.fromkeys(name for names in found for name in names))


@cache
def aspects() -> frozenset[str]:
    """What `direction` may be in any task."""
    return frozenset(name for task in tasks().values() for name in task.aspects)


@cache
def metric(name: str) -> Metric | None:
    """The metric of that name, whichever task has it, K filled in; None for an unknown one."""
    return next((found for one in metrics() if (found := one.named(name))), None)


def label(name: str) -> str:
    """What is printed for a metric: `R@10`; `mAP@50 chance` for what a random order has of it."""
    if name.endswith("_chance"):
        return f"{label(name.removesuffix('_chance'))} chance"
    found = metric(name)
    return found.label if found else name.replace("_", " ")


def criteria() -> dict[str, str]:
    """Columns of a run's history by which its epochs may have been chosen, and what they are called."""
    return {f"val_{task.criterion}": task.criterion_label for task in tasks().values() if task.criterion}


def headlines() -> list[tuple[str, str]]:
    """Direction and metric of the numbers by which systems are told apart, the first that a run has."""
    found = [(task.overall, m.name) for task in tasks().values() if task.overall for m in task.metrics if m.headline]
    return list(dict.fromkeys(found))


def lower_is_better(name: str) -> bool:
    found = metric(name)
    return found is not None and found.better == "lower"


def chooser_of(model: str, relevance: str) -> Task | None:
    """The task by whose criterion the epochs of a model are chosen; None where no task that it is asked has one."""
    return next((task for task in asked_of(model, relevance) if task.criterion), None)


def source_of_training(model: str, relevance: str) -> str:
    """Hash of the source that a model's weights depend on: its own, its training's, and what chooses its epochs."""
    task = chooser_of(model, relevance)
    return registry.source_hash("models", model, (task.selection,) if task else ())


def ranking_of(run: Path) -> Path:
    """The folder of a run's rankings: that of the retrieval task which it was asked, made or yet to be made."""
    names = [task.name for task in tasks().values() if task.ranked]
    return next((run / name for name in names if (run / name).is_dir()), run / names[0])
