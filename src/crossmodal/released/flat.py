"""HDF5 files in the format of BAN: the concatenated regions of all images, with the range of rows of each image.

The arrays are `image_features` (total, D), `pos_boxes` (N, 2) and `image_bb` (total, 4). Files with a fixed number of
regions have `image_features` (N, R, D) and `image_bb` (N, R, 4) instead. If present, `image_ids` names the images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.core.hdf5 import stored
from crossmodal.core.rows import readable
from crossmodal.released.base import RegionFile, Regions

FEATURES, SPANS, BOXES = "image_features", "pos_boxes", "image_bb"
IDS = ("image_ids", "image_id", "ids")


def is_one(path: Path, name: str) -> bool:
    """Whether a file is an HDF5 file of this format."""
    if path.suffix.lower() not in (".h5", ".hdf5") or not path.is_file() or name not in ("", FEATURES):
        return False
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with readable(path), h5py.File(path, "r") as file:
        if FEATURES not in file.keys():  # noqa: SIM118, which would follow links
            return False
        # If requested by its name, an array with a fixed number of regions is read as an ordinary array.
        return SPANS in file.keys() or (  # noqa: SIM118
            not name and BOXES in file.keys() and stored(path, file, FEATURES).ndim == 3  # noqa: SIM118
        )


def open_regions(path: Path, name: str) -> RegionFile:
    """Open the file; raises a UserError if its arrays do not match each other."""
    return _Flat(path)


class _Flat(RegionFile):
    def __init__(self, path: Path):
        import h5py

        with readable(path):
            ids, counts = self._opened(path, h5py.File(path, "r"))
        super().__init__(path, FEATURES, ids, counts, int(self.features.shape[-1]))

    def _opened(self, path: Path, file: Any) -> tuple[list[str] | None, np.ndarray]:
        """Names of the images, or None if the file has none, and the number of regions of each."""
        present = set(file)
        self.features = stored(path, file, FEATURES)
        self.boxes = stored(path, file, BOXES) if BOXES in present else None
        if self.features.ndim not in (2, 3) or self.features.dtype.kind not in "fiu":
            raise UserError(
                f"{path}#{FEATURES}: is a {self.features.dtype} array of shape {self.features.shape}, expected numbers "
                "(regions, D) or (images, regions, D)"
            )
        if self.features.ndim == 3:
            n = len(self.features)
            self.spans = None
            counts = np.full(n, self.features.shape[1])
        else:
            self.spans = np.asarray(stored(path, file, SPANS)[()], np.int64)
            counts = self._counted(path)
        key = next((field for field in IDS if field in present), None)
        ids = None if key is None else [_text(value) for value in np.ravel(stored(path, file, key)[()])]
        if ids is not None and len(ids) != len(counts):
            raise UserError(f"{path}#{key}: {len(ids)} names for {len(counts)} images; fetch the file again")
        return ids, counts

    def _counted(self, path: Path) -> np.ndarray:
        total, spans = len(self.features), self.spans
        if spans.ndim != 2 or spans.shape[1] != 2:
            raise UserError(
                f"{path}#{SPANS}: has shape {spans.shape}, expected the first and the last row of each image"
            )
        odd = np.flatnonzero((spans[:, 0] < 0) | (spans[:, 1] <= spans[:, 0]) | (spans[:, 1] > total))
        if len(odd):
            raise UserError(
                f"{path}#{SPANS}: image {odd[0]} has rows {spans[odd[0], 0]} to {spans[odd[0], 1]} of {total} in "
                f"{FEATURES}; fetch the file again"
            )
        return spans[:, 1] - spans[:, 0]

    def _regions(self, row: int) -> Regions:
        part = row if self.spans is None else slice(*map(int, self.spans[row]))
        with readable(self.path):
            boxes = None if self.boxes is None else np.asarray(self.boxes[part], np.float32)
            return Regions(np.asarray(self.features[part], np.float32), boxes)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
