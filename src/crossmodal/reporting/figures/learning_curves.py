"""Learning curves: the criterion on the validation items, and the training loss, by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS, FAINT, STYLES
from crossmodal.reporting.results import runs
from crossmodal.reporting.results.shares import ordered_splits
from crossmodal.tasks.base import criteria

MOST_LINES = 14  # maximum in one panel
WIDE = 20  # ratio of the largest to the median loss above which a linear axis would flatten most lines


class Figure(base.Figure):
    caption = (
        "The criterion on the validation items, and the training loss, by epoch: thin lines are runs, thick "
        "ones the means over seeds. The epoch with the best criterion is tested."
    )

    def reads(self) -> list[str]:
        return self.scope.files("history.parquet")

    def draw(self) -> str:
        return learning_curves(runs.histories(self.scope.runs, dict(self.scope.jobs)), self.scope.titles)


def learning_curves(histories: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """The criterion on validation items and the training loss by epoch: thin lines are runs, thick ones their means.

    There is one row of axes per data set, one colour per model, and one dash style per split. Where that gives too many
    lines, only those with the most annotation are drawn.
    """
    with canvas.style():
        histories = histories.dropna(subset=["epoch"]) if len(histories) else histories
        datasets = sorted(histories.dataset.unique()) if len(histories) else []
        figure = canvas.figure(10.2, 3.5 * max(1, len(datasets)))
        if not datasets:
            return canvas.empty(figure, "No run has been trained yet.")
        axes = figure.subplots(len(datasets), 2, squeeze=False)
        for (left, right), dataset in zip(axes, datasets, strict=True):
            part = histories[histories.dataset == dataset]
            names, splits = sorted(part.name.unique()), ordered_splits(part.split)
            criterion, what = criterion_of(part)
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
            left.set_title(f"{titles.get(dataset, dataset)}{only}\n{what}, validation")
            right.set_title("\nTraining loss")
            if _scales_differ(part.loss):
                right.set_yscale("log", nonpositive="mask")
            for ax in (left, right):
                ax.set_xlabel("Epoch")
                ax.set_xlim(left=min(1, part.epoch.min()), right=max(2, part.epoch.max()))
                ax.xaxis.get_major_locator().set_params(integer=True)
            left.set_ylim(bottom=0)
            right.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
        return canvas.svg(figure)


def _scales_differ(losses: pd.Series) -> bool:
    """Whether some losses are so much larger than most that they are drawn on a logarithmic axis, without zeros."""
    losses = losses.dropna()
    return bool(len(losses) and losses.min() >= 0 and losses.max() > WIDE * losses.median() > 0)


def criterion_of(histories: pd.DataFrame) -> tuple[str, str]:
    """The column by which the best epoch is chosen, and its label."""
    columns = criteria()
    present = [column for column in columns if column in histories and histories[column].notna().any()]
    column = next(iter(present or columns))
    return column, columns[column]


def _curve(ax: Any, runs: pd.DataFrame, column: str, label: str, look: dict[str, Any]) -> None:
    if runs.seed.nunique() > 1:
        for _, run in runs.groupby("seed"):
            ax.plot(run.epoch, run[column], linewidth=0.8, alpha=0.35, **look)
    mean = runs.groupby("epoch")[column].mean()
    ax.plot(mean.index, mean, linewidth=2, label=label, **look)


def run_curve(history: pd.DataFrame, title: str) -> str:
    """One run's criterion on validation items and its loss, for its record in MLflow."""
    with canvas.style():
        figure = canvas.figure(7.2, 2.8)
        criterion, what = criterion_of(history)
        for ax, (column, name) in zip(
            figure.subplots(1, 2), ((criterion, f"{what}, validation"), ("loss", "loss")), strict=True
        ):
            if column in history:
                ax.plot(history.epoch, history[column], color=COLOURS[0], linewidth=2)
            ax.set_title(name)
            ax.set_xlabel("Epoch")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=FAINT)
        return canvas.svg(figure)
