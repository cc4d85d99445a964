"""The base class of figures, the sections of the page, and the scope of runs that a figure is drawn from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from crossmodal.core import registry
from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import read_parquet, write_text
from crossmodal.experiments import Experiment, Job, Plan, Strict, UnreadableError, validated

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Section:
    """A part of the page that holds the figures of one subject.

    Parameters
    ----------
    name : the last part of its address on the page. short : its title in the navigation. title : its heading.
    place : sections stand in the order of their places, and then of their names.
    """

    name: str
    short: str
    title: str
    place: int = 100


ANNOTATION = Section("annotation", "Annotation", "Recall against annotation", 10)
EMBEDDINGS = Section("embeddings", "Embeddings", "Embeddings", 20)
VOCABULARY = Section("vocabulary", "Vocabulary", "Words of regions and of captions", 30)
RECONSTRUCTIONS = Section("reconstructions", "Reconstructions", "Reconstructions", 40)
SPACES = Section("spaces", "Spaces", "Spaces to which modalities are added one at a time", 50)


@dataclass(frozen=True)
class Scope:
    """What a figure is drawn from: jobs of a plan, and the folder with the files collected from their runs.

    Parameters
    ----------
    folder : as the DAG names it: `results`, or `results/quick` for the jobs that are marked `quick`.
    """

    plan: Plan
    jobs: Mapping[str, Job]
    folder: str

    @classmethod
    def of(cls, plan: Plan, quick: bool = False) -> Scope:
        """The scope of all jobs of a plan, or of those marked `quick`."""
        results = plan.params.paths.results
        if quick:
            return cls(plan, {key: job for key, job in plan.jobs.items() if job.quick}, f"{results}/quick")
        return cls(plan, plan.jobs, results)

    @property
    def target(self) -> Path:
        return Path(self.folder)

    @property
    def data(self) -> Path:
        """The folder of the prepared data sets."""
        return Path(self.plan.params.paths.data)

    @property
    def runs(self) -> Path:
        """The folder of all runs, of whatever scope."""
        return Path(self.plan.params.paths.results) / "runs"

    @property
    def titles(self) -> dict[str, str]:
        """{data set: its title}"""
        return {name: dataset.title for name, dataset in self.plan.params.datasets.items()}

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """`metrics.parquet`, as `crossmodal collect` writes it.

        Raises
        ------
        UserError : the file is missing or damaged.
        """
        return read_parquet(self.target / "metrics.parquet")

    def collected(self, name: str) -> str:
        """The path of a file that `crossmodal collect` writes, as the DAG names it."""
        return f"{self.folder}/{name}"

    def files(self, name: str, jobs: Iterable[Job] | None = None) -> list[str]:
        """The paths of the file `name` of each job's run, as the DAG names them; by default of all trained runs."""
        jobs = [job for job in self.jobs.values() if not job.control] if jobs is None else jobs
        return [f"{self.plan.params.paths.results}/runs/{job.key}/{name}" for job in jobs]

    def evaluated(self, name: str, jobs: Iterable[Job] | None = None) -> list[str]:
        """The paths of the file `name` of each task of each run, as the DAG names them."""
        jobs = self.jobs.values() if jobs is None else jobs
        return [path for job in jobs for task in job.tasks for path in self.files(f"{task}/{name}", [job])]

    def prepared(self, dataset: str, name: str) -> str:
        """The path of a file of a prepared data set, as the DAG names it."""
        return f"{self.plan.params.paths.data}/{dataset}/{name}"

    def experiment(self, paper: str, name: str) -> Experiment:
        """An experiment that a paper's block `figures` names.

        Raises
        ------
        UserError : the paper has no experiment of this name.
        """
        experiments = self.plan.papers[paper].experiments
        if name not in experiments:
            raise UserError(
                f"papers/{paper}.yaml: figures: experiment {name!r} is unknown{suggestion(name, experiments)}"
            )
        return experiments[name]

    def jobs_of(self, paper: str, experiments: Iterable[str]) -> list[Job]:
        """The jobs of experiments of a paper that belong to this scope, in the order of the plan.

        Raises
        ------
        UserError : the paper has no such experiment.
        """
        keys: set[str] = set()
        for experiment in [self.experiment(paper, name) for name in experiments]:
            with suppress(UnreadableError):  # there is no such job: its model reads what the data set lacks
                keys |= {self.plan.job(experiment, seed, paper).key for seed in self.plan.params.seeds}
        return [job for key, job in self.jobs.items() if key in keys]


class NoOptions(Strict):
    """The options of a figure that has none."""


class Figure:
    """A figure of a scope. A file of `reporting/figures/` has a class `Figure` that inherits from this one.

    What the class declares, and what `wanted` and `reads` return, is needed when the DAG is built. It must follow from
    the plan alone, since no file of a run or a data set may exist yet.
    """

    section: ClassVar[Section | None] = None
    """The part of the page that it stands in; None for a figure that is not on the page."""
    place: ClassVar[int] = 100
    """Figures of a section stand in the order of their places, and then of their names."""
    title: ClassVar[str] = ""
    """The heading above it, where it is not alone in its section."""
    label: ClassVar[str] = ""
    """Its name for screen readers; by default the title of its section and its own."""
    caption: ClassVar[str] = ""
    """One or more sentences, on the page and in Snakemake's report; names of files stand in pairs of backticks."""
    has_numbers: ClassVar[bool] = False
    """Whether `numbers` gives what is drawn, for `figures/NAME.csv`."""
    Options: ClassVar[type[Strict]] = NoOptions
    """The class of its options in a paper's file, in the block `figures: {NAME: ...}`."""

    def __init__(self, name: str, scope: Scope):
        self.name = name
        self.scope = scope

    @cached_property
    def options(self) -> dict[str, Any]:
        """{paper: its `Options`} for the papers that have a job in the scope and whose files name the figure.

        Raises
        ------
        UserError : the block of a paper's file does not hold such options.
        """
        named = {paper for job in self.scope.jobs.values() for paper in job.papers}
        blocks = {
            paper: self.scope.plan.papers[paper].figures[self.name]
            for paper in self.scope.plan.papers
            if paper in named and self.name in self.scope.plan.papers[paper].figures
        }
        return {
            paper: validated(self.Options, block, f"papers/{paper}.yaml: figures.{self.name}")
            for paper, block in blocks.items()
        }

    def wanted(self) -> bool:
        """Whether the DAG draws it in this scope."""
        return True

    def reads(self) -> list[str]:
        """The files that it is drawn from, as the DAG names them: see `Scope.files`, `collected` and `prepared`."""
        raise NotImplementedError

    def draw(self) -> str:
        """The figure as SVG, with the same bytes each time.

        Raises
        ------
        UserError : a file that it reads is missing or damaged.
        """
        raise NotImplementedError

    def numbers(self) -> str:
        """The numbers that are drawn, as CSV; only called where `has_numbers` is set."""
        raise NotImplementedError

    def shown(self) -> bool:
        """Whether the drawn figure shows anything; otherwise the page leaves it out."""
        return True


def figure(name: str, scope: Scope) -> Figure:
    """The figure of this name for a scope.

    Raises
    ------
    UserError : no figure has this name, or its module has no class `Figure` that inherits from `base.Figure`.
    """
    module = registry.module("figures", name)
    kind = getattr(module, "Figure", None)
    if not (isinstance(kind, type) and issubclass(kind, Figure)) or kind is Figure:
        raise UserError(
            f"figure {name!r} ({module.__name__}): expected a class `Figure` of its own that inherits from "
            f"crossmodal.reporting.figures.base.Figure"
        )
    return kind(name, scope)


def wanted(scope: Scope) -> list[Figure]:
    """The figures that the DAG draws in a scope, in the order of the page; those that are not on it come last.

    Raises
    ------
    UserError : as `figure`; or a paper's file has invalid options for one of them.
    """
    figures = [figure(name, scope) for name in registry.names("figures")]

    def order(drawn: Figure) -> tuple[Any, ...]:
        where = (1, 0, "") if drawn.section is None else (0, drawn.section.place, drawn.section.name)
        return *where, drawn.place, drawn.name

    return [drawn for drawn in sorted(figures, key=order) if drawn.options is not None and drawn.wanted()]


def write(name: str, scope: Scope) -> None:
    """The step of the DAG: write `figures/NAME.svg`, and `figures/NAME.csv` of one with `has_numbers`, in the scope.

    Raises
    ------
    UserError : the figure is unknown or not wanted in this scope, or a file that it reads is missing.
    """
    chosen = figure(name, scope)
    if not chosen.wanted():
        raise UserError(f"figure {name!r}: none of its runs is part of {scope.folder}; see `crossmodal list figures`")
    folder = scope.target / "figures"
    if chosen.has_numbers:
        write_text(folder / f"{name}.csv", chosen.numbers())
    write_text(folder / f"{name}.svg", chosen.draw())


def write_all(scope: Scope) -> None:
    """Write all figures that are wanted in the scope; one that lacks a file is logged and left out.

    Raises
    ------
    UserError : no figure could be written.
    """
    errors: dict[str, UserError] = {}
    figures = wanted(scope)
    for one in tracked(figures, "drawing", unit="figures"):
        try:
            write(one.name, scope)
        except UserError as error:
            errors[one.name] = error
            log.warning("figure %s: left out: %s", one.name, error)
    if figures and len(errors) == len(figures):
        raise next(iter(errors.values()))


def last(choices: Iterable[list[Job]]) -> list[Job]:
    """The last list of jobs that is not empty; an empty list where all are."""
    return next((jobs for jobs in reversed([*choices]) if jobs), [])
