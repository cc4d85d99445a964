"""papers/*.yaml as pydantic models: the experiments of a paper, its printed tables, and its claims."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from crossmodal.core import registry
from crossmodal.core.errors import UserError, suggestion
from crossmodal.experiments import claims as claiming
from crossmodal.experiments.claims import Claim
from crossmodal.experiments.settings import Strict, read_yaml, validated
from crossmodal.experiments.tables import Experiment, Row, Table, check_names, named_experiments
from crossmodal.tasks.base import CONTROLS, tasks


class Paper(Strict):
    name: str = ""
    title: str
    authors: str | None = Field(None, description="none for a comparison of one's own")
    venue: str | None = None
    year: int | None = None
    doi: str | None = Field(None, description="venue of the paper; empty for a thesis")
    experiments: dict[str, Experiment] = Field({})
    tables: list[Table]
    claims: list[Claim] = Field([], description="claims of the paper, as comparisons that are tested on our runs")
    figures: dict[str, dict[str, Any]] = Field({}, description="figures of this paper: name of a figure to its options")

    @property
    def reference(self) -> str:
        """Authors, venue, year and DOI as one phrase; empty for a comparison of one's own, which gives none."""
        printed = " ".join(str(part) for part in (self.venue, self.year) if part)
        return ", ".join(filter(None, [self.authors, printed, self.doi and f"doi:{self.doi}"]))

    @property
    def credit(self) -> str:
        """What stands behind the title in a list of references: `Authors. Venue, year.`"""
        printed = ", ".join(str(part) for part in (self.venue, self.year) if part)
        return " ".join(f"{part}." for part in (self.authors, printed) if part)

    def dataset_of(self, table: Table, row: Row) -> str:
        """The data set of a row: the one that it names, else the one of all its experiments, else the table's."""
        trained = {self.experiments[name].dataset for name in named_experiments(row)}
        return row.dataset or (trained.pop() if len(trained) == 1 else table.dataset)

    @model_validator(mode="after")
    def _experiments(self) -> Paper:
        for name, experiment in self.experiments.items():
            chain = [name]
            while experiment.after is not None:
                if experiment.after not in self.experiments:
                    raise ValueError(
                        f"experiments.{chain[-1]}.after: no experiment {experiment.after!r}"
                        + suggestion(experiment.after, self.experiments)
                    )
                if experiment.after in chain:
                    raise ValueError(f"experiments.{name}.after: begins from itself, by way of {', '.join(chain)}")
                chain.append(experiment.after)
                experiment = self.experiments[experiment.after]
        for table in self.tables:
            if any(named_experiments(row) for row in table.rows):  # other tables hold published numbers only
                check_names(table)
            for row in table.rows:
                for name in named_experiments(row):
                    if name not in self.experiments:
                        raise ValueError(
                            f"table {table.id}, row {row.label!r}: no experiment {name!r}"
                            + suggestion(name, self.experiments)
                        )
        claiming.check(self.experiments, self.tables, self.claims)
        return self


def read_papers(names: Iterable[str], folder: str | Path = "papers") -> dict[str, Paper]:
    folder = Path(folder)
    available = sorted(path.stem for path in folder.glob("*.yaml"))
    papers = {}
    for name in names:
        if name not in available:
            raise UserError(f"params.yaml: papers: no {folder / name}.yaml{suggestion(name, available)}")
        path = folder / f"{name}.yaml"
        paper = validated(Paper, {**read_yaml(path), "name": name}, str(path))
        for key, experiment in paper.experiments.items():
            if experiment.model not in (*registry.names("models"), *CONTROLS):
                raise UserError(
                    f"{path}: experiments.{key}.model: model {experiment.model!r} is unknown"
                    + suggestion(experiment.model, registry.names("models"))
                )
            for task in experiment.also:
                if task not in tasks():
                    raise UserError(
                        f"{path}: experiments.{key}.also: task {task!r} is unknown" + suggestion(task, tasks())
                    )
                if experiment.model in CONTROLS or not tasks()[task].answers(experiment.model):
                    raise UserError(
                        f"{path}: experiments.{key}.also: model {experiment.model!r} has no method for the task "
                        f"{task!r}; choose another model, or leave the task out"
                    )
        for figure in paper.figures:
            if figure not in registry.names("figures"):
                raise UserError(
                    f"{path}: figures.{figure}: figure {figure!r} is unknown"
                    + suggestion(figure, registry.names("figures"))
                )
        papers[name] = paper
    return papers
