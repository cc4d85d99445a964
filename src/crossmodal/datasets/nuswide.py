"""Reader of NUS-WIDE (Chua et al., 2009), by default reduced to the ten classes of cross-modal papers (NUS-WIDE-10k).

    ROOT/ImageList/Imagelist.txt                       one FOLDER\\NAME_ID.jpg per line, for all 269,648 images
    ROOT/Groundtruth/AllLabels/Labels_CLASS.txt        0 or 1 per line, in the same order
    ROOT/NUS_WID_Tags/All_Tags.txt                     the ID and the tags of an image per line, in the same order
    ROOT/Flickr/FOLDER/NAME_ID.jpg                     the images, downloaded from their addresses

The images of a class are those with its label, none of the other chosen labels, and at least one tag (with
`several: true`, also those with several of the labels). The text of an image consists of its tags. From each class
1,000 images are drawn by the seed (as in the CVS thesis, table 3: 8,000 for training, 2,000 for testing). The selection
of the papers is, as far as we know, not published.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file
from crossmodal.datasets import items, raw

LARGEST = ("animal", "clouds", "flowers", "food", "grass", "person", "sky", "toy", "water", "window")
LIST, LABELS, TAGS = "ImageList/Imagelist.txt", "Groundtruth/AllLabels", "NUS_WID_Tags/All_Tags.txt"


class Settings(BaseModel):
    """The block of NUS-WIDE in `params.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Path = Field(description="folder that contains ImageList, Groundtruth and NUS_WID_Tags")
    images: Path | None = Field(None, description="folder of FOLDER/NAME_ID.jpg; Flickr in root by default")
    classes: tuple[str, ...] = Field(LARGEST, min_length=2, description="classes whose images are used")
    several: bool = Field(
        False, description="whether images of several of the classes are used too, with all of these classes as labels"
    )
    per_class: int = Field(1000, ge=3, description="largest number of images per class")
    test: float = Field(0.2, gt=0, lt=1, description="share of each class's images that is kept for the test")
    val: float = Field(0.1, ge=0, le=0.5, description="share of each class's training images kept for validation")
    seed: int = Field(0, ge=0, description="seed of the choice of images and of test and validation images")

    @property
    def folder(self) -> Path:
        """The folder of the images."""
        return self.images or self.root / "Flickr"


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Choose the images, read their tags and write `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : files are missing or contradict each other, or a class has too few images.
    """
    files = [LIST, TAGS, *(f"{LABELS}/Labels_{name}.txt" for name in settings.classes)]
    read_from = raw.record(folder, [settings.root / name for name in files], names=[settings.folder])
    frame = read(settings, folder.name)
    manifest = {
        "reader": "nuswide",
        "title": title,
        "root": raw.name_of(settings.folder, folder),
        "annotations": [{"file": name, "sha256": sha256_file(settings.root / name)} for name in files],
        "settings": settings.model_dump(exclude={"root", "images"}, mode="json"),
        "classes": list(settings.classes),
        "raw": read_from,
    }
    items.write(frame, folder, manifest)


def read(settings: Settings, dataset: str = "*") -> pd.DataFrame:
    """The items: the images of all classes in the order of the list, then their texts.

    Parameters
    ----------
    dataset : name of the block in `params.yaml`, for error messages.

    Raises
    ------
    UserError : for the same reasons as `make`.
    """
    root, where = settings.root, f"datasets.{dataset}"
    if not settings.folder.is_dir():
        raise UserError(f"{settings.folder}: no such folder; set {where}.images in params.yaml to the images' folder")
    advice = f"NUS-WIDE has it; set {where}.root in params.yaml to its folder"
    names = [line.replace("\\", "/") for line in raw.lines(root / LIST, advice)]
    tags = _tags(root / TAGS, names, advice)
    labels = np.stack([_labels(root, name, len(names), where) for name in settings.classes], axis=1)
    number = labels.sum(1)
    usable = (number > 0 if settings.several else number == 1) & np.array([bool(words) for words in tags])
    # An image with several classes counts towards the rarest of them.
    rarest = np.argsort(labels[usable].sum(0), kind="stable")
    of = rarest[labels[:, rarest].argmax(1)]
    on_disk = raw.Listing(settings.folder)
    label_of: dict[str, str] = {}
    where_in = {name: row for row, name in enumerate(names)}
    strata = raw.shuffled({names[row]: settings.classes[of[row]] for row in np.flatnonzero(usable)}, settings.seed)
    places: dict[str, str | None] = {}
    for label in settings.classes:
        wanted = strata.get(label, [])[: settings.per_class]
        if len(wanted) < 3:
            raise UserError(
                f"{root / LABELS}: {label!r} has {len(wanted)} images with a tag and no other of the chosen labels; "
                f"at least 3 are needed: choose other classes in {where}.classes"
            )
        places |= {name: on_disk.find(name) for name in wanted}
        label_of |= dict.fromkeys(wanted, label)
    if missing := [name for name, place in places.items() if place is None]:
        raise UserError(
            f"{settings.folder}: {len(missing)} of the {len(label_of)} chosen images are not there: "
            f"{raw.first(missing)}; fetch them, or set {where}.images in params.yaml"
        )
    tested = raw.carve(label_of, settings.test, settings.seed)
    training = {name: label for name, label in label_of.items() if name not in tested}
    kept = raw.carve(training, settings.val, settings.seed)
    chosen = dict.fromkeys(label_of, "train") | dict.fromkeys(tested, "test") | dict.fromkeys(kept, "val")
    images, texts = [], []
    for name in sorted(chosen, key=where_in.__getitem__):
        row = where_in[name]
        stem = name.removesuffix(".jpg")
        listed = [settings.classes[n] for n in np.flatnonzero(labels[row])]
        common = (stem, items.encoded_labels(listed), chosen[name])
        images.append((f"image/{stem}", "image", *common, places[name]))
        texts.append((f"text/{stem}", "text", *common, tags[row]))
    return items.validate(pd.DataFrame(images + texts, columns=list(items.COLUMNS)), root)


def _tags(path: Path, names: list[str], advice: str) -> list[str]:
    """The tags of each image of the list as one text, which is empty if it has no tags."""
    listed = raw.lines(path, advice)
    if len(listed) != len(names):
        raise UserError(f"{path}: {len(listed)} lines for the {len(names)} images of {LIST}; fetch it again")
    tags = []
    for number, (line, name) in enumerate(zip(listed, names, strict=True), 1):
        ident, *words = line.split()
        if ident != name.removesuffix(".jpg").rpartition("_")[2]:
            raise UserError(f"{path}: entry {number} is of image {ident!r}, but {LIST} has {name!r} there")
        tags.append(" ".join(words))
    return tags


def _labels(root: Path, name: str, count: int, where: str) -> np.ndarray:
    """(N,) bool: which of the N listed images have the label `name`."""
    path = root / LABELS / f"Labels_{name}.txt"
    lines = raw.lines(path, f"choose other classes in {where}.classes, or set {where}.root in params.yaml")
    odd = [f"entry {number} ({line!r})" for number, line in enumerate(lines, 1) if line not in ("0", "1")]
    if odd or len(lines) != count:
        what = raw.first(odd) or f"{len(lines)} lines"
        raise UserError(
            f"{path}: expected one 0 or 1 per line for the {count} images of {LIST}, found {what}; fetch it again"
        )
    return np.array([line == "1" for line in lines])
