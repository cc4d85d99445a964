"""Annotation efficiency: the mean recall over log-annotations of every system, with its interval."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS
from crossmodal.reporting.results.efficiency import lines, read

FILE = "annotation_efficiency.csv"


class Figure(base.Figure):
    section = base.ANNOTATION
    place = 30
    title = "Annotation efficiency"
    label = "Mean recall over log-annotations"
    caption = (
        "Mean R@10 over log-annotations (area under the curve above, divided by its width), the number of annotated "
        "pairs that a recall requires (by interpolation), and this number as a multiple of that of the best system. "
        "In brackets 95 % "
        "intervals by bootstrap over queries and seeds; all numbers in ``annotation_efficiency.csv``."
    )

    def reads(self) -> list[str]:
        return [self.scope.collected(FILE)]

    def shown(self) -> bool:
        return bool(lines(self._frame(), ["recall@10"]))

    def draw(self) -> str:
        return efficiency(self._frame(), self.scope.titles)

    def _frame(self) -> pd.DataFrame:
        return read(self.scope.target / FILE)


def efficiency(frame: pd.DataFrame, titles: Mapping[str, str], metric: str = "recall@10") -> str:
    """Mean recall over log-annotations with 95 % intervals: one line per system, one panel per data set and direction.

    Parameters
    ----------
    frame : `annotation_efficiency.csv`.
    """
    with canvas.style():
        frame = frame[frame.metric == metric]
        panels = list(dict.fromkeys(zip(frame.dataset, frame.aspect, strict=True)))
        datasets = list(dict.fromkeys(frame.dataset))
        height = 0.9 + 0.32 * (frame.groupby(["dataset", "aspect"]).size().max() if panels else 0)
        figure = canvas.figure(10.2, height * max(1, len(datasets)))
        if not panels:
            return canvas.empty(figure, "One degree of annotation so far: nothing to compare.")
        axes = figure.subplots(len(datasets), 2, squeeze=False, sharex="row")
        for dataset, row in zip(datasets, axes, strict=True):
            for ax, aspect in zip(row, sorted(frame.aspect.unique()), strict=True):
                part = frame[(frame.dataset == dataset) & (frame.aspect == aspect)].sort_values("area")
                names = sorted(frame.system.unique())
                for place, system in enumerate(part.itertuples()):
                    colour = COLOURS[names.index(system.system) % len(COLOURS)]
                    ax.plot([system.area_low, system.area_high], [place, place], color=colour, linewidth=2)
                    ax.plot(system.area, place, marker="o", markersize=6, color=colour)
                labels = [f"{r.system} ({len(r.splits.split())} amounts)" for r in part.itertuples()]
                ax.set_yticks(range(len(part)), labels)
                ax.set_ylim(-0.6, len(part) - 0.4)
                ax.set_xlabel(f"Mean R@{metric.removeprefix('recall@')} over log-annotations (%)")
                ax.set_title(f"{titles.get(dataset, dataset)}: {aspect.replace('-to-', ' to ')}")
        return canvas.svg(figure)
