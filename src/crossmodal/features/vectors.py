"""Vectors of the data set's own items that were made elsewhere: rows of one array, found by the names of the rows.

The data set keeps its reader, so that its partitions, captions and classes are those of its raw files; an array that is
a data set by itself is read by `precomputed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import Field

from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file
from crossmodal.datasets import raw
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.released.arrays import open_array


class Settings(extraction.Settings):
    """Settings of the extractor."""

    file: str = Field(description="file of an (N, D) array, or FILE#ARRAY")
    ids: Path | None = Field(
        None,
        description="file with the name of each row, one per line: an item's id, its group or its file's path or name, "
        "with or without the ending; by default the rows are the items in their order",
    )


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for (N, D) features that are rows of an array.

    Raises
    ------
    UserError : a file is missing, damaged or no (N, D) array, its rows are not as many as their names or as the items,
        a name stands twice; an item has no row or one that is not finite (with `on_error: skip` it is left out).
    """
    path, _, name = settings.file.partition("#")
    array = open_array(path, name)
    if len(array.shape) != 2:
        raise UserError(f"{settings.file}: has the shape {tuple(array.shape)}; expected rows of numbers, (N, D)")
    rows = _rows(settings, len(array), given)
    version = sha256_file(Path(path))

    def find(item: Item) -> int:
        row = next((rows[key] for key in _names(item.item_id, item.source) if key in rows), None)
        if row is None:
            raise UserError(f"{settings.ids}: names no row for {item.source} (item {item.item_id})")
        return row

    def load(item: Item) -> np.ndarray:
        row = find(item)
        with np.errstate(over="ignore"):
            vector = array[row].astype(np.float32)
        if not np.isfinite(vector).all():
            raise UserError(f"{settings.file}: row {row} ({item.item_id}) is not all finite numbers")
        return vector

    def digest(item: Item) -> bytes:
        try:
            return hashlib.sha256(f"{version}#{name}#{find(item)}".encode()).digest()
        except UserError:  # `load` reports it
            return b""

    return Recipe(
        lambda listed: Work(load, np.stack, 512),
        {"array_sha256": version, "ids_sha256": sha256_file(settings.ids) if settings.ids else None},
        digest=digest,
        packages=("h5py", "scipy", "pyarrow"),
    )


def _rows(settings: Settings, count: int, given: Given) -> dict[str, int]:
    """{name: row}."""
    if settings.ids is None:
        if count != len(given.rows):
            raise UserError(
                f"{settings.file}: has {count} rows, but the data set {len(given.rows)} {given.modality} items; name "
                "its rows in a file, and that in `ids`"
            )
        return {str(item): row for row, item in enumerate(given.rows.item_id)}
    names = raw.lines(settings.ids, "extractors.*.ids is a file with the name of each row, one per line")
    if len(names) != count:
        raise UserError(f"{settings.ids}: names {len(names)} rows, but {settings.file} has {count}")
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) < count:
        twice = next(name for row, name in enumerate(names) if rows[name] != row)
        raise UserError(f"{settings.ids}: names {twice!r} twice; each row needs a name of its own")
    if "group_id" in given.rows:
        groups = zip(given.rows.group_id, given.rows.item_id, strict=True)
        rows |= {str(item): rows[str(group)] for group, item in groups if str(group) in rows}
    return rows


def _names(item_id: str, source: str) -> Iterator[str]:
    """What a row of an item may be named."""
    path = PurePosixPath(source)
    yield from (item_id, source, str(path.with_suffix("")), path.name, path.stem)
