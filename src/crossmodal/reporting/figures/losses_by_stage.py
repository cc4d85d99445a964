"""Losses of systems that add one modality per stage, by epoch, stage after stage (CVS thesis, figures 22 to 24).

`papers/NAME.yaml` names the systems, each with the experiments of its stages and the loss to be drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import Field

from crossmodal.experiments import Job, Strict
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS, FAINT
from crossmodal.reporting.results import runs


class System(Strict):
    experiments: list[str] = Field(
        description="experiments with increasing numbers of modalities; the last one that is run here is drawn"
    )
    column: str = Field(description="column of a run's history")
    name: str = Field(description="content of the column, in words")


class Options(Strict):
    systems: dict[str, System] = Field(description="title to the contents of each panel")


class Figure(base.Figure):
    section = base.SPACES
    place = 20
    title = "Losses"
    caption = "By epoch, stage after stage; dashed lines separate the stages."
    Options = Options

    def wanted(self) -> bool:
        return bool(self.options)

    def reads(self) -> list[str]:
        chains = [self._chain(job) for _, last in self._systems().values() for job in last]
        return list(dict.fromkeys(file for jobs in chains for file in self.scope.files("history.parquet", jobs)))

    def draw(self) -> str:
        panels = {}
        for title, (system, last) in self._systems().items():
            parts = [losses(self._chain(job), self.scope.runs, system.column) for job in last]
            panels[f"{title}: {system.name}"] = [part for part in parts if part is not None]
        return losses_by_stage(panels)

    def _systems(self) -> dict[str, tuple[System, list[Job]]]:
        """{title: the system, and the jobs of the last of its experiments that belongs to the scope}"""
        systems = {}
        for paper, options in self.options.items():
            for title, system in options.systems.items():
                systems[title] = (system, base.last([self.scope.jobs_of(paper, [e]) for e in system.experiments]))
        return systems

    def _chain(self, job: Job) -> list[Job]:
        return chain(job, self.scope.jobs)


def chain(job: Job, jobs: Mapping[str, Job]) -> list[Job]:
    """A job and those that it continues, the first stage first."""
    stages = [job]
    while (before := stages[0].before) in jobs:
        stages.insert(0, jobs[before])
    return stages


def losses(stages: list[Job], folder: Path, column: str) -> list[np.ndarray] | None:
    """One column of the histories of a run's stages, an array per stage; None where a stage has no such history.

    Parameters
    ----------
    folder : `results/runs`.
    """
    parts = [runs.history(folder / job.key) for job in stages]
    return [part[column].to_numpy() for part in parts] if all(len(part) and column in part for part in parts) else None


def losses_by_stage(panels: Mapping[str, list[list[np.ndarray]]]) -> str:
    """One panel per system: thin lines are runs, the thick one is their mean, and dashes separate the stages.

    Parameters
    ----------
    panels : title to the runs of a system, each a list of the losses of its stages by epoch.
    """
    with canvas.style():
        figure = canvas.figure(10.2, 3.2)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, runs_of), colour in zip(axes, panels.items(), COLOURS, strict=False):
            ax.set_title(title)
            ax.set_xlabel("Epoch")
            if not runs_of:
                ax.text(0.5, 0.5, "not made yet", transform=ax.transAxes, ha="center", color=FAINT)
                continue
            curves = [np.concatenate(stages) for stages in runs_of]
            for curve in curves:
                ax.plot(np.arange(1, len(curve) + 1), curve, color=colour, linewidth=0.8, alpha=0.4)
            mean = np.mean([curve[: min(map(len, curves))] for curve in curves], axis=0)
            ax.plot(np.arange(1, len(mean) + 1), mean, color=colour, linewidth=2)
            for end in np.cumsum([len(part) for part in runs_of[-1]])[:-1]:
                ax.axvline(end + 0.5, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
            ax.set_ylim(bottom=0)
            ax.xaxis.get_major_locator().set_params(integer=True)
        return canvas.svg(figure)
