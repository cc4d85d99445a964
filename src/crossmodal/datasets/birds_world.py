"""The class-disjoint world: drawn birds whose classes are combinations of attributes, in the layout that `cub` reads.

Some classes are left out of training. Each of their attributes occurs in other classes, so that a model can recognise
them from their description (zero-shot retrieval). Two in five classes differ from another class in three attributes
only.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from crossmodal.core.files import atomic_write, write_parquet, write_text
from crossmodal.datasets import cub, items
from crossmodal.datasets.drawing import birds, media
from crossmodal.datasets.drawing.work import clear, each, generator

CERTAIN, NOT_VISIBLE = 4, 1


class Settings(BaseModel):
    """Settings of the class-disjoint world."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(1, ge=0)
    classes: int = Field(50, ge=16, le=200)
    unseen: int = Field(12, ge=2, description="how many of the `classes` are not trained on")
    images: int = Field(30, ge=6, description="images per class; a quarter of those of a seen class are test images")
    sentences: int = Field(5, ge=1, le=10, description="sentences per image")
    seen_images: cub.SeenImages = Field(
        "split", description="partition of the images of seen classes: a quarter for the test, or all for training"
    )
    val: float = Field(0.1, ge=0, le=0.5, description="share of each seen class's training images kept for validation")

    @model_validator(mode="after")
    def _some_seen(self) -> Settings:
        if self.unseen > self.classes - 12:
            raise ValueError(f"unseen: {self.unseen} of {self.classes} classes leave fewer than 12 to learn from")
        birds.held_out(self.seed, birds.classes(self.seed, self.classes), self.unseen)  # raises if not possible
        return self


def _draw(settings: Settings, root: Path, looks: list, names: list, place: tuple[int, int]) -> tuple:
    """Write one picture and its sentences; returns the bird's look and its box."""
    kind, number = place
    rng = generator(settings.seed, 1, kind, number)
    look = birds.varied(looks[kind], rng)
    image, box = birds.draw(look, rng)
    name = f"{names[kind]}/{_stem(names[kind], number)}"
    with atomic_write(root / "images" / f"{name}.jpg") as path:
        media.jpeg(path, image)
    sentences = birds.captions(look, generator(settings.seed, 2, kind, number), settings.sentences)
    write_text(root / "text" / f"{name}.txt", "".join(f"{sentence}\n" for sentence in sentences))
    return look, box


def _stem(name: str, number: int) -> str:
    return f"{name.partition('.')[2]}_{number + 1:04d}"


def _left_over(name: str, images: int) -> bool:
    """Whether a file name is that of a picture or text beyond the last one, or of a half-written file."""
    drawn = re.fullmatch(r"\w+_(\d{4,})\.(jpg|txt)", name)
    return bool((drawn and int(drawn[1]) > images) or re.fullmatch(r"\.\w+_\d+\.(jpg|txt)\.\d+\.part", name))


def draw(settings: Settings, root: Path, *, workers: int | None = None) -> list[str]:
    """Write the raw files of the birds in the layout of CUB-200-2011, and their sentences in `text/`.

    Parameters
    ----------
    workers : number of processes, by default up to one per core; the files do not depend on it.

    Returns
    -------
    The names of the unseen classes.

    Raises
    ------
    UserError : the disk is full or the folder cannot be written.
    """
    looks = birds.classes(settings.seed, settings.classes)
    names = birds.names(looks)
    places = [(kind, number) for kind in range(settings.classes) for number in range(settings.images)]
    for folder in ("images", "text"):
        clear(root / folder, lambda name: bool(re.fullmatch(r"\d{3}\.[A-Z]\w+", name)) and name not in names)
        for name in names:
            clear(root / folder / name, partial(_left_over, images=settings.images))
    drawn = each(partial(_draw, settings, root, looks, names), places, workers)
    have = np.array(
        [[look[a.partition("::")[0]] == a.partition("::")[2] for a in birds.ATTRIBUTES] for look, _ in drawn]
    )
    lines: dict[str, list[str]] = {
        "classes.txt": names,
        "images.txt": [f"{names[kind]}/{_stem(names[kind], number)}.jpg" for kind, number in places],
        "image_class_labels.txt": [str(kind + 1) for kind, _ in places],
        "train_test_split.txt": [str(int(number % 4 != 3)) for _, number in places],
        "bounding_boxes.txt": [f"{x:.1f} {y:.1f} {right - x:.1f} {low - y:.1f}" for _, (x, y, right, low) in drawn],
        "attributes/attributes.txt": birds.ATTRIBUTES,
    }
    for file, values in lines.items():
        write_text(root / file, "".join(f"{k} {value}\n" for k, value in enumerate(values, 1)))
    shares = 100 * have.reshape(settings.classes, settings.images, -1).mean(1)
    rows = [" ".join(f"{share:.4f}" for share in row) for row in shares]
    write_text(root / "attributes" / "class_attribute_labels_continuous.txt", "\n".join(rows) + "\n")
    lines = []
    for image, (look, _) in enumerate(drawn):
        for k, attribute in enumerate(birds.ATTRIBUTES):
            hidden = attribute.startswith("has_leg") and look["has_shape"] == "duck-like"
            lines.append(f"{image + 1} {k + 1} {int(have[image, k])} {NOT_VISIBLE if hidden else CERTAIN} 0.0\n")
    write_text(root / "attributes" / "image_attribute_labels.txt", "".join(lines))
    unseen = [names[k] for k in birds.held_out(settings.seed, looks, settings.unseen)]
    write_text(root / "testclasses.txt", "".join(f"{name}\n" for name in unseen))
    return unseen


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Draw the raw files into `folder/raw`, read them as CUB Birds, and write the items into `folder`.

    Raises
    ------
    UserError : for the same reasons as `draw`.
    """
    root = folder / "raw"
    with suppress(OSError):  # `draw` reports a folder that cannot be written
        (folder / "items.parquet").unlink(missing_ok=True)  # outdated as soon as the files are redrawn
    draw(settings, root)
    reading = cub.Settings(
        root=root,
        captions=root / "text",
        sentences=settings.sentences,
        unseen=root / "testclasses.txt",
        seen_images=settings.seen_images,
        val=settings.val,
        seed=settings.seed,
    )
    frame, classes, manifest = cub.read(reading, folder.name)
    write_parquet(folder / "classes.parquet", classes)
    manifest = {"reader": "birds_world", "title": title, "root": "raw", **manifest}
    items.write(frame, folder, {**manifest, "settings": settings.model_dump()})
