"""The interface of released region features, which is common to all file formats."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.core.rows import Array

log = logging.getLogger(__name__)


class Regions(NamedTuple):
    """The regions of one image; classes and attributes are numbers in the vocabulary of the file's detector."""

    features: np.ndarray  # (n, D) float32
    boxes: np.ndarray | None = None  # (n, 4) float32: x1, y1, x2, y2 in pixels
    classes: np.ndarray | None = None  # (n,) integers
    confidences: np.ndarray | None = None  # (n,) of the classes
    attributes: np.ndarray | None = None  # (n,) integers


class RegionFile(Array):
    """An array (N, R, D) of the region features of N images, where R is the largest number of regions of an image.

    Parameters
    ----------
    ids : (N,) names of the images, or None if the file has no names.
    counts : (N,) number of regions of each image, or 0 if its row is broken.
    dim : size D of the features.
    broken : {row: reason why it is broken}; reading such a row raises a UserError.

    Raises
    ------
    UserError : no image has regions.
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
        UserError : the row is broken, or its features are not finite numbers.
        """
        if row in self.broken:
            raise UserError(f"{self.path}: {self.broken[row]}; fetch the file again, or take the row out")
        regions = self._regions(row)
        if not np.isfinite(regions.features).all():
            raise UserError(f"{self.path}: row {row} is not all finite numbers; fetch the file again")
        return regions

    def version(self, row: int) -> str:
        """An identifier of a row's content, made of the file's size and modification time and the row number."""
        status = self.path.stat()
        return f"{status.st_size} {status.st_mtime_ns} {row}"

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
    """Stack the regions of B images, and give the same columns of the index as `crossmodal.features.regions`.

    Parameters
    ----------
    most : maximum number of regions per image; further ones are cut off.
    objects, attributes : names of the class and attribute numbers; without them, the number is used as the name.

    Returns
    -------
    (B, `most`, D) float32 features, padded with zeros, and the columns `count`, `boxes` (lists of four numbers, empty
    if the file has none), `class`, `attribute` and `confidence`.
    """
    array = np.zeros((len(rows), most, rows[0].features.shape[1]), np.float32)
    for place, regions in zip(array, rows, strict=True):
        place[: len(regions.features)] = regions.features[:most]
    counts = [min(most, len(regions.features)) for regions in rows]

    def cut(values: np.ndarray | None, count: int) -> list:
        return [] if values is None else values[:count].tolist()

    def named(values: np.ndarray | None, count: int, names: Sequence[str]) -> list[str]:
        return [names[value] if names else str(value) for value in cut(values, count)]

    pairs = [*zip(rows, counts, strict=True)]
    columns = {
        "count": counts,
        "boxes": [cut(regions.boxes, n) for regions, n in pairs],
        "class": [named(regions.classes, n, objects) for regions, n in pairs],
        "attribute": [named(regions.attributes, n, attributes) for regions, n in pairs],
        "confidence": [cut(regions.confidences, n) for regions, n in pairs],
    }
    return array, columns


def once(ids: Sequence[str], broken: dict[int, str], path: Path) -> list[int]:
    """Rows with each image once, in the first row that is not broken; the number of repeated rows is logged."""
    kept: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name not in kept or (kept[name] in broken and row not in broken):
            kept[name] = row
    if len(kept) < len(ids):
        log.warning("%s: %d row(s) repeat an image and are left out", path, len(ids) - len(kept))
    return sorted(kept.values())
