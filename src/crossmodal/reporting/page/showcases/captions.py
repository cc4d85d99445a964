"""Captions: test images with their references and what each captioner says, and where it looked for each word."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from crossmodal.core import paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.datasets import items
from crossmodal.experiments import Job, Plan
from crossmodal.reporting.page import showcase
from crossmodal.reporting.page.looks import Look, looks
from crossmodal.reporting.page.thumbnails import picture
from crossmodal.reporting.results import runs
from crossmodal.reporting.tables import writers
from crossmodal.tasks.captioning import ALL, ATTENTION, Task
from crossmodal.tasks.captions.references import shown

log = logging.getLogger(__name__)

HEIGHT = 190  # pixels of a picture
SYSTEMS = 6
"""Captioners of full annotation that are shown per data set, those with the highest CIDEr."""
BRIGHTEST = 2  # captioners whose attention is drawn


@dataclass(frozen=True)
class Line:
    """What one run says of an image, the CIDEr of this caption, and where it looked; `looks` is None without it."""

    run: str
    caption: str
    cider: float
    looks: list[Look] | None = None


@dataclass(frozen=True)
class Shown:
    """An image with its file's data URI and size, its references, and what the runs say of it."""

    name: str
    drawn: tuple[str, int, int] | None
    references: list[str]
    lines: list[Line] = field(default_factory=list)


class Showcase(showcase.Showcase):
    """The part `captions` of the page."""

    short = "Captions"
    title = "Captions"
    about = (
        "Test images evenly spaced over the test set, whatever is said of them, with what people wrote and what each "
        "captioner says; CIDEr is that of the one caption. Of captioners with attention the regions are lit that they "
        "looked at for each word."
    )

    def html(self, plan: Plan, jobs: Mapping[str, Job], results: Path, data: Path) -> Markup:
        datasets = []
        for dataset in dict.fromkeys(job.dataset for job in jobs.values()):
            chosen = _chosen([job for job in jobs.values() if job.dataset == dataset], plan, jobs, results)
            images = _images(chosen, results, data / dataset) if chosen else []
            title = plan.params.datasets[dataset].title if dataset in plan.params.datasets else dataset
            datasets += [{"name": dataset, "title": title, "images": images}] if images else []
        if not datasets:
            return Markup()
        return Markup(writers.environment().get_template("captions.html.j2").render(datasets=datasets))


def _chosen(members: list[Job], plan: Plan, jobs: Mapping[str, Job], results: Path) -> list[tuple[Job, pd.DataFrame]]:
    """The runs that are shown with their examples: the best of full annotation, and those that papers mark."""
    marked = {job.key for job in plan.shown(jobs)}
    tables: dict[str, tuple[Job, pd.DataFrame]] = {}
    for job in members:
        if job.control or Task.name not in job.tasks:
            continue
        listed = {(other.split, other.name) for other, _ in tables.values()}  # of an earlier seed
        if (job.split != "full" and job.key not in marked) or (job.split, job.name) in listed:
            continue
        folder = results / "runs" / job.key / Task.name
        table = runs.examples(folder) if (folder / "examples.parquet").exists() else None
        if table is not None and {"protocol", "query_id", "caption", "cider"} <= {*table}:
            whole = table[table.protocol == ALL].astype({"query_id": "string"}).drop_duplicates("query_id")
            tables[job.key] = job, whole.set_index("query_id")
    best = sorted(tables.values(), key=lambda one: (-one[1].cider.mean(), one[0].key))
    kept = {job.key for job, _ in [one for one in best if one[0].split == "full"][:SYSTEMS]}
    return [one for one in best if one[0].key in kept or one[0].key in marked]


def _images(chosen: list[tuple[Job, pd.DataFrame]], results: Path, folder: Path) -> list[Shown]:
    """The images that are shown; none, with a line in the log, where the data set's items are not there."""
    try:
        frame = items.read(folder).astype({"item_id": "string"}).set_index("item_id")
        root = items.root(folder)
        ids = [str(id_) for id_ in chosen[0][1].index]
        ids = [ids[place] for place in shown(len(ids))]
        written = frame[(frame.modality == "text")].groupby("group_id").source.apply(list)
        looked = _looked(chosen, results, folder)
        images = []
        for id_ in ids:
            row = frame.loc[id_]
            lines = [
                Line(_label(job), str(table.caption[id_]), float(table.cider[id_]), looked.get((job.key, id_)))
                for job, table in chosen
                if id_ in table.index
            ]
            drawn = picture(paths.inside(root, row.source, str(folder / "items.parquet")), HEIGHT)
            images.append(Shown(id_, drawn, written[row.group_id], lines))
        return images
    except UserError as error:
        log.warning("no captions of %s are shown: %s", folder.name, error)
    except (KeyError, IndexError) as error:
        log.warning("no captions of %s are shown: the runs and the items do not fit together (%s)", folder.name, error)
    return []


def _label(job: Job) -> str:
    return job.name if job.split == "full" else f"{job.name}, {job.split}"


def _looked(chosen: list[tuple[Job, Any]], results: Path, folder: Path) -> dict[tuple[str, str], list[Look]]:
    """{(run, image): where it looked for each word}, of the best runs whose attention and boxes are there."""
    found: dict[tuple[str, str], list[Look]] = {}
    with_attention = [job for job, _ in chosen if (results / "runs" / job.key / Task.name / ATTENTION).exists()]
    for job in with_attention[:BRIGHTEST]:
        path = results / "runs" / job.key / Task.name / ATTENTION
        index = folder / "features" / f"image.{job.inputs['image']}.parquet"
        try:
            table = read_parquet(path, ["query_id", "place", "word", "weights"])
            boxes = read_parquet(index, ["item_id", "boxes"]).set_index("item_id").boxes
            for id_, rows in table.groupby("query_id"):
                rows = rows.sort_values("place")
                found[job.key, str(id_)] = looks(rows.word.tolist(), rows.weights.tolist(), boxes[id_])
        except (UserError, KeyError, ValueError) as error:
            log.warning("%s: the attention cannot be drawn: %s", path, error)
    return found
