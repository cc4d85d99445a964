"""Recall at 10 against the share of annotated training pairs (A3VSE, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS, FAINT, INK, MARKERS
from crossmodal.reporting.results.metrics import distinct
from crossmodal.reporting.results.shares import captions, share
from crossmodal.tasks.base import label as metric_label


class Figure(base.Figure):
    section = base.ANNOTATION
    place = 10
    label = "Recall at 10 against annotation"
    caption = (
        "R@10 on the whole test set against the share of annotated training pairs. Points are runs; lines "
        "connect the means over seeds."
    )

    def reads(self) -> list[str]:
        return [self.scope.collected("metrics.parquet")]

    def draw(self) -> str:
        return annotation(self.scope.metrics, self.scope.titles)


class Annotated(NamedTuple):
    """The runs of a figure of recalls against annotation: one row per run and direction, with its share."""

    trained: pd.DataFrame  # runs of systems that were trained with at least two shares
    free: pd.DataFrame  # runs of systems that take no pairs
    controls: pd.DataFrame  # runs of the control `chance`


def annotated(metrics: pd.DataFrame, metric: str) -> Annotated:
    """The runs to draw in a figure of `metric` against the share of annotated pairs.

    Numbers of the whole test set are taken where it was ranked.
    """
    frame = distinct(metrics[(metrics.metric == metric)])
    frame = frame[frame.protocol == "all"] if (frame.protocol == "all").any() else frame
    frame = frame.assign(share=[share(s) for s in frame.split], captions=[captions(s) for s in frame.split])
    controls = frame[frame.model == "chance"]
    frame = frame[~frame.model.isin(["chance", "oracle"])].dropna(subset=["share"])
    free, frame = frame[frame.share == 0], frame[frame.share > 0]
    return Annotated(frame[frame.groupby(["dataset", "name"]).share.transform("nunique") > 1], free, controls)


def annotation(
    metrics: pd.DataFrame,
    titles: Mapping[str, str],
    metric: str = "recall@10",
    meetings: pd.DataFrame | None = None,
) -> str:
    """A recall or another metric against the share of annotated pairs, on a log scale (A3VSE, figure 1).

    There is one line per model and one panel per direction. Points are runs, and their shape shows the captions per
    image; lines go through the means at each share. Models with a single share are left out, except those that take no
    pairs, which are drawn as a level to be reached.

    Parameters
    ----------
    meetings : where curves of this metric meet, as `crossovers.meetings` gives it; drawn as rings, with one line of
        text per pair of systems below the panel.
    """
    with canvas.style():
        frame, free, controls = annotated(metrics, metric)
        datasets = sorted(frame.dataset.unique())
        if not datasets:
            return canvas.empty(canvas.figure(10.2, 3.5), "One degree of annotation so far: nothing to compare.")
        directions = sorted(frame.aspect.unique())
        notes = {} if meetings is None else _told(meetings)
        figure = canvas.figure(10.2, (3.5 + 0.16 * max(map(len, notes.values()), default=0)) * len(datasets))
        axes = figure.subplots(len(datasets), len(directions), squeeze=False, sharey="row")
        for row, dataset in zip(axes, datasets, strict=True):
            part = frame[frame.dataset == dataset]
            names = sorted(part["name"].unique())
            for ax, aspect in zip(row, directions, strict=True):
                here = part[part.aspect == aspect]
                for name in names:
                    runs = here[here["name"] == name]
                    colour = COLOURS[names.index(name) % len(COLOURS)]
                    mean = runs.groupby("share").value.mean()
                    ax.plot(mean.index, mean, color=colour, linewidth=2, label=name)
                    for n, points in runs.groupby("captions"):
                        ax.plot(
                            points.share,
                            points.value,
                            linestyle="none",
                            marker=MARKERS[int(n) - 1],
                            markersize=5,
                            markerfacecolor=colour,
                            markeredgecolor="none",
                            alpha=0.75,
                        )
                floor = controls[(controls.dataset == dataset) & (controls.aspect == aspect)].value
                level = free[(free.dataset == dataset) & (free.aspect == aspect)]
                for name, value in level.groupby("name").value.mean().items():
                    ax.axhline(value, color=INK, linewidth=1, linestyle=(0, (4, 2)), label=f"{name}, no pairs")
                if len(floor):
                    ax.axhline(floor.mean(), color=FAINT, linewidth=1, linestyle=(0, (2, 2)), label="chance")
                ax.set_xscale("log")
                least = part.share.min()
                ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if tick >= least]
                ax.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
                ax.minorticks_off()
                ax.set_xlabel("Annotated pairs")
                ax.set_ylim(0, None)
                ax.set_title(f"{titles.get(dataset, dataset)}: {aspect.replace('-to-', ' to ')}")
                if (dataset, aspect) in notes:
                    here = meetings[(meetings.dataset == dataset) & (meetings.aspect == aspect)]
                    ax.plot(here.share, here.value, **_RING)
                    options = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "fontsize": 8}
                    ax.annotate("\n".join(notes[dataset, aspect]), (0, 0), (0, -36), color=INK, **options)
            row[0].set_ylabel(f"{metric_label(metric)} (%)" if metric.startswith("recall") else metric_label(metric))
            handles, labels = row[-1].get_legend_handles_labels()
            for n in sorted(part.captions.unique()):
                handles.append(_marker(n))
                labels.append(f"{n} caption{'s' if n > 1 else ''} per image")
            row[-1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
        return canvas.svg(figure)


_RING = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 9,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.4,
    "zorder": 5,
}


def _told(meetings: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """{(data set, aspect): one line of text per pair of systems}"""
    notes: dict[tuple[str, str], list[str]] = {}
    for row in meetings.itertuples():
        notes.setdefault((row.dataset, row.aspect), []).append(f"{row.system} meets {row.other}: {met(row.share)}")
    return notes


def met(place: float) -> str:
    """The share of annotated pairs at which two curves meet, in words."""
    return "none in range" if pd.isna(place) else f"at {place:.3g} % of the pairs"


def _marker(n: int) -> Any:
    return canvas.sign(MARKERS[int(n) - 1], FAINT)
