"""Precomputed features, copied unchanged from their files: vectors (N, D) or region sets (N, R, D).

The items come from the data set reader `precomputed`, in which the source of an item is a row of an array. For released
files of region features, the boxes, classes, attributes and confidences of the regions go into the index.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from crossmodal.core import paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.released import RegionFile, Regions
from crossmodal.released.arrays import Array, Place, open_array
from crossmodal.released.base import together

BATCH = 2**24  # bytes per batch


class Settings(extraction.Settings):
    """Settings of the extractor; values are kept, except that types wider than float32 are rounded to it."""

    dtype: Literal["kept", "float32", "float16"] = Field(
        "kept",
        description="type of the stored numbers; kept: float16 where the files contain no wider type, else float32",
    )


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for features that are unchanged rows of arrays.

    Raises
    ------
    UserError : a file is missing or damaged, lacks the array, or a row has non-finite values. With `on_error: skip`
        these rows are left out.
    """
    places = {str(source): Place.parse(str(source)) for source in given.rows.source}
    counted = any(place.count is not None for place in places.values())
    arrays = {(place.file, place.array, place.columns): None for place in places.values()}
    arrays = {key: _opened(given.root, *key) for key in arrays}
    good = [array for array in arrays.values() if isinstance(array, Array)]
    regions = {key[0]: array for key, array in arrays.items() if isinstance(array, RegionFile)}
    plain = dict.fromkeys(key[0] for key in arrays if key[0] not in regions)
    hashes = {file: _hash(given.root, file) for file in plain}
    most = max((array.shape[1] for array in regions.values()), default=0)
    if settings.dtype == "kept":
        narrow = bool(good) and all(array.dtype == np.float16 for array in good)
        settings = settings.model_copy(update={"dtype": "float16" if narrow else "float32"})

    def load(item: Item) -> tuple[np.ndarray, int] | Regions:
        place = places[item.source]
        array = arrays[place.file, place.array, place.columns]
        if isinstance(array, UserError):
            raise UserError(f"{array} (item {item.item_id})")
        if place.row >= len(array):
            raise UserError(f"{array.where}: has {len(array)} rows, not {place.row + 1}; prepare the data set again")
        if isinstance(array, RegionFile):
            return array.regions(place.row)
        with np.errstate(over="ignore"):
            row = array[place.row].astype(np.float32)
        if not np.isfinite(row if place.count is None else row[: place.count]).all():
            raise UserError(f"{array.where}: row {place.row} ({item.item_id}) is not all finite numbers")
        if place.count is not None:
            row[place.count :] = 0  # files may pad with other values
        return row, len(row) if place.count is None else place.count

    def compute(rows: list[tuple[np.ndarray, int]] | list[Regions]) -> Any:
        if regions:
            return together(rows, most)
        array, counts = np.stack([row for row, _ in rows]), [count for _, count in rows]
        return (array, {"count": counts}) if counted else array

    def digest(item: Item) -> bytes:
        place = places[item.source]
        if (region_file := regions.get(place.file)) is not None:
            version = region_file.version(place.row)
        else:
            version = f"{hashes[place.file]}#{item.source.partition('#')[2]}"
        return hashlib.sha256(version.encode()).digest()

    stride = 4 * int(np.prod(good[0].shape[1:], dtype=np.int64)) if good else 4
    shape = (most, good[0].shape[2]) if regions else None
    return Recipe(
        lambda listed: Work(load, compute, max(1, min(512, BATCH // max(stride, 1))), shape=shape),
        {"files": dict(sorted(hashes.items())) | {file: array.shape for file, array in regions.items()}},
        digest=digest,
        packages=("h5py", "scipy", "pyarrow"),
        settings=settings,
    )


def _opened(root: Path, file: str, name: str, columns: bool) -> Array | UserError:
    try:
        return open_array(paths.inside(root, file, "items.parquet"), name, columns)
    except UserError as error:  # it is raised for each of the file's items
        return error


def _hash(root: Path, file: str) -> str:
    """SHA-256 of a file, or of nothing if it cannot be read, which `load` will report for its items."""
    try:
        return sha256_file(paths.inside(root, file, "items.parquet"))
    except (OSError, UserError):
        return hashlib.sha256().hexdigest()
