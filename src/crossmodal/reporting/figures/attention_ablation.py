"""Ablation of a system's attention: mean mAP@50 over directions without parts or all of it (CVS thesis, figure 25)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from pydantic import Field

from crossmodal.experiments import Job, Strict
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS, INK
from crossmodal.reporting.results.metrics import distinct

METRIC = "map@50"


class Options(Strict):
    bars: dict[str, list[str]] = Field(
        description="label to experiments, of which the last one that is run here is drawn; all have the same "
        "modalities as the first bar"
    )


class Figure(base.Figure):
    section = base.SPACES
    place = 30
    title = "Attention"
    caption = "Mean mAP@50 with and without parts of the aligned attention."
    Options = Options

    def wanted(self) -> bool:
        return bool(self.options)

    def reads(self) -> list[str]:
        return [self.scope.collected("metrics.parquet")]

    def draw(self) -> str:
        metrics = distinct(self.scope.metrics)
        return attention_ablation({label: average(metrics, job) for label, job in self.bars().items()})

    def bars(self) -> dict[str, Job]:
        """{label: one of the runs whose mean the bar shows}"""
        bars: dict[str, Job] = {}
        for paper, options in self.options.items():
            for label, experiments in options.bars.items():
                chosen = base.last([self.scope.jobs_of(paper, [name]) for name in experiments])
                bars |= {label: chosen[0]} if chosen else {}
        first = next(iter(bars.values()), None)
        return {
            label: job
            for label, job in bars.items()
            if (job.dataset, job.modalities) == (first.dataset, first.modalities)
        }


def average(metrics: pd.DataFrame, job: Job) -> np.ndarray:
    """(S,) mean mAP@50 over all directions in per cent, one per seed of the job."""
    rows = (metrics.dataset == job.dataset) & (metrics.split == job.split) & (metrics["name"] == job.name)
    rows &= (metrics.aspect == "average") & (metrics.metric == METRIC) & (metrics.protocol == "all")
    return metrics[rows].value.to_numpy()


def attention_ablation(bars: Mapping[str, np.ndarray]) -> str:
    """One bar per label that has numbers: its height is their mean, and each number is drawn as a point."""
    bars = {label: values for label, values in bars.items() if len(values)}
    with canvas.style():
        figure = canvas.figure(6.4, 3.2)
        if not bars:
            return canvas.empty(figure, "No run with and without parts of the attention yet.")
        ax = figure.subplots()
        ax.bar([*bars], [values.mean() for values in bars.values()], width=0.55, color=COLOURS[0], alpha=0.35)
        for place, values in enumerate(bars.values()):
            ax.plot([place] * len(values), values, "o", color=COLOURS[0], markersize=4)
            ax.text(place, 1, f"{values.mean():.1f}", ha="center", color=INK)
        ax.set_ylabel("mAP@50 (%), mean over directions")
        return canvas.svg(figure)
