"""Figures as SVG text, the same bytes for the same numbers."""

from __future__ import annotations

import io

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from crossmodal.splits import parse

COLOURS = ["#3b6fd4", "#d9622b", "#2e9e6b", "#a04fc0", "#c2a11c", "#c43d57", "#4aa7b5", "#7a7a7a"]
STYLE = {
    "svg.hashsalt": "crossmodal",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#7d828c",
    "xtick.color": "#7d828c",
    "ytick.color": "#7d828c",
    "text.color": "#7d828c",
    "axes.titlecolor": "#7d828c",
    "axes.grid": True,
    "grid.color": "#8a8f98",
    "grid.alpha": 0.2,
    "legend.frameon": False,
}


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}, bbox_inches="tight"
    )
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def learning_curves(history: pd.DataFrame) -> str:
    """Loss and validation sum of recalls by epoch: a colour a system, a line a seed, a style a split."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5, 4.0), layout="constrained")
        for axes, column, label in zip(
            figure.subplots(1, 2),
            ("loss", "val_recall_sum"),
            ("training loss", "validation sum of recalls"),
            strict=True,
        ):
            for place, ((split, name), group) in enumerate(history.groupby(["split", "name"])):
                mean = group.groupby("epoch")[column].mean()
                colour = COLOURS[place % len(COLOURS)]
                for _, one in group.groupby("run"):
                    axes.plot(one.epoch, one[column], color=colour, alpha=0.25, linewidth=0.9)
                axes.plot(mean.index, mean, color=colour, linewidth=1.9, label=f"{name} · {split}")
            axes.set(xlabel="epoch", ylabel=label)
        if len(history):
            axes.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return _svg(figure)


def annotation(metrics: pd.DataFrame) -> str:
    """Recall@10 against the share of annotated pairs (five captions an image), a line a system."""
    rows = metrics[(metrics.metric == "recall@10") & (metrics.protocol == "all")].copy()
    rows["name"] = rows.model + rows.variant.map(lambda v: f".{v}" if v else "")
    shares = {split: parse(split) for split in rows.split.unique()}
    rows["share"] = rows.split.map(lambda s: shares[s][0] * (shares[s][1] or 5) / 5)
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        for axes, direction in zip(figure.subplots(1, 2, sharey=True), ("image-to-text", "text-to-image"), strict=True):
            for place, (name, group) in enumerate(rows[rows.direction == direction].groupby("name")):
                values = group.drop_duplicates(["split", "seed"]).groupby("share").value.agg(["mean", "std"])
                axes.errorbar(
                    values.index, values["mean"], values["std"].fillna(0), label=name, marker="o", markersize=5,
                    color=COLOURS[place % len(COLOURS)], capsize=3, linewidth=1.6,
                )  # fmt: skip
            axes.set(
                xscale="log", xlabel="annotated pairs, per cent", title=direction.replace("-to-", " → "), ylim=(0, 104)
            )
            axes.set_xticks(sorted(rows.share.unique()), [f"{s:g}" for s in sorted(rows.share.unique())])
            axes.minorticks_off()
        axes.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.axes[0].set_ylabel("recall@10, per cent")
        return _svg(figure)
