"""mAP@50 of every ordered pair of modalities, as heat maps (CVS thesis, tables 7 to 11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.modalities import MODALITIES
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import INK
from crossmodal.reporting.results.metrics import distinct

METRIC = "map@50"


class Figure(base.Figure):
    section = base.SPACES
    place = 70
    title = "Directions"
    caption = "mAP@50 of every direction: rows are queries, columns the gallery."

    def wanted(self) -> bool:
        return any(len(job.modalities) > 2 for job in self.scope.jobs.values())

    def reads(self) -> list[str]:
        return [self.scope.collected("metrics.parquet")]

    def draw(self) -> str:
        return directions(distinct(self.scope.metrics), self.scope.titles)


def directions(metrics: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """mAP@50 of every ordered pair of modalities as heat maps, one per model with more than two modalities."""
    numbers = (metrics.metric == METRIC) & (metrics.protocol == "all") & metrics.aspect.str.contains("-to-")
    frame = metrics[numbers & (metrics.split == "full") & (metrics.model != "oracle")]
    means = frame.groupby(["dataset", "name", "aspect"], sort=True).value.mean()
    panels = [(key, part.droplevel([0, 1])) for key, part in means.groupby(level=[0, 1]) if len(part) > 2]
    with canvas.style():
        rows = max(1, -(-len(panels) // 3))
        figure = canvas.figure(10.2, 3.5 * rows)
        if not panels:
            return canvas.empty(figure, "No run of more than two modalities yet.")
        axes = figure.subplots(rows, 3, squeeze=False).ravel()
        for ax, ((dataset, name), values) in zip(axes, panels, strict=False):
            _heat(ax, values)
            ax.set_title(f"{name}, mean {values.mean():.1f}\n{titles.get(dataset, dataset)}", fontsize=8)
        for ax in axes[len(panels) :]:
            ax.remove()
        return canvas.svg(figure)


def _heat(ax: Any, values: pd.Series) -> None:
    names = [m for m in MODALITIES if f"{m}-to-" in " ".join(values.index)]
    grid = np.array([[values.get(f"{a}-to-{b}", np.nan) for b in names] for a in names])
    ax.imshow(grid, vmin=0, vmax=100, cmap="Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=INK if value < 60 else "#ffffff")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylabel("query")
    ax.grid(False)
