"""The figures of the CVS thesis on spaces of several modalities (22 to 28), and its tables as heat maps."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.experiments import Job, Plan
from crossmodal.files import read_parquet, write_text
from crossmodal.reporting import figures, runs
from crossmodal.reporting.collect import distinct
from crossmodal.reporting.figures import COLOURS, FAINT, INK

MODELS = ("cvs", "mcvs", "rvs")
TITLES = {"cvs": "CVS", "mcvs": "M-CVS", "rvs": "RVS"}
BLOCKS: dict[str, Callable[[int], int]] = {
    "cvs": lambda n: comb(n, 2),  # all of them are trained again
    "mcvs": lambda n: n - 1,  # one for each older modality
    "rvs": lambda n: 1,
}
"""Attention blocks that are trained when the n-th modality is added (CVS thesis, 3.1 to 3.3; figure 26)."""
METRIC = "map@50"


def modalities(job: Job) -> list[str]:
    return list(job.settings.get("modalities") or ("image", "text"))


def _largest(jobs: dict[str, Job], model: str) -> list[Job]:
    """The runs of a model, as the thesis has it, with the most modalities on one data set, a seed each."""
    own = [job for job in jobs.values() if job.model == model and _plain(job)]
    if not own:
        return []
    best = max(own, key=lambda job: (len(modalities(job)), job.key))
    return [job for job in own if (job.dataset, job.split, job.name) == (best.dataset, best.split, best.name)]


def _plain(job: Job) -> bool:
    """All of the attention, all of the classes."""
    return job.split == "full" and job.settings.get("attention", True) and "terms" not in job.settings


def chain(job: Job, jobs: dict[str, Job]) -> list[Job]:
    """A run and those that it grew from, the first one first."""
    found = [job]
    while (before := found[0].before) in jobs:
        found.insert(0, jobs[before])
    return found


def losses(jobs: dict[str, Job], folder: Path) -> str:
    """Total loss of CVS, metric loss of M-CVS and class loss of RVS by epoch, stage after stage (22 to 24)."""
    wanted = {"cvs": ("loss", "total loss"), "mcvs": ("triplets", "metric loss"), "rvs": ("classes", "class loss")}
    with figures._context():
        figure = figures._figure(10.2, 3.2)
        for ax, (model, (column, name)), colour in zip(figure.subplots(1, 3), wanted.items(), COLOURS, strict=False):
            curves = []
            for job in _largest(jobs, model):
                parts = [runs.history(folder / one.key) for one in chain(job, jobs)]
                if all(len(part) and column in part for part in parts):
                    curves.append(np.concatenate([part[column].to_numpy() for part in parts]))
                    ends = np.cumsum([len(part) for part in parts])[:-1]
            ax.set_title(f"{TITLES[model]}: {name}")
            ax.set_xlabel("Epoch")
            if not curves:
                ax.text(0.5, 0.5, "not made yet", transform=ax.transAxes, ha="center", color=FAINT)
                continue
            for curve in curves:
                ax.plot(np.arange(1, len(curve) + 1), curve, color=colour, linewidth=0.8, alpha=0.4)
            mean = np.mean([curve[: min(map(len, curves))] for curve in curves], axis=0)
            ax.plot(np.arange(1, len(mean) + 1), mean, color=colour, linewidth=2)
            for end in ends:
                ax.axvline(end + 0.5, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
            ax.set_ylim(bottom=0)
            ax.xaxis.get_major_locator().set_params(integer=True)
        return figures._svg(figure)


def _average(metrics: pd.DataFrame, job: Job) -> np.ndarray:
    """mAP@50 over all directions of the runs of a name, a seed each."""
    here = (metrics.dataset == job.dataset) & (metrics.split == job.split) & (metrics["name"] == job.name)
    here &= (metrics.direction == "average") & (metrics.metric == METRIC) & (metrics.protocol == "all")
    return metrics[here].value.to_numpy()


def ablation(jobs: dict[str, Job], metrics: pd.DataFrame) -> str:
    """mAP@50 with all of aligned attention, without one of its products, and without attention (25)."""
    bars: dict[str, np.ndarray] = {}
    for job in _largest(jobs, "cvs")[:1]:
        for other in jobs.values():
            alike = (other.dataset, other.split, other.model, other.seed) == (job.dataset, "full", "cvs", job.seed)
            if not alike or modalities(other) != modalities(job):
                continue
            gone = {"i", "s", "is"} - set(other.settings.get("terms", ("i", "s", "is")))
            label = "all three" if not gone else "without " + ", ".join(f"W_{term}" for term in sorted(gone))
            if not other.settings.get("attention", True):
                label = "none, unit length" if other.settings.get("unit") else "none"
            bars[label] = _average(metrics, other)
    bars = {label: values for label, values in bars.items() if len(values)}
    with figures._context():
        figure = figures._figure(6.4, 3.2)
        if not bars:
            return figures._svg(figures._empty(figure, "No run with and without parts of the attention yet."))
        ax = figure.subplots()
        order = sorted(bars, key=lambda label: (label.startswith("none"), label))
        ax.bar(order, [bars[label].mean() for label in order], width=0.55, color=COLOURS[0], alpha=0.35)
        for place, label in enumerate(order):
            ax.plot([place] * len(bars[label]), bars[label], "o", color=COLOURS[0], markersize=4)
            ax.text(place, 1, f"{bars[label].mean():.1f}", ha="center", color=INK)
        ax.set_ylabel("mAP@50 (%), mean over directions")
        return figures._svg(figure)


def blocks(most: int = 5) -> str:
    """Attention blocks to be trained as modalities are added (26)."""
    with figures._context():
        figure = figures._figure(5.4, 3.2)
        ax = figure.subplots()
        counts = np.arange(2, most + 1)
        for model, colour in zip(MODELS, COLOURS, strict=False):
            ax.plot(counts, [BLOCKS[model](int(n)) for n in counts], "o-", color=colour, label=TITLES[model])
        ax.set_xticks(counts)
        ax.set_xlabel("Modalities")
        ax.set_ylabel("Attention blocks trained")
        ax.legend()
        return figures._svg(figure)


def times(jobs: dict[str, Job], folder: Path) -> pd.DataFrame:
    """Measured milliseconds an iteration: a row for each model, number of modalities and run on one data set."""
    rows = []
    on = {job.dataset for job in _largest(jobs, "cvs")}
    for key, job in jobs.items():
        if job.model in MODELS and _plain(job) and job.dataset in on:
            spent = runs.milliseconds(folder / key)
            if spent is not None:
                rows.append({"model": job.model, "modalities": len(modalities(job)), "run": key, "milliseconds": spent})
    return pd.DataFrame(rows, columns=["model", "modalities", "run", "milliseconds"])


def iterations(measured: pd.DataFrame) -> str:
    """Time an iteration as modalities are added (27): CVS trains all of them anew, M-CVS and RVS the new one alone."""
    with figures._context():
        figure = figures._figure(5.4, 3.2)
        if measured.empty:
            return figures._svg(figures._empty(figure, "No run has been trained yet."))
        ax = figure.subplots()
        for model, colour in zip(MODELS, COLOURS, strict=False):
            part = measured[measured.model == model]
            mean = part.groupby("modalities").milliseconds.mean()
            ax.plot(part.modalities, part.milliseconds, "o", color=colour, markersize=4, alpha=0.5)
            ax.plot(mean.index, mean, color=colour, linewidth=2, label=TITLES[model])
        ax.set_xticks(sorted(measured.modalities.unique()))
        ax.set_xlabel("Modalities")
        ax.set_ylabel("Milliseconds an iteration")
        ax.set_ylim(bottom=0)
        ax.legend()
        return figures._svg(figure)


def reconstruction(jobs: dict[str, Job], folder: Path) -> str:
    """What adversarial reconstruction leaves of input vectors, and what retrieval makes of it, by epoch (28).

    The mean squared difference of a modality's input vectors from those made again (log scale), by each way in which it
    is trained, with the factor between its first and last epoch; and the criterion on the validation items.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for key, job in jobs.items():
        history = runs.history(folder / key) if job.model == "cvs_adversarial" else pd.DataFrame()
        if len(history):
            found.setdefault(_trained_by(job), []).append(history)
    with figures._context():
        figure = figures._figure(10.2, 3.9)
        if not found:
            return figures._svg(figures._empty(figure, "No run with an adversarial reconstruction yet."))
        axes = figure.subplots(1, 3)
        criterion, what = figures._criterion(pd.concat([one for many in found.values() for one in many]))
        panels = [("image_difference", "Image"), ("text_difference", "Text"), (criterion, what[:1].upper() + what[1:])]
        for ax, (column, title) in zip(axes, panels, strict=True):
            said = []
            for colour, (label, histories) in zip(COLOURS, sorted(found.items()), strict=False):
                curves = pd.concat([one.set_index("epoch")[column] for one in histories], axis=1)
                for _, curve in curves.items():
                    ax.plot(curve.index, curve, color=colour, linewidth=0.8, alpha=0.4)
                mean = curves.mean(axis=1)
                ax.plot(mean.index, mean, color=colour, linewidth=2, label=label)
                said.append((f"× {mean.iloc[-1] / mean.iloc[0]:.3g}", colour))
            ax.set_title(title, pad=20)  # above the factors
            ax.set_xlabel("Epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
            if column == criterion:
                ax.set_ylim(bottom=0)
                continue
            ax.set_yscale("log")
            for n, (text, colour) in enumerate(said):
                ax.text((2 * n + 1) / (2 * len(said)), 1.02, text, transform=ax.transAxes, ha="center", color=colour)
        axes[0].set_ylabel("Mean squared difference")
        axes[2].set_ylabel("mAP@50, sum (%)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
        return figures._svg(figure)


def _trained_by(job: Job) -> str:
    s = job.settings
    alone = s.get("class_weight") == 0 and s.get("triplet_weight") == 0
    said = "reconstruction alone" if alone else "with class and metric losses"
    return f"{said}, its target moves too" if s.get("moving") else said


def directions(metrics: pd.DataFrame, titles: dict[str, str]) -> str:
    """mAP@50 of every ordered pair of modalities as a heat map, a panel for each model of more than two."""
    here = (metrics.metric == METRIC) & (metrics.protocol == "all") & metrics.direction.str.contains("-to-")
    frame = metrics[here & (metrics.split == "full") & (metrics.model != "oracle")]
    means = frame.groupby(["dataset", "name", "direction"], sort=True).value.mean()
    panels = [(key, part.droplevel([0, 1])) for key, part in means.groupby(level=[0, 1]) if len(part) > 2]
    with figures._context():
        rows = max(1, -(-len(panels) // 3))
        figure = figures._figure(10.2, 3.5 * rows)
        if not panels:
            return figures._svg(figures._empty(figure, "No run of more than two modalities yet."))
        axes = figure.subplots(rows, 3, squeeze=False).ravel()
        for ax, ((dataset, name), values) in zip(axes, panels, strict=False):
            _heat(ax, values)
            ax.set_title(f"{name}, mean {values.mean():.1f}\n{titles.get(dataset, dataset)}", fontsize=8)
        for ax in axes[len(panels) :]:
            ax.remove()
        return figures._svg(figure)


def _heat(ax: Any, values: pd.Series) -> None:
    names = [m for m in ("image", "text", "audio", "video", "mesh") if f"{m}-to-" in " ".join(values.index)]
    grid = np.array([[values.get(f"{a}-to-{b}", np.nan) for b in names] for a in names])
    ax.imshow(grid, vmin=0, vmax=100, cmap="Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=INK if value < 60 else "#ffffff")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylabel("query")
    ax.grid(False)


FIGURES = {
    "space-losses": "Losses by epoch; a dotted line begins a stage (CVS thesis, figures 22 to 24)",
    "space-attention": "Aligned attention without one of its products (CVS thesis, figure 25)",
    "space-blocks": "Attention blocks that are trained when a modality is added (CVS thesis, figure 26)",
    "space-time": "Measured time per iteration (CVS thesis, figure 27)",
    "space-reconstruction": "Adversarial reconstruction of the input vectors (CVS thesis, figure 28)",
    "space-directions": "mAP@50 of every ordered pair of modalities (CVS thesis, tables 7 to 11)",
}


def draw(plan: Plan, jobs: dict[str, Job], folder: Path, metrics: pd.DataFrame) -> dict[str, str]:
    """{name of `FIGURES`: SVG}.

    Parameters
    ----------
    folder : `results/runs`. metrics : as `collect` gives it.
    """
    frame = distinct(metrics)
    titles = {name: dataset.title for name, dataset in plan.params.datasets.items()}
    return {
        "space-losses": losses(jobs, folder),
        "space-attention": ablation(jobs, frame),
        "space-blocks": blocks(),
        "space-time": iterations(times(jobs, folder)),
        "space-reconstruction": reconstruction(jobs, folder),
        "space-directions": directions(frame, titles),
    }


def write(plan: Plan, jobs: dict[str, Job], target: Path) -> None:
    """The step of the DAG: `target/figures/space-*.svg` and the times that are drawn, `space-time.csv`."""
    folder = Path(plan.params.paths.results) / "runs"
    for name, svg in draw(plan, jobs, folder, read_parquet(target / "metrics.parquet")).items():
        write_text(target / "figures" / f"{name}.svg", svg)
    write_text(target / "figures" / "space-time.csv", times(jobs, folder).to_csv(index=False, float_format="%.3f"))
