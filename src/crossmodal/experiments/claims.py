"""`claims:` of papers/*.yaml: a paper's statements on its systems, as testable comparisons between experiments.

`crossmodal.reporting.results.claims` tests them on our runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from crossmodal.core.errors import suggestion
from crossmodal.experiments.settings import Strict
from crossmodal.experiments.tables import ID_FORM, Experiment, Table
from crossmodal.tasks.base import aspects, lower_is_better, metric_names
from crossmodal.tasks.base import metric as metric_of

Kind = Literal["above", "near", "grows", "falls", "shrinks", "above_chance", "counts"]
FIELDS: dict[str, str] = {
    "above": "pairs",
    "near": "pairs",
    "shrinks": "pairs",
    "grows": "rows",
    "falls": "rows",
    "above_chance": "rows",
    "counts": "counts",
}
"""Kind of claim to the field that holds the experiments it compares."""
LEAST = {"grows": 2, "falls": 2, "shrinks": 2}
"""The minimum number of rows or pairs of one data set for each kind of trend; other kinds need one."""
RUN_METRICS = ("milliseconds", "attention_blocks")
"""Metrics of a run's training, which have no aspect: time per iteration, attention blocks trained."""


def _as_side(value: Any) -> Any:
    return {"experiment": value} if isinstance(value, str) else value


class Side(Strict):
    """One side of a comparison: an experiment and, where they differ from the claim's, its metrics and aspects."""

    experiment: str
    metrics: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()
    protocol: str | None = None


_Named = Annotated[Side, BeforeValidator(_as_side)]


class Claim(Strict):
    """A statement of a paper.

    The values of a side are averaged over its metrics and aspects. Of several pairs each must hold. Experiments on
    several published data sets make one claim per data set.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+$", description=ID_FORM)
    says: str = Field(description="the statement, as one sentence in plain English")
    source: str = Field("", description="place of the statement in the paper: section, table or figure")
    kind: Kind = Field(
        description="above: the first of each pair is better than the second; near: they differ by less than "
        "`margin`; grows, falls: values rise or fall along `rows`; shrinks: the first's lead falls along `pairs`; "
        "above_chance: better than a random order; counts: `counts` says how many"
    )
    metrics: tuple[str, ...] = Field(min_length=1)
    aspects: tuple[str, ...] = Field(
        (), description="aspects that are compared; `average` is the mean over all aspects of a run"
    )
    protocol: str | None = Field(
        None, description="protocol, as in the column of a table; by default that of the table for the whole test set"
    )
    tables: tuple[str, ...] = Field(
        (), description="tables with the published numbers; by default the first table that contains them"
    )
    pairs: tuple[tuple[_Named, _Named], ...] = ()
    rows: tuple[_Named, ...] = ()
    counts: dict[str, int] = Field({}, description="experiment to the count that its runs must have")
    margin: float | None = Field(None, gt=0, description="largest difference for `near`, in the unit of the metrics")
    published: dict[str, float] = Field({}, description="data set to a published difference that is in no table")
    note: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        wanted = FIELDS[self.kind]
        for name in ("pairs", "rows", "counts"):
            if bool(getattr(self, name)) != (name == wanted):
                what = f"expected `{wanted}`" if name == wanted else f"`{name}` is not read; it compares `{wanted}`"
                raise ValueError(f"{self.id}: a claim of kind {self.kind!r}: {what}")
        if (self.margin is not None) != (self.kind == "near"):
            raise ValueError(f"{self.id}.margin: a claim of kind 'near' has one, and no other")
        return self

    @property
    def sides(self) -> list[Side]:
        """All sides, in the order in which the file names them."""
        return [*(side for pair in self.pairs for side in pair), *self.rows, *map(_named, self.counts)]

    def metrics_of(self, side: Side) -> tuple[str, ...]:
        return side.metrics or self.metrics

    def aspects_of(self, side: Side) -> tuple[str, ...]:
        return side.aspects or self.aspects

    def protocol_of(self, side: Side) -> str | None:
        return side.protocol or self.protocol

    @property
    def lower_is_better(self) -> bool:
        return _lower_is_better(self.metrics[0])


def _named(experiment: str) -> Side:
    return Side(experiment=experiment)


def _lower_is_better(metric: str) -> bool:
    return metric == "milliseconds" or lower_is_better(metric)


@dataclass(frozen=True)
class Place:
    """A number of a run that a side is measured by, and the published cell if a table has one."""

    aspect: str
    metric: str
    protocol: str | None
    """A protocol that ranks some classes only; None for the test set in the folds of the table."""
    table: str | None
    """The table of the cell, which also gives the number of folds of the test set."""
    published: float | None


def places(tables: Sequence[Table], claim: Claim, side: Side) -> list[Place]:
    """All numbers whose mean is the value of a side.

    Raises
    ------
    ValueError : the claim names tables, none of which has a cell for a number.
    """
    protocol = claim.protocol_of(side)
    cells = []
    for metric in claim.metrics_of(side):
        for aspect in claim.aspects_of(side) or ("",):
            cell = next(_cells(tables, claim, side.experiment, aspect, metric, protocol), None)
            if cell is None and claim.tables:
                what = f"{aspect} {metric}" + (f" of protocol {protocol!r}" if protocol else "")
                raise ValueError(
                    f"claims.{claim.id}.tables: no cell of {', '.join(claim.tables)} is {what} of the experiment "
                    f"{side.experiment!r}; name the table that has it, or leave `tables` out"
                )
            cells.append(cell or Place(aspect, metric, protocol, None, None))
    return cells


def _cells(
    tables: Sequence[Table], claim: Claim, experiment: str, aspect: str, metric: str, protocol: str | None
) -> Iterator[Place]:
    """The cells that an experiment fills with a number, in the order of the claim's tables, or of the paper's."""
    by_id = {table.id: table for table in tables}
    for name in claim.tables or by_id:
        table = by_id[name]
        for row, column, number in table.cells_of.get((experiment, aspect, metric), ()):
            protocol_of_cell = column.protocol or row.protocol
            if protocol in (protocol_of_cell, column.protocol):
                yield Place(aspect, metric, protocol_of_cell, name, number)


def check(experiments: Mapping[str, Experiment], tables: Sequence[Table], claims: Sequence[Claim]) -> None:
    """Check that everything exists that a paper's claims name.

    Raises
    ------
    ValueError : two claims of one name; an experiment, table, metric, aspect or protocol that does not exist; sides
        that cannot be compared.
    """
    ids: set[str] = set()
    columns = [column for table in tables for column in table.columns]
    rows = [row for table in tables for row in table.rows]
    names = {
        "experiments": {*experiments},
        "tables": {table.id for table in tables},
        "metrics": {*metric_names(), *RUN_METRICS, *(column.metric for column in columns)},
        "aspects": aspects() | {column.aspect for column in columns},
        "protocols": {"first", "seen", "unseen"} | {entry.protocol for entry in [*columns, *rows] if entry.protocol},
    }
    for claim in claims:
        if claim.id in ids:
            raise ValueError(f"claims.{claim.id}: occurs twice; give one of them another `id`")
        ids.add(claim.id)
        _check(experiments, tables, claim, names)


def _check(
    experiments: Mapping[str, Experiment], tables: Sequence[Table], claim: Claim, names: dict[str, set[str]]
) -> None:
    def check_known(key: str, kind: str, name: str) -> None:
        if name not in names[kind] and not (kind == "metrics" and metric_of(name)):
            raise ValueError(f"claims.{claim.id}.{key}: no {kind[:-1]} {name!r}{suggestion(name, names[kind])}")

    for name in claim.tables:
        check_known("tables", "tables", name)
    datasets: dict[str, int] = {}
    for side in claim.sides:
        check_known(FIELDS[claim.kind], "experiments", side.experiment)
        dataset = experiments[side.experiment].dataset
        datasets[dataset] = datasets.get(dataset, 0) + 1
        metrics, names_of_aspects = claim.metrics_of(side), claim.aspects_of(side)
        for metric in metrics:
            check_known("metrics", "metrics", metric)
        for aspect in names_of_aspects:
            check_known("aspects", "aspects", aspect)
        if protocol := claim.protocol_of(side):
            check_known("protocol", "protocols", protocol)
        if len({_lower_is_better(metric) for metric in (*metrics, *claim.metrics)}) > 1:
            listed = ", ".join(dict.fromkeys((*claim.metrics, *metrics)))
            raise ValueError(f"claims.{claim.id}.metrics: of some of {listed} more is better, of others less")
        if {metric in RUN_METRICS for metric in metrics} != {not names_of_aspects}:
            raise ValueError(
                f"claims.{claim.id}.aspects: a ranking's metrics have aspects, {' and '.join(RUN_METRICS)} have none"
            )
        places(tables, claim, side)
    for left, right in claim.pairs:
        of = [experiments[side.experiment].dataset for side in (left, right)]
        if of[0] != of[1]:
            raise ValueError(
                f"claims.{claim.id}.pairs: {left.experiment!r} is of {of[0]} and {right.experiment!r} of {of[1]}; "
                f"runs are compared on one data set"
            )
    for dataset in claim.published:
        if dataset not in datasets:
            raise ValueError(f"claims.{claim.id}.published: no data set {dataset!r}{suggestion(dataset, datasets)}")
    least = LEAST.get(claim.kind, 1) * (2 if FIELDS[claim.kind] == "pairs" else 1)
    for dataset, count in datasets.items():
        if count < least:
            raise ValueError(
                f"claims.{claim.id}.{FIELDS[claim.kind]}: a claim of kind {claim.kind!r} takes at least "
                f"{LEAST[claim.kind]} of a data set, found 1 of {dataset}"
            )
