"""The data that claims are tested on: a run's numbers, and how much each group of its queries contributes to them.

Each run's `examples.parquet` is read once, and only the columns that are needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from crossmodal.core.console import tracked
from crossmodal.experiments import Job
from crossmodal.experiments.claims import RUN_METRICS
from crossmodal.reporting.results import runs
from crossmodal.reporting.results.comparison import lookup_of
from crossmodal.tasks.base import folder_of_metric
from crossmodal.tasks.base import metric as metric_of

Number = tuple[str, str, str]
"""Protocol, direction and metric."""


@dataclass(frozen=True)
class Value:
    """A number of a run.

    Parameters
    ----------
    moves : (G,) contribution of each group of the data set's queries to the mean, of sum 0: the group's share of the
        queries, times the deviation of its mean from the mean of all. None for a number that is no mean over queries.
    has_queries : (G,) bool, the groups that have queries.
    queries : a name of the set of queries, equal for equal sets.
    size : the number of ranked items; 0 where none are ranked.
    """

    mean: float
    moves: np.ndarray | None = None
    has_queries: np.ndarray | None = None
    queries: tuple[str, ...] = ()
    n_queries: int = 0
    size: int = 0


@dataclass
class _Known:
    """The groups of a data set's queries, and hashes of query ids, which most of its runs share."""

    codes: dict[str, int] = field(default_factory=dict)
    sorted: dict[str, str] = field(default_factory=dict)  # hash of the ids as they stand, to that of the sorted ids


class Evidence:
    """The numbers of runs, by run and number; `missing` gives the reason where there is none."""

    def __init__(self, jobs: Mapping[str, Job], metrics: pd.DataFrame, folder: Path):
        self.jobs = jobs
        self.folder = folder
        self._lookup = lookup_of(metrics)
        self.measured = {key[0] for key in self._lookup}
        """The runs that have numbers."""
        self._known: dict[str, _Known] = {}
        self._values: dict[tuple[str, Number], Value] = {}

    def read(self, wanted: Mapping[str, Iterable[Number]]) -> None:
        """Read the numbers that are wanted of each run."""
        for key, numbers in tracked(wanted.items(), "reading runs", unit="runs"):
            if key in self.measured:
                self._read(key, [*dict.fromkeys(numbers)])

    def value(self, key: str, number: Number) -> Value | None:
        return self._values.get((key, number))

    def told(self, key: str, number: Number) -> float | None:
        """A number from the run's metrics, without its queries; None where they lack it."""
        protocol, aspect, metric = number
        numbers = self._lookup.get((key, aspect, metric, protocol))
        return None if numbers is None else numbers[0]

    def _read(self, key: str, numbers: list[Number]) -> None:
        job, rest = self.jobs[key], []
        for number in numbers:
            if number[2] in RUN_METRICS:
                measured = self._of_training(job, number[2])
                if measured is not None:
                    self._values[key, number] = Value(measured)
            else:
                rest.append(number)
        means: dict[Path, list[Number]] = {}
        for number in rest:
            task = folder_of_metric(self.folder / key, number[2])
            if task is not None and _column(number[2]):
                means.setdefault(task, []).append(number)
        averages: dict[Number, Value] = {}
        for task, of_task in means.items():
            columns = sorted({_column(metric) for _, _, metric in of_task})
            frame = runs.query_table(task, ["protocol", "aspect", "query_id", "query_group", *columns])
            averages |= {} if frame is None else self._of_queries(key, frame, of_task)
        for number in rest:
            protocol, aspect, metric = number
            recorded = self._lookup.get((key, aspect, metric, protocol))
            if number in averages:
                self._values[key, number] = averages[number]
            elif recorded is not None:
                self._values[key, number] = Value(recorded[0], n_queries=recorded[1], size=recorded[2])

    def _of_training(self, job: Job, metric: str) -> float | None:
        folder = self.folder / job.key
        if metric == "milliseconds":
            return runs.milliseconds(folder)
        return runs.attention_blocks(folder, self.folder / job.before if job.before else None)

    def _of_queries(self, key: str, frame: pyarrow.Table, numbers: list[Number]) -> dict[Number, Value]:
        """The numbers among those given that are means over the queries of a frame."""
        dataset = self._known.setdefault(self.jobs[key].dataset, _Known())
        names = {name: _codes(frame[name]) for name in ("protocol", "aspect", "query_group")}
        groups = names["query_group"]
        codes = np.array([dataset.codes.setdefault(group, len(dataset.codes)) for group in groups[0]], np.int64)
        averages: dict[Number, Value] = {}
        for protocol in dict.fromkeys(number[0] for number in numbers):
            inside = _places(names["protocol"]).get(protocol, np.empty(0, np.int64))
            rows = {d: inside[places] for d, places in _places(names["aspect"], inside).items()}
            who = {d: f"{d} {_named(dataset, frame['query_id'].take(places))}" for d, places in rows.items()}
            for _, aspect, metric in [number for number in numbers if number[0] == protocol]:
                parts = [d for d in rows if "-to-" in d] if aspect == "average" else [d for d in rows if d == aspect]
                column = frame[_column(metric)].to_numpy()
                values = [_mean(metric, column[rows[d]], codes[groups[1][rows[d]]], who[d]) for d in parts]
                if values:
                    recorded = self._lookup.get((key, aspect, metric, protocol))
                    averages[protocol, aspect, metric] = _average(values, recorded[2] if recorded else 0)
        return averages


def _column(metric: str) -> str | None:
    """The column of `examples.parquet` whose mean is the metric; None for a metric that is no such mean."""
    declared = metric_of(metric)
    return declared.columns[0] if declared is not None and declared.addends is not None else None


def _codes(column: pyarrow.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """A column's distinct texts, and the index of each of its values among them."""
    array = column.combine_chunks()
    array = array if isinstance(array.type, pyarrow.DictionaryType) else array.dictionary_encode()
    return [str(text) for text in array.dictionary.to_pylist()], array.indices.to_numpy(zero_copy_only=False)


def _places(coded: tuple[list[str], np.ndarray], inside: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """{text: numbers of its rows}, for a whole column or for the rows `inside` of it."""
    texts, codes = coded
    codes = codes if inside is None else codes[inside]
    return {text: places for n, text in enumerate(texts) if len(places := np.flatnonzero(codes == n))}


def _mean(metric: str, held: np.ndarray, groups: np.ndarray, who: str) -> Value:
    """The mean of a metric over queries.

    Parameters
    ----------
    held : (Q,) values of the metric's column of `examples.parquet`.
    groups : (Q,) codes of the queries' groups.
    who : the name of the set of queries.
    """
    values = metric_of(metric).of_examples({_column(metric): held})
    mean = float(values.mean())
    sums = np.bincount(groups, values - mean)
    return Value(mean, sums / len(values), np.bincount(groups) > 0, (who,), len(values))


def _named(dataset: _Known, ids: pyarrow.ChunkedArray) -> str:
    """A name of a set of queries that does not depend on their order."""
    texts = ids.to_pylist()
    name = _hash(texts)
    if name not in dataset.sorted:
        dataset.sorted[name] = _hash(sorted(texts))
    return dataset.sorted[name]


def _hash(texts: list) -> str:
    return hashlib.blake2b("\n".join(map(str, texts)).encode(), digest_size=8).hexdigest()


def _average(values: list[Value], size: int) -> Value:
    """The mean of several numbers of one run, each a mean over queries; `size` items are ranked."""
    moves, masks = (summed([getattr(value, name) for value in values]) for name in ("moves", "has_queries"))
    queries = tuple(sorted({query for value in values for query in value.queries}))
    mean = float(np.mean([value.mean for value in values]))
    n_queries = sum(value.n_queries for value in values)
    return Value(mean, moves / len(values), masks > 0, queries, n_queries, size)


def summed(arrays: list[np.ndarray]) -> np.ndarray:
    """The sum of arrays by group; shorter arrays count as 0 for the groups that they lack."""
    total = np.zeros(max(map(len, arrays), default=0))
    for array in arrays:
        total[: len(array)] += array
    return total
