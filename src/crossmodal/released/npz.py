"""Folders with one `.npz` file per image, named after the image, as ports of bottom-up attention write them.

The arrays are `x`, `bbox` and `num_bbox`. `x` is (n, D), or (D, n) in the files of MCAN and OpenVQA; `num_bbox` or
`bbox` tell which. A folder `NAME_att` whose files hold only `feat` has its boxes as `.npy` files in the folder
`NAME_box` beside it (Luo's `cocobu_att`).
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from crossmodal.core import packed
from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.released.base import RegionFile, Regions

FEATURES = ("x", "features", "feat")
BOXES = ("bbox", "boxes")
COUNT = ("num_bbox", "num_boxes")
DAMAGED = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def is_one(path: Path, name: str) -> bool:
    """Whether a path is a folder with `.npz` files."""
    return path.is_dir() and any(entry.name.endswith(".npz") for entry in os.scandir(path))


def open_regions(path: Path, name: str) -> RegionFile:
    """Open the folder; the features are the array `name`, by default any of `FEATURES`."""
    return _Folder(path, name)


class _Folder(RegionFile):
    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.files = sorted(entry.name for entry in os.scandir(path) if entry.name.endswith(".npz"))
        boxes = path.with_name(f"{path.name.removesuffix('_att')}_box")
        self.boxes = boxes if path.name.endswith("_att") and boxes.is_dir() else None
        counts, dims, broken = [], [], {}
        for row, file in enumerate(tracked(self.files, f"reading {path}", unit="files")):
            try:
                features = self._features(*self._arrays(file))
            except UserError as error:
                broken[row] = str(error).removeprefix(f"{path}: ")
                counts.append(0)
            else:
                counts.append(len(features))
                dims.append(features.shape[1])
        dim = max(set(dims), key=dims.count, default=0)
        ids = [file.removesuffix(".npz") for file in self.files]
        super().__init__(path, name, ids, counts, dim, broken)

    def version(self, row: int) -> str:
        status = (self.path / self.files[row]).stat()
        return f"{status.st_size} {status.st_mtime_ns} {self.files[row]}"

    def _regions(self, row: int) -> Regions:
        arrays, key = self._arrays(self.files[row])
        features = self._features(arrays, key)
        if features.shape[1] != self.dim:
            raise UserError(
                f"{self.path / self.files[row]}: regions have {features.shape[1]} numbers, in most files {self.dim}"
            )
        boxes = next((arrays[field] for field in BOXES if field in arrays), None)
        if boxes is None and self.boxes is not None:
            boxes = packed.mapped(self.boxes / f"{Path(self.files[row]).stem}.npy")
        if boxes is not None:
            boxes = np.asarray(boxes, np.float32).reshape(-1, 4)[: len(features)]
        return Regions(np.ascontiguousarray(features, np.float32), boxes)

    def _arrays(self, file: str) -> tuple[dict[str, np.ndarray], str]:
        """The relevant arrays of a file, and the name of the features among them."""
        try:
            with packed.arrays(self.path / file) as archive:
                wanted = {self.name, *FEATURES, *BOXES, *COUNT}
                arrays = {key: archive[key] for key in archive if key in wanted}
                present = list(archive)
        except DAMAGED as error:
            message = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self.path}: {file} is truncated or damaged ({message})") from None
        keys = [key for key in ((self.name,) if self.name else FEATURES) if key in arrays]
        if not keys or arrays[keys[0]].ndim != 2:
            raise UserError(
                f"{self.path}: {file} has no (n, D) array {self.name or ', '.join(FEATURES)} (it holds "
                f"{', '.join(present)})"
            )
        return arrays, keys[0]

    @staticmethod
    def _features(arrays: dict[str, np.ndarray], key: str) -> np.ndarray:
        """(n, D) features, transposed if each region is a column, and cut to the actual number of regions."""
        x = arrays[key]
        counts = [int(arrays[field]) for field in COUNT if field in arrays]
        counts += [len(arrays[field]) for field in BOXES if field in arrays]
        if not counts:
            return x
        rows, columns = (size in counts for size in x.shape)
        x = x.T if columns and not rows else x
        return x[: counts[0]]
