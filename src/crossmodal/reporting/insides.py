"""Figures of what a system does inside: parts of encodings, and images and captions made again (mFSR, figure 5).

Drawn of the `inside.json` and `inside.npz` that testing a run leaves where its model shows anything.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossmodal import packed
from crossmodal.experiments import Job, Plan
from crossmodal.files import read_record, write_text
from crossmodal.reporting import figures
from crossmodal.reporting.figures import COLOURS, FAINT, INK

SHOWN = 6  # pairs in a figure


def found(jobs: Mapping[str, Job], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """{name of a system: what each of its tested runs shows}, whole systems first, seeds in order."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for job in sorted(jobs.values(), key=lambda job: (job.name.count("."), job.dataset, job.key)):
        path = folder / job.key / "inside.json"
        if path.exists():
            shown.setdefault(job.name, []).append({**read_record(path), "folder": path.parent})
    return shown


def parts(shown: Mapping[str, list[dict[str, Any]]]) -> str:
    """Cosines of semantic and specific parts, silhouettes of modalities, and modal parts of the first system.

    A point is the mean over a system's runs.
    """
    with figures._context():
        figure = figures._figure(10.2, 1.6 + 0.3 * max(5, len(shown)))
        if not shown:
            return figures._svg(figures._empty(figure, "No run that parts its encodings has been tested yet."))
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
        names = list(shown)[::-1]
        places = range(len(names))

        def means(key: str) -> list[float]:
            return [float(np.mean([run["numbers"][key] for run in shown[name]])) for name in names]

        for key, label, colour in (("image_cosine", "image", COLOURS[0]), ("text_cosine", "caption", COLOURS[1])):
            left.plot(means(key), places, "o", color=colour, label=label, markersize=6, alpha=0.85)
        left.axvline(0, color=FAINT, linewidth=0.8)
        left.set_xlim(-1.05, 1.05)
        left.set_title("cos(semantic, specific)")
        for key, colour in (("modal", COLOURS[2]), ("semantic", COLOURS[3]), ("specific", COLOURS[5])):
            middle.plot(means(f"{key}_silhouette"), places, "o", color=colour, label=key, markersize=6, alpha=0.85)
        middle.axvline(0, color=FAINT, linewidth=0.8)
        middle.set_xlim(-0.25, 1.05)
        middle.set_title("Silhouette of modalities")
        left.set_yticks(places, names)
        middle.set_yticks(places, [""] * len(names))
        for ax in (left, middle):
            ax.set_ylim(-0.6, len(names) - 0.4)
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
        first = shown[names[-1]][0]
        with packed.arrays(first["folder"] / "inside.npz") as file:
            points = np.split(file["modal_plane"], 2)
        for own, label, colour in zip(points, ("image", "caption"), COLOURS, strict=False):
            right.plot(*own.T, ".", color=colour, label=label, markersize=4, alpha=0.6)
        right.set_title(f"Modal parts of {names[-1]}")
        right.set_xlabel("two first principal axes")
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
        return figures._svg(figure)


def reconstructions(shown: Mapping[str, list[dict[str, Any]]]) -> str:
    """Test images and captions, and under each what the first system that makes both, or one, makes of its parts."""
    making = [run for runs_ in shown.values() for run in runs_ if run["captions"] and any(run["captions"])]
    making += [run for runs_ in shown.values() for run in runs_ if "picture_rank" in run["numbers"]]
    with figures._context():
        figure = figures._figure(10.2, 5.2)
        if not making:
            return figures._svg(figures._empty(figure, "No run that makes images or captions has been tested yet."))
        run = max(making, key=lambda run: ("picture_rank" in run["numbers"]) + any(map(bool, run["captions"])))
        with packed.arrays(run["folder"] / "inside.npz") as file:
            pictures = [file[name] for name in ("pictures", "pictures_made") if name in file]
        count = min(SHOWN, len(run["captions"]))
        axes = figure.subplots(3, count, squeeze=False, height_ratios=(1, 1, 0.9))
        for column in range(count):
            for row in range(2):
                axes[row][column].axis("off")
                if row < len(pictures):
                    axes[row][column].imshow(pictures[row][column].transpose(1, 2, 0), interpolation="nearest")
            said = run["captions"][column]
            axes[2][column].axis("off")
            for place, (name, colour) in enumerate((("words", INK), ("words_made", COLOURS[0]))):
                text = textwrap.fill(said.get(name, ""), 22)
                options = {"va": "top", "fontsize": 7.5, "color": colour}
                axes[2][column].text(0, 1 - 0.52 * place, text, transform=axes[2][column].transAxes, **options)
        for row, label in enumerate(("image", "made of its parts")):
            axes[row][0].set_title(label, fontsize=9)
        return figures._svg(figure)


def write(plan: Plan, jobs: Mapping[str, Job], target: Path) -> None:
    """The step of the DAG: `target/figures/parts.svg` and `reconstructions.svg`."""
    shown = found(jobs, Path(plan.params.paths.results) / "runs")
    for name, svg in (("parts", parts(shown)), ("reconstructions", reconstructions(shown))):
        write_text(target / "figures" / f"{name}.svg", svg)
