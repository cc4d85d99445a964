"""Karpathy's layout of Flickr8K, Flickr30K and MS-COCO: an image folder and a `dataset_*.json` of captions."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.datasets import items
from crossmodal.errors import UserError
from crossmodal.files import read_json, sha256_file

WORD = re.compile(r"\w")
SHOWN = 5  # file names in an error


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    annotations: Path = Field(description="dataset_*.json")
    images: Path = Field(description="image folder; MS-COCO's holds train2014 and val2014")
    restval: Literal["train", "drop"] = Field("train", description="where MS-COCO's `restval` images go")


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Read the annotations and write `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : files that are missing, malformed or contradict each other; every kind of fault names its first items.
    """
    frame = read(settings)
    inside = settings.images.is_relative_to(folder)
    where = settings.images.relative_to(folder) if inside else Path(os.path.relpath(settings.images, folder))
    manifest = {
        "reader": "karpathy",
        "title": title,
        "root": str(settings.images if settings.images.is_absolute() and not inside else where),
        "annotations": {"file": settings.annotations.name, "sha256": sha256_file(settings.annotations)},
        "settings": {"restval": settings.restval},
    }
    items.write(frame, folder, manifest)


def read(settings: Settings) -> pd.DataFrame:
    """The items: all images in the file's order, then all captions."""
    path = settings.annotations
    if not path.is_file():
        raise UserError(
            f"{path}: not found; set datasets.*.annotations in params.yaml to the data set's dataset_*.json"
        )
    if not settings.images.is_dir():
        raise UserError(f"{settings.images}: no such folder; set datasets.*.images in params.yaml to the image folder")
    content = read_json(path)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: expected an object with a list `images`, as Karpathy's dataset_*.json has")
    on_disk = _Listing(settings.images)
    images: list[tuple[str, str, str]] = []
    captions: list[tuple[str, str, str, str]] = []
    seen: dict[str, int] = {}
    missing: list[str] = []
    for number, entry in enumerate(entries):
        name, split, sentences = _fields(entry, number, path)
        if split == "restval":
            if settings.restval == "drop":
                continue
            split = "train"
        stem = Path(name).stem
        if stem in seen:
            raise UserError(
                f"{path}: image {name!r} is listed twice (images[{seen[stem]}] and images[{number}]); keep one"
            )
        seen[stem] = number
        source = on_disk.find(name, entry.get("filepath"))
        if source is None:
            missing.append(name)
            continue
        images.append((stem, split, source))
        for k, sentence in enumerate(sentences):
            captions.append((f"{stem}#{k}", stem, split, _caption(sentence, k, name, path)))
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise UserError(
            f"{settings.images}: {len(missing)} of the {len(entries)} images of {path.name} are not there: "
            f"{', '.join(missing[:SHOWN])}{more}; complete the folder, or set datasets.*.images to the right one"
        )
    lacking = {"train", "val", "test"} - {split for _, split, _ in images}
    if lacking:
        raise UserError(f"{path}: no image is of the split(s) {', '.join(sorted(lacking))}; all three are needed")
    frame = pd.DataFrame(
        [(stem, "image", stem, None, split, source) for stem, split, source in images]
        + [(item, "text", stem, None, split, caption) for item, stem, split, caption in captions],
        columns=list(items.COLUMNS),
    )
    return items.validate(frame, path)


def _fields(entry: Any, number: int, path: Path) -> tuple[str, str, list[Any]]:
    place = f"{path}: images[{number}]"
    if not isinstance(entry, dict):
        raise UserError(f"{place}: expected an object, found {type(entry).__name__}")
    for key, kind in (("filename", str), ("split", str), ("sentences", list)):
        if not isinstance(entry.get(key), kind):
            raise UserError(f"{place}: `{key}` is missing or is no {kind.__name__}")
    if entry["split"] not in ("train", "restval", "val", "test"):
        raise UserError(f"{place}: split {entry['split']!r} is unknown; expected train, restval, val or test")
    if not entry["sentences"]:
        raise UserError(f"{place}: image {entry['filename']!r} has no captions; give it one or take it out")
    return entry["filename"], entry["split"], entry["sentences"]


def _caption(sentence: Any, k: int, name: str, path: Path) -> str:
    raw = sentence.get("raw") if isinstance(sentence, dict) else None
    if raw is None and isinstance(sentence, dict) and isinstance(sentence.get("tokens"), list):
        raw = " ".join(map(str, sentence["tokens"]))
    if not isinstance(raw, str):
        raise UserError(f"{path}: caption {k} of image {name!r} has neither `raw` nor `tokens`")
    if not WORD.search(raw):
        raise UserError(f"{path}: caption {k} of image {name!r} has no words ({raw!r}); mend it or take it out")
    return " ".join(raw.split())


class _Listing:
    """The image folder, listed once a sub-folder: 123,287 calls of `stat` (MS-COCO) take minutes on a network."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.names: dict[str, set[str]] = {}

    def holds(self, sub: str, name: str) -> bool:
        if sub not in self.names:
            path = self.folder / sub
            self.names[sub] = {entry.name for entry in os.scandir(path)} if path.is_dir() else set()
        return name in self.names[sub]

    def find(self, name: str, filepath: str | None) -> str | None:
        """Path of an image relative to the folder: where the file says, where its name says, or right there."""
        coco = re.match(r"COCO_(train2014|val2014)_", name)
        for sub in filter(None, (filepath, coco and coco[1])):
            if self.holds(sub, name):
                return f"{sub}/{name}"
        return name if self.holds("", name) else None
