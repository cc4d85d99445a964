"""Measured time per iteration as modalities are added (CVS thesis, figure 27).

CVS trains all modalities anew when one is added; M-CVS and RVS train the new one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd
from pydantic import Field

from crossmodal.experiments import Job, Strict
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS
from crossmodal.reporting.results import runs

COLUMNS = ("model", "modalities", "run", "milliseconds")


class Options(Strict):
    systems: dict[str, list[str]] = Field(description="title to the experiments whose runs are measured")


class Figure(base.Figure):
    section = base.SPACES
    place = 50
    title = "Time"
    caption = "Milliseconds per iteration as modalities are added, measured."
    has_numbers = True
    Options = Options

    def wanted(self) -> bool:
        return bool(self.options)

    def reads(self) -> list[str]:
        return self.scope.files("history.parquet", [job for jobs in self._systems().values() for job in jobs])

    @cached_property
    def measured(self) -> pd.DataFrame:
        titles = {job.key: title for title, jobs in self._systems().items() for job in jobs}
        jobs = [job for key, job in self.scope.jobs.items() if key in titles]
        frame = times(jobs, self.scope.runs)
        return frame.assign(system=frame.run.map(titles))

    def draw(self) -> str:
        return time_per_iteration(self.measured, list(self._systems()))

    def numbers(self) -> str:
        return self.measured[list(COLUMNS)].to_csv(index=False, float_format="%.3f")

    def _systems(self) -> dict[str, list[Job]]:
        return {
            title: self.scope.jobs_of(paper, experiments)
            for paper, options in self.options.items()
            for title, experiments in options.systems.items()
        }


def times(jobs: list[Job], folder: Path) -> pd.DataFrame:
    """Measured milliseconds per iteration in the columns `COLUMNS`, one row per run that has been trained.

    Parameters
    ----------
    folder : `results/runs`.
    """
    rows = []
    for job in jobs:
        spent = runs.milliseconds(folder / job.key)
        if spent is not None:
            rows.append((job.model, len(job.modalities), job.key, spent))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def time_per_iteration(measured: pd.DataFrame, systems: Sequence[str]) -> str:
    """Time per iteration against the number of modalities: points are runs, and one line per system joins their means.

    Parameters
    ----------
    measured : columns as `times` gives them, and `system`.
    systems : titles, in the order of the legend.
    """
    with canvas.style():
        figure = canvas.figure(5.4, 3.2)
        if measured.empty:
            return canvas.empty(figure, "No run has been trained yet.")
        ax = figure.subplots()
        for title, colour in zip(systems, COLOURS, strict=False):
            part = measured[measured.system == title]
            mean = part.groupby("modalities").milliseconds.mean()
            ax.plot(part.modalities, part.milliseconds, "o", color=colour, markersize=4, alpha=0.5)
            ax.plot(mean.index, mean, marker="D" if len(mean) == 1 else "", color=colour, linewidth=2, label=title)
        ax.set_xticks(sorted(measured.modalities.unique()))
        ax.set_xlabel("Modalities")
        ax.set_ylabel("Milliseconds per iteration")
        ax.set_ylim(bottom=0)
        ax.legend()
        return canvas.svg(figure)
