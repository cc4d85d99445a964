"""Learning curves and recall against annotation, as SVG of the same bytes each time.

Drawn on matplotlib's `Figure` alone: no window, no global state. `inline` makes them follow a page's colours.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossmodal.errors import UserError
from crossmodal.files import write_text
from crossmodal.reporting.collect import distinct
from crossmodal.reporting.runs import CRITERIA

INK, FAINT, GRID = "#22262e", "#6b7280", "#d9dce3"
COLOURS = ("#3f6fd8", "#dd7a2b", "#25967a", "#b0509c", "#c9a227", "#d0494c", "#6a7fa0", "#7d8f2f")
STYLES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (8, 3)))
MOST_LINES = 14  # of a panel
MARKERS = {1: "o", 2: "s", 3: "^", 4: "v", 5: "D"}
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crossmodal",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def _figure(width: float, height: float, **options: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", **options)
    FigureCanvasAgg(figure)
    return figure


def _context() -> Any:
    import matplotlib

    return matplotlib.rc_context(_RC)


def _svg(figure: Any) -> str:
    _take_literally(figure)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return stream.getvalue()


def _take_literally(figure: Any) -> None:
    """Have dollars in names and captions be dollars: matplotlib would read them as formulas, and fail at most.

    The labels of axes of numbers are matplotlib's own, which are formulas where they are powers.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter, ScalarFormatter

    numbers: set[int] = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        numbers.add(id(axis.offsetText))
        kinds = ((axis.get_major_formatter, axis.get_major_ticks), (axis.get_minor_formatter, axis.get_minor_ticks))
        for formatter, ticks in kinds:
            if isinstance(formatter(), LogFormatter | ScalarFormatter):
                numbers.update(id(label) for tick in ticks() for label in (tick.label1, tick.label2))
    for text in figure.findobj(Text):
        if id(text) not in numbers:
            text.set_parse_math(False)


def share(split: str) -> float:
    """Annotated pairs of a split in per cent of all: 100 for `full`, 4 for `10pct-2cap` (of five captions)."""
    if split in ("full", "none"):
        return 100.0 if split == "full" else 0.0
    found = re.fullmatch(r"(\d+)pct-(\d)cap", split)
    return int(found[1]) * int(found[2]) / 5 if found else float("nan")


def captions(split: str) -> int:
    """Captions an image that a split keeps, of five."""
    found = re.fullmatch(r"\d+pct-(\d)cap", split)
    return int(found[1]) if found else 5


def ordered_splits(splits: Iterable[str]) -> list[str]:
    """Each split once, the most annotation first; those that are no share of the annotation, by name, last."""
    return sorted(set(splits), key=lambda s: (-np.nan_to_num(share(s), nan=-1.0), s))


def learning_curves(histories: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """The criterion on validation items and the training loss by epoch: thin lines are runs, thick ones their means.

    A row of axes for each data set; a colour for each model, a dash for each split. Where that makes too many lines,
    those of the most annotation alone.
    """
    with _context():
        histories = histories.dropna(subset=["epoch"]) if len(histories) else histories
        datasets = sorted(histories.dataset.unique()) if len(histories) else []
        figure = _figure(10.2, 3.5 * max(1, len(datasets)))
        if not datasets:
            return _svg(_empty(figure, "No run has been trained yet."))
        axes = figure.subplots(len(datasets), 2, squeeze=False)
        for (left, right), dataset in zip(axes, datasets, strict=True):
            part = histories[histories.dataset == dataset]
            names, splits = sorted(part.name.unique()), ordered_splits(part.split)
            criterion, what = _criterion(part)
            if len(part.drop_duplicates(["name", "split"])) > MOST_LINES:
                splits = splits[:1]
            for name in names:
                for split in splits:
                    runs = part[(part.name == name) & (part.split == split)]
                    look = {
                        "color": COLOURS[names.index(name) % len(COLOURS)],
                        "linestyle": STYLES[splits.index(split) % len(STYLES)],
                    }
                    label = name if split == "full" else f"{name}, {split}"
                    for ax, column in ((left, criterion), (right, "loss")):
                        if len(runs) and column in runs and runs[column].notna().any():
                            _curve(ax, runs, column, label, look)
            only = f" ({splits[0]})" if len(splits) == 1 and splits[0] != "full" else ""
            left.set_title(f"{titles.get(dataset, dataset)}{only}: {what}, validation")
            right.set_title("Training loss")
            for ax in (left, right):
                ax.set_xlabel("Epoch")
                ax.set_xlim(left=min(1, part.epoch.min()), right=max(2, part.epoch.max()))
                ax.xaxis.get_major_locator().set_params(integer=True)
            left.set_ylim(bottom=0)
            right.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
        return _svg(figure)


def _criterion(histories: pd.DataFrame) -> tuple[str, str]:
    """The column by which epochs were chosen, and what it is called."""
    there = [column for column in CRITERIA if column in histories and histories[column].notna().any()]
    column = next(iter(there or CRITERIA))
    return column, CRITERIA[column]


def _curve(ax: Any, runs: pd.DataFrame, column: str, label: str, look: dict[str, Any]) -> None:
    if runs.seed.nunique() > 1:
        for _, run in runs.groupby("seed"):
            ax.plot(run.epoch, run[column], linewidth=0.8, alpha=0.35, **look)
    mean = runs.groupby("epoch")[column].mean()
    ax.plot(mean.index, mean, linewidth=2, label=label, **look)


class Annotated(NamedTuple):
    """The runs of a figure of recalls against annotation: one row per run and direction, with its share."""

    trained: pd.DataFrame  # of systems of at least two shares, of data sets with such
    free: pd.DataFrame  # of systems that take no pairs
    controls: pd.DataFrame  # of chance


def annotated(metrics: pd.DataFrame, metric: str) -> Annotated:
    """What is drawn of a recall against the share of annotated pairs, of the whole test set where that was ranked."""
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
    """A recall against the share of annotated pairs, on a log scale (A3VSE, figure 1).

    One line per model and one panel per direction. Points are runs, whose shape tells the captions per image; lines go
    through the means at each share. Models with a single share are left out, but for those that take no pairs: they are
    a level to be reached.

    Parameters
    ----------
    meetings : where curves of this metric meet, as `crossovers.meetings` finds it: rings, and a line below the panel.
    """
    with _context():
        frame, free, controls = annotated(metrics, metric)
        datasets = sorted(frame.dataset.unique())
        if not datasets:
            return _svg(_empty(_figure(10.2, 3.5), "One degree of annotation so far: nothing to compare."))
        directions = sorted(frame.direction.unique())
        told = {} if meetings is None else _told(meetings)
        figure = _figure(10.2, (3.5 + 0.16 * max(map(len, told.values()), default=0)) * len(datasets))
        axes = figure.subplots(len(datasets), len(directions), squeeze=False, sharey="row")
        for row, dataset in zip(axes, datasets, strict=True):
            part = frame[frame.dataset == dataset]
            names = sorted(part["name"].unique())
            for ax, direction in zip(row, directions, strict=True):
                here = part[part.direction == direction]
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
                            marker=MARKERS.get(int(n), "o"),
                            markersize=5,
                            markerfacecolor=colour,
                            markeredgecolor="none",
                            alpha=0.75,
                        )
                floor = controls[(controls.dataset == dataset) & (controls.direction == direction)].value
                level = free[(free.dataset == dataset) & (free.direction == direction)]
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
                ax.set_title(f"{titles.get(dataset, dataset)}: {direction.replace('-to-', ' to ')}")
                if (dataset, direction) in told:
                    here = meetings[(meetings.dataset == dataset) & (meetings.direction == direction)]
                    ax.plot(here.share, here.value, **_RING)
                    options = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "fontsize": 8}
                    ax.annotate("\n".join(told[dataset, direction]), (0, 0), (0, -36), color=INK, **options)
            row[0].set_ylabel(f"R@{metric.removeprefix('recall@')} (%)")
            handles, labels = row[-1].get_legend_handles_labels()
            for n in sorted(part.captions.unique()):
                handles.append(_marker(n))
                labels.append(f"{n} caption{'s' if n > 1 else ''} an image")
            row[-1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
        return _svg(figure)


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
    """{(data set, direction): a line for each two systems}"""
    found: dict[tuple[str, str], list[str]] = {}
    for one in meetings.itertuples():
        found.setdefault((one.dataset, one.direction), []).append(f"{one.system} meets {one.other}: {met(one.share)}")
    return found


def met(place: float) -> str:
    """The share of annotated pairs at which two curves meet, in words."""
    return "none in range" if pd.isna(place) else f"at {place:.3g} % of the pairs"


def embeddings(panels: Mapping[str, np.ndarray]) -> str:
    """Vectors in two dimensions (A3VSE, figure 3): images blue, captions red, a line from each image to its caption.

    Parameters
    ----------
    panels : title to the (2n, 2) places of n images and then of their captions.
    """
    with _context():
        rows = max(1, -(-len(panels) // 3))
        figure = _figure(10.2, 3.6 * rows)
        if not panels:
            return _svg(_empty(figure, "No run with vectors yet of an experiment with map: true."))
        axes = figure.subplots(rows, min(3, len(panels)), squeeze=False).ravel()
        for ax, (title, places) in zip(axes, panels.items(), strict=False):
            ends = places.reshape(2, -1, 2)
            ax.plot(*ends.transpose(2, 0, 1), color=GRID, linewidth=0.7, zorder=1)
            for points, colour, name in zip(ends, (COLOURS[0], COLOURS[5]), ("image", "caption"), strict=True):
                ax.scatter(*points.T, s=9, color=colour, linewidths=0, label=name, zorder=2)
            ax.set_title(title)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[["left", "bottom"]].set_visible(False)
        for ax in axes[len(panels) :]:
            ax.remove()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, markerscale=2)
        return _svg(figure)


def transformation(panels: Mapping[str, np.ndarray], modalities: np.ndarray, labels: np.ndarray) -> str:
    """Items in two dimensions, panels side by side: colours are modalities, shapes are classes (CVS thesis, figure 9).

    Parameters
    ----------
    panels : title to the (n, 2) places of the items. modalities, labels : (n,) of each; one shape per class.
    """
    kinds, names = list(dict.fromkeys(labels.tolist())), list(dict.fromkeys(modalities.tolist()))
    with _context():
        figure = _figure(10.2, 5.0)
        for ax, (title, places) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            for colour, name in zip(COLOURS, names, strict=False):
                for marker, kind in zip(MARKERS.values(), kinds, strict=False):
                    points = places[(modalities == name) & (labels == kind)]
                    ax.scatter(*points.T, s=24, marker=marker, color=colour, linewidths=0, alpha=0.8)
            ax.set_title(title)
            ax.grid(False)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[["left", "bottom"]].set_visible(False)
        shown = [(_sign("o", colour), name) for colour, name in zip(COLOURS, names, strict=False)]
        shown += [
            (_sign(marker, FAINT), f"class {n}") for n, marker in enumerate(MARKERS.values(), 1) if n <= len(kinds)
        ]
        figure.legend(*zip(*shown, strict=True), loc="outside lower left", ncols=len(shown))
        return _svg(figure)


def efficiency(frame: pd.DataFrame, titles: Mapping[str, str], metric: str = "recall@10") -> str:
    """Mean recall over log-annotations with its 95 % interval: a line a system, a panel a direction, of each data set.

    Parameters
    ----------
    frame : `annotation_efficiency.csv`.
    """
    with _context():
        frame = frame[frame.metric == metric]
        panels = list(dict.fromkeys(zip(frame.dataset, frame.direction, strict=True)))
        datasets = list(dict.fromkeys(frame.dataset))
        height = 0.9 + 0.32 * (frame.groupby(["dataset", "direction"]).size().max() if panels else 0)
        figure = _figure(10.2, height * max(1, len(datasets)))
        if not panels:
            return _svg(_empty(figure, "One degree of annotation so far: nothing to compare."))
        axes = figure.subplots(len(datasets), 2, squeeze=False, sharex="row")
        for dataset, row in zip(datasets, axes, strict=True):
            for ax, direction in zip(row, sorted(frame.direction.unique()), strict=True):
                part = frame[(frame.dataset == dataset) & (frame.direction == direction)].sort_values("area")
                names = sorted(frame.system.unique())
                for place, one in enumerate(part.itertuples()):
                    colour = COLOURS[names.index(one.system) % len(COLOURS)]
                    ax.plot([one.area_low, one.area_high], [place, place], color=colour, linewidth=2)
                    ax.plot(one.area, place, marker="o", markersize=6, color=colour)
                labels = [f"{r.system} ({len(r.splits.split())} amounts)" for r in part.itertuples()]
                ax.set_yticks(range(len(part)), labels)
                ax.set_ylim(-0.6, len(part) - 0.4)
                ax.set_xlabel(f"Mean R@{metric.removeprefix('recall@')} over log-annotations (%)")
                ax.set_title(f"{titles.get(dataset, dataset)}: {direction.replace('-to-', ' to ')}")
        return _svg(figure)


def _marker(n: int) -> Any:
    return _sign(MARKERS.get(int(n), "o"), FAINT)


def _sign(marker: str, colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=5)


def run_curve(history: pd.DataFrame, title: str) -> str:
    """One run's criterion on validation items and its loss, for its record in MLflow."""
    with _context():
        figure = _figure(7.2, 2.8)
        criterion, what = _criterion(history)
        for ax, (column, name) in zip(
            figure.subplots(1, 2), ((criterion, f"{what}, validation"), ("loss", "loss")), strict=True
        ):
            if column in history:
                ax.plot(history.epoch, history[column], color=COLOURS[0], linewidth=2)
            ax.set_title(name)
            ax.set_xlabel("Epoch")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=FAINT)
        return _svg(figure)


def _empty(figure: Any, text: str) -> Any:
    figure.set_size_inches(10.2, 0.8)
    figure.text(0.01, 0.5, text, color=FAINT, va="center")
    return figure


# Of an SVG, what matplotlib does not write and a page must not hold.
FOREIGN = re.compile(
    r"<\s*(?:/\s*)?(?:script|foreignobject|iframe|object|embed|animate\w*|set|handler|link|meta|base|a)\b"
    r"|<[^<>]*[\s\"'/]on[a-z]+\s*=|href\s*=\s*(?![\"'](?:#|data:image/(?:png|jpeg);))|@import|url\(\s*(?!#)"
    r"|</svg\s*>\s*\S",
    re.I,
)


def inline(svg: str, label: str) -> str:
    """An SVG to stand in a page: no XML head, as wide as its place, its inks those of the page's theme.

    Raises
    ------
    UserError : it holds what a figure of ours does not: scripts, other pages, addresses.
    """
    body = svg[max(svg.find("<svg"), 0) :]
    if not body.startswith("<svg") or (odd := FOREIGN.search(body)):
        what = repr(odd[0][:40]) if body.startswith("<svg") else "no <svg>"
        raise UserError(f"the figure {label!r} was not drawn here (it holds {what}); delete it and draw it again")
    start, _, rest = body.partition("<metadata>")
    body = start + rest.partition("</metadata>")[2] if "</metadata>" in rest else body  # matplotlib writes one
    head, end, rest = body.partition(">")
    for side in ("width", "height"):
        head = re.sub(rf' {side}="[^"]*"', "", head, count=1)
    body = head + end + rest
    body = body.replace("<svg ", f'<svg class="figure" role="img" aria-label="{label}" ', 1)
    for colour, variable in ((INK, "--ink"), (FAINT, "--faint"), (GRID, "--rule")):
        body = body.replace(colour, f"var({variable})")
    return body


def write(
    metrics: pd.DataFrame,
    histories: pd.DataFrame,
    efficient: pd.DataFrame,
    meetings: pd.DataFrame,
    titles: Mapping[str, str],
    folder: Path,
) -> dict[str, str]:
    """The figures that `render_report` makes, as SVG files in `folder`; gives their text by name."""
    made = {
        "learning-curves": learning_curves(histories, titles),
        "annotation": annotation(metrics, titles),
        "crossovers": annotation(metrics, titles, "recall@1", meetings),
        "efficiency": efficiency(efficient, titles),
    }
    for name, svg in made.items():
        write_text(folder / f"{name}.svg", svg)
    return made
