"""Similarities between the semantic, specific and modal parts of encodings (mFSR, sections 3.2 and 3.4).

They are drawn from `shown.json` and `shown.npz`, which the task `reconstruction` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossmodal.core import packed
from crossmodal.core.files import read_record
from crossmodal.experiments import Job
from crossmodal.reporting.figures import base, canvas
from crossmodal.reporting.figures.canvas import COLOURS, FAINT
from crossmodal.reporting.results import runs

TASK = "reconstruction"


class Inspected(base.Figure):
    """The base of figures of the runs that are evaluated under the task `reconstruction`."""

    section = base.RECONSTRUCTIONS

    def jobs(self) -> dict[str, Job]:
        return {key: job for key, job in self.scope.jobs.items() if TASK in job.tasks}

    def wanted(self) -> bool:
        return bool(self.jobs())

    def reads(self) -> list[str]:
        return self.scope.files(f"{TASK}/metrics.json", self.jobs().values())

    def inspected(self) -> dict[str, list[dict[str, Any]]]:
        return inspected(self.jobs(), self.scope.runs)


class Figure(Inspected):
    place = 20
    title = "Separation"
    caption = (
        "Means over runs. The printed specific loss is minimal where semantic and specific parts are opposite (-1)."
    )

    def draw(self) -> str:
        return parts(self.inspected())


def inspected(jobs: Mapping[str, Job], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """{name of a system: the results of the task for each of its tested runs}, whole systems first, seeds in order."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for job in sorted(jobs.values(), key=lambda job: (job.name.count("."), job.dataset, job.key)):
        path = folder / job.key / TASK / "shown.json"
        if path.exists():
            numbers = {row["metric"]: row["value"] for row in runs.numbers(folder / job.key, job) or ()}
            shown.setdefault(job.name, []).append({**read_record(path), "numbers": numbers, "folder": path.parent})
    return shown


def parts(shown: Mapping[str, list[dict[str, Any]]]) -> str:
    """Cosines of semantic and specific parts, silhouettes of modalities, and modal parts of the first system.

    Each point is the mean over a system's runs.
    """
    with canvas.style():
        figure = canvas.figure(10.2, 1.6 + 0.3 * max(5, len(shown)))
        if not shown:
            return canvas.empty(figure, "No run that separates its encodings into parts has been tested yet.")
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
        with packed.arrays(first["folder"] / "shown.npz") as file:
            points = np.split(file["modal_plane"], 2)
        for coordinates, label, colour in zip(points, ("image", "caption"), COLOURS, strict=False):
            right.plot(*coordinates.T, ".", color=colour, label=label, markersize=4, alpha=0.6)
        right.set_title(f"Modal parts of {names[-1]}")
        right.set_xlabel("first two principal axes")
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
        return canvas.svg(figure)
