"""Experiments and tables of a paper in its YAML file: what is trained, and the published numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import Field, field_validator, model_validator

from crossmodal.core.errors import suggestion
from crossmodal.experiments.settings import Strict
from crossmodal.experiments.sweeps import check_values
from crossmodal.tasks.base import aspects, metric, metric_names

SPLIT = r"full|none|[1-9]\d?pct-[1-5]cap|classes[1-9]\d?of[1-9]\d?"
VARIANT = r"[a-z0-9][a-z0-9_+-]*"
SPLIT_FORM = (
    "the name of a subset: `full`, `none`, one such as `10pct-2cap` (two captions of each of 10 % of the images), or "
    "one such as `classes2of4` (the second of four groups of classes)"
)
VARIANT_FORM = "lower-case letters, digits, `_`, `+` and `-`, the first a letter or digit; empty for no variant"
ID_FORM = "lower-case letters, digits and `-`"
DIRECTIONS = ("image-to-text", "text-to-image")


class Experiment(Strict):
    """A model that a paper trains, with its settings; with the seeds of params.yaml it becomes jobs."""

    model: str
    dataset: str
    split: str = Field("full", pattern=f"^({SPLIT})$", description=SPLIT_FORM)
    variant: str = Field("", pattern=f"^({VARIANT})?$", description=VARIANT_FORM)
    settings: dict[str, Any] = Field({}, description="settings for every data set")
    published: dict[str, Any] = Field({}, description="settings for the named data set only")
    stand_in: dict[str, Any] = Field({}, description="settings where another data set stands in for the named one")
    encoder: str | None = Field(
        None, description="one of `encoders` in params.yaml, whose features are read in place of those of the data set"
    )
    sweep: dict[str, list[Any]] = Field(
        {}, description="settings to lists of values, whose best combination on validation items is trained"
    )
    source: str | None = Field(None, description="labelled data set from which knowledge is transferred")
    after: str | None = Field(None, description="another experiment, from whose trained weights this one starts")
    also: tuple[str, ...] = Field((), description="tasks that the run is evaluated on besides those of its model")
    quick: bool = False
    map: bool = Field(False, description="whether its embeddings are drawn in two dimensions")
    gallery: bool = Field(False, description="whether its answers are shown together with those of the best systems")

    @field_validator("sweep")
    @classmethod
    def _several(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        check_values(value)
        return value

    @model_validator(mode="after")
    def _swept(self) -> Experiment:
        fixed = {**self.settings, **self.published, **self.stand_in}
        if twice := [name for name in self.sweep if name in fixed]:
            raise ValueError(f"sweep: {twice[0]} has a value in `settings`, too; keep one of them")
        return self


class Column(Strict):
    aspect: str = Field(description="image-to-text, ..., average, both, or another aspect that a task measures")
    metric: str = Field(description="recall@K, pair_recall@K, map@K, ndcg@K, map, map@R, recall_sum, median_rank, ...")
    system: str | None = Field(None, description="name of a system, in tables with one column per system")
    protocol: str | None = Field(None, description="`first`, `seen` or `unseen`: only test items of those classes")


class Row(Strict):
    label: str
    group: str | None = None
    source: str | None = Field(None, description="source of the numbers, if the paper quotes them from elsewhere")
    dataset: str | None = None
    split: str | None = None
    protocol: str | None = Field(None, description="protocol of the columns that name none")
    extra: dict[str, Any] = Field(
        {},
        description="published columns before the numbers; the values of our run are shown next to them, where its "
        "settings or its manifest have the key",
    )
    published: list[float | None] = Field([], description="one number or null per column; none at all: nothing is")
    experiment: str | dict[str, str] | None = Field(None, description="an experiment, or one per system")
    differs: str | None = Field(
        None, description="how the trained experiment differs from the published one apart from its settings"
    )
    note: str | None = None

    def experiment_of(self, column: Column) -> str | None:
        """The name of the experiment that fills the cell of a column."""
        return self.experiment.get(column.system or "") if isinstance(self.experiment, dict) else self.experiment


class Table(Strict):
    id: str = Field(pattern=r"^[a-z0-9-]+$", description=ID_FORM)
    title: str
    source: str = Field("", description="document and table that contain the numbers")
    dataset: str
    split: str = "full"
    protocol: str = Field("", description="data on which the published numbers were measured, in words")
    folds: int = Field(1, description="folds of the test set whose mean the paper reports")
    baseline: str | None = Field(
        None, description="label of the row against which the others are tested; by default the best"
    )
    columns: list[Column]
    rows: list[Row]
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _unpublished(cls, value: Any) -> Any:
        """Give rows that name no published numbers a null per column."""
        if not isinstance(value, Mapping) or not all(isinstance(value.get(key), list) for key in ("rows", "columns")):
            return value
        nothing = {"published": [None] * len(value["columns"])}
        return {**value, "rows": [{**nothing, **row} if isinstance(row, Mapping) else row for row in value["rows"]]}

    @property
    def has_published(self) -> bool:
        """Whether any number of the table is published; tables of one's own have none."""
        return any(number is not None for row in self.rows for number in row.published)

    @cached_property
    def cells_of(self) -> dict[tuple[str, str, str], list[tuple[Row, Column, float | None]]]:
        """{(experiment, aspect, metric): the rows, columns and published numbers of its cells} of cells that have one.

        Cells are in the order of rows, then columns.
        """
        cells: dict[tuple[str, str, str], list[tuple[Row, Column, float | None]]] = {}
        for row in self.rows:
            for column, number in zip(self.columns, row.published, strict=True):
                if (experiment := row.experiment_of(column)) is not None:
                    cells.setdefault((experiment, column.aspect, column.metric), []).append((row, column, number))
        return cells

    @property
    def extra_keys(self) -> list[str]:
        """The names of the columns before the numbers."""
        return list(dict.fromkeys(key for row in self.rows for key in row.extra))

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
            if row.differs is not None and row.experiment is None:
                raise ValueError(
                    f"table {self.id}, row {row.label!r}: differs: no `experiment` is named that could differ from "
                    f"what was published"
                )
        return self


def check_names(table: Table) -> None:
    """Check a table for misspelt metrics and directions, which no run would measure; a model may define others.

    Raises
    ------
    ValueError : a metric or a direction is unknown but similar to a known one.
    """
    for column in table.columns:
        metrics = metric_names()
        near = "@" in column.metric or difflib.get_close_matches(column.metric.lower(), metrics, 1, 0.75)
        if metric(column.metric) is None and near:
            meant = suggestion(column.metric.lower(), metrics)
            raise ValueError(
                f"table {table.id}: metric {column.metric!r} is unknown{meant}, where the number after @ may be any"
            )
        allowed = aspects()
        if column.aspect not in allowed and difflib.get_close_matches(column.aspect, allowed, 1, 0.75):
            raise ValueError(
                f"table {table.id}: direction {column.aspect!r} is unknown" + suggestion(column.aspect, allowed)
            )


def named_experiments(row: Row) -> list[str]:
    """The experiments that fill a row: none, one, or one per system of the columns."""
    if row.experiment is None:
        return []
    return [row.experiment] if isinstance(row.experiment, str) else list(row.experiment.values())
