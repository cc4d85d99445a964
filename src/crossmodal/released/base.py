"""What all forms of released region features open as."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossmodal.errors import UserError
from crossmodal.rows import Array

log = logging.getLogger(__name__)


class Regions(NamedTuple):
    """The regions of one image, and what the file says of each: numbers of classes and attributes in its vocabulary."""

    features: np.ndarray  # (n, D) float32
    boxes: np.ndarray | None = None  # (n, 4) float32: x1, y1, x2, y2 in pixels
    classes: np.ndarray | None = None  # (n,) integers
    confidences: np.ndarray | None = None  # (n,) of the classes
    attributes: np.ndarray | None = None  # (n,) integers


class RegionFile(Array):
    """Images with a set of regions each, (N, R, D) with R those of the image that has most.

    Parameters
    ----------
    ids : (N,) names of the images, or None where the file names none.
    counts : (N,) regions of each image; 0 where its row is broken.
    broken : row to what is wrong with it; reading it raises a UserError.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        ids: Sequence[str] | None,
        counts: np.ndarray,
        dim: int,
        broken: dict[int, str] | None = None,
    ):
        counts = np.asarray(counts, np.int64)
        if not len(counts) or not counts.max(initial=0):
            raise UserError(f"{path}: holds no image with regions; fetch or make it again")
        self.ids = None if ids is None else list(ids)
        self.counts, self.dim, self.broken = counts, dim, broken or {}
        super().__init__(path, name, (len(counts), int(counts.max()), dim), np.dtype(np.float32), self._padded)

    def regions(self, row: int) -> Regions:
        """The regions of one row.

        Raises
        ------
        UserError : a broken row, or one whose features are not finite numbers.
        """
        if row in self.broken:
            raise UserError(f"{self.path}: {self.broken[row]}; fetch the file again, or take the row out")
        found = self._regions(row)
        if not np.isfinite(found.features).all():
            raise UserError(f"{self.path}: row {row} is not all finite numbers; fetch the file again")
        return found

    def version(self, row: int) -> str:
        """Tells the row of this file from another's: by the file's size and time of change, without reading it."""
        found = self.path.stat()
        return f"{found.st_size} {found.st_mtime_ns} {row}"

    def _regions(self, row: int) -> Regions:
        raise NotImplementedError

    def _padded(self, rows: np.ndarray) -> np.ndarray:
        out = np.zeros((len(rows), *self.shape[1:]), np.float32)
        for place, row in zip(out, rows, strict=True):
            features = self.regions(int(row)).features
            place[: len(features)] = features
        return out


def together(
    rows: Sequence[Regions], most: int, objects: Sequence[str] = (), attributes: Sequence[str] = ()
) -> tuple[np.ndarray, dict[str, list]]:
    """(B, `most`, D) padded with zeros, and the columns of the index that `crossmodal.features.regions` has too.

    Parameters
    ----------
    objects, attributes : names of the numbers in the files; without them a number is its own name.

    Returns
    -------
    Array and `count`, `boxes` (lists of four, empty where the file has none), `class`, `attribute`, `confidence`.
    """
    array = np.zeros((len(rows), most, rows[0].features.shape[1]), np.float32)
    for place, one in zip(array, rows, strict=True):
        place[: len(one.features)] = one.features[:most]
    counts = [min(most, len(one.features)) for one in rows]

    def cut(values: np.ndarray | None, count: int) -> list:
        return [] if values is None else values[:count].tolist()

    def named(values: np.ndarray | None, count: int, names: Sequence[str]) -> list[str]:
        return [names[value] if names else str(value) for value in cut(values, count)]

    pairs = [*zip(rows, counts, strict=True)]
    columns = {
        "count": counts,
        "boxes": [cut(one.boxes, n) for one, n in pairs],
        "class": [named(one.classes, n, objects) for one, n in pairs],
        "attribute": [named(one.attributes, n, attributes) for one, n in pairs],
        "confidence": [cut(one.confidences, n) for one, n in pairs],
    }
    return array, columns


def once(ids: Sequence[str], broken: dict[int, str], path: Path) -> list[int]:
    """Rows with each image once: the first that is not broken. Says how many stand there more often."""
    kept: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name not in kept or (kept[name] in broken and row not in broken):
            kept[name] = row
    if len(kept) < len(ids):
        log.warning("%s: %d row(s) repeat an image and are left out", path, len(ids) - len(kept))
    return sorted(kept.values())
