"""Released region features of the data set's own images: (N, R, D), with the boxes, classes and attributes.

The data set's block names the files (`regions`), in any of the formats of `crossmodal.released`; they are converted
once, row by row. An image is found by its file name, with or without the ending, or by its number: `391895` is
MS-COCO's `COCO_val2014_000000391895.jpg`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field

from crossmodal import released
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record
from crossmodal.datasets import raw
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.released import RegionFile, Regions
from crossmodal.released.base import together

NUMBER = re.compile(r"(?:COCO_\w+_)?(\d+)")
ENDING = re.compile(r"\.(jpe?g|png|webp|bmp)$", re.IGNORECASE)
BATCH = 2**22  # bytes per batch; each thread holds several batches


class Settings(extraction.Settings):
    """Settings of the extractor."""

    files: list[Path] = Field([], description="files of regions instead of those that the data set names in `regions`")
    regions: int | None = Field(
        None, ge=1, description="largest number of regions per image; by default that of the image with the most"
    )
    objects: Path | None = Field(None, description="file with the names of the numbered classes, one per line")
    attributes: Path | None = Field(None, description="file with the names of the numbered attributes, one per line")


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for region features from released files; the index has the same columns as that of `regions`.

    Raises
    ------
    UserError : the data set names no files, or they are missing or of an unknown format; no file has an image, or its
        row is broken (with `on_error: skip` the image is left out).
    """
    extraction.expect("image", given.modality, "released")
    files, names = _files(settings, given)
    opened = [released.required(path) for path in files]
    if len({file.dim for file in opened}) > 1:
        listed = ", ".join(f"{file.path} ({file.dim})" for file in opened)
        raise UserError(f"{listed}: their regions have different widths; name files of one detector")
    place = _places(opened, names)
    vocabulary = {key: _lines(getattr(settings, key)) for key in ("objects", "attributes")}
    numbers = {number: None for number, count in Counter(map(_number, given.rows.source)).items() if count == 1}
    most = settings.regions or max(file.shape[1] for file in opened)

    def find(source: str) -> tuple[RegionFile, int] | None:
        name = PurePosixPath(source).name
        number = _number(source)
        exact = (source, name, ENDING.sub("", name))
        keys = [*exact, *([f"#{number}"] if number is not None and number in numbers else [])]
        return next((place[key] for key in keys if key in place), None)

    def load(item: Item) -> Regions:
        place = find(item.source)
        if place is None:
            listed = ", ".join(str(path) for path in files)
            raise UserError(f"{listed}: has no regions of {item.source} (item {item.item_id})")
        regions = place[0].regions(place[1])
        for key, values in (("objects", regions.classes), ("attributes", regions.attributes)):
            if (
                values is not None
                and vocabulary[key]
                and not (values.min() >= 0 and values.max() < len(vocabulary[key]))
            ):
                raise UserError(
                    f"{getattr(settings, key)}: has {len(vocabulary[key])} names, but {place[0].path} numbers up to "
                    f"{values.max()} ({item.source})"
                )
        return regions

    def digest(item: Item) -> bytes:
        place = find(item.source)
        return hashlib.sha256((place[0].version(place[1]) if place else "").encode()).digest()

    stride = 4 * most * opened[0].dim
    shape = (most, opened[0].dim)
    return Recipe(
        lambda listed: Work(
            load, lambda rows: together(rows, most, **vocabulary), max(1, min(64, BATCH // stride)), shape=shape
        ),
        {"files": {str(file.path): {"images": len(file), "broken": len(file.broken)} for file in opened}, "rows": most},
        packages=("h5py", "pybase64"),
        digest=digest,
    )


def _files(settings: Settings, given: Given) -> tuple[list[Path], list[str] | None]:
    """The files, and the image names of their rows if a separate file lists them."""
    if settings.files:
        return settings.files, None
    manifest = given.folder / "items.json"
    named = read_record(manifest).get("region_features")
    if not isinstance(named, dict) or not named.get("files"):
        raise UserError(
            f"{manifest}: names no files of region features; set `regions` in the data set's block of params.yaml to "
            f"{released.FORMS}, or `files` in the extractor's"
        )
    ids = named.get("ids")
    names = None if ids is None else _ids(given.folder / ids)
    return [given.folder / name for name in named["files"]], names


def _ids(path: Path) -> list[str]:
    """Image names of the rows, from a text file with one name per line or the pickle of {name: row} of BAN's files."""
    if path.suffix.lower() not in (".pkl", ".pickle"):
        return raw.lines(path, "correct `region_ids` in the data set's block of params.yaml")
    from crossmodal.released.mdb import plain

    rows = plain(path.read_bytes(), str(path))
    if not isinstance(rows, dict) or sorted(rows.values()) != list(range(len(rows))):
        raise UserError(f"{path}: expected a mapping of each name to its row, numbered from 0 without gaps")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in sorted(rows, key=rows.__getitem__)]


def _places(opened: list[RegionFile], names: Sequence[str] | None) -> dict[str, tuple[RegionFile, int]]:
    """{key of an image: (file, row)}; the keys are its name with and without the ending, and `#` and its number."""
    if names is not None:
        rows = sum(len(file) for file in opened)
        if len(names) != rows:
            raise UserError(f"region_ids: {len(names)} names for the {rows} rows of the files of regions")
    place: dict[str, tuple[RegionFile, int]] = {}
    numbers: dict[str, set[str]] = {}
    start = 0
    for file in opened:
        ids = file.ids if names is None else names[start : start + len(file)]
        start += len(file)
        if ids is None:
            raise UserError(
                f"{file.path}: does not name the images of its rows; name a text file of them in `region_ids` in the "
                "data set's block of params.yaml, one name per line"
            )
        for row, name in enumerate(ids):
            for key in dict.fromkeys((name, ENDING.sub("", name))):
                before = place.get(key)
                # An image in several files is read from the first file in which its row is not broken.
                if before is None or (before[1] in before[0].broken and row not in file.broken):
                    place[key] = (file, row)
            if (number := _number(name)) is not None:
                numbers.setdefault(number, set()).add(name)
    place |= {f"#{number}": place[next(iter(of))] for number, of in numbers.items() if len(of) == 1}
    return place


def _number(source: str) -> str | None:
    """The number in an image's name without leading zeros; None if the name is not a number."""
    match = NUMBER.fullmatch(ENDING.sub("", PurePosixPath(source).name))
    return match[1].lstrip("0") or "0" if match else None


def _lines(path: Path | None) -> list[str]:
    """The names in a file, one per line; of several names separated by commas the first."""
    if path is None:
        return []
    content: list[Any] = raw.lines(path, "correct it in the extractor's block of params.yaml")
    return [line.split(",")[0].strip() for line in content]
