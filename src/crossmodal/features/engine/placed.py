"""An array file whose rows are written as they are computed, for features that are too large to be held in memory.

Rows are written to the file itself, since the pages of a memory map would count as memory of the process.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write, reason

BLOCK = 2**26  # bytes moved at a time


def narrowed(part: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """`part` converted to the stored type.

    Raises
    ------
    UserError : the type cannot hold a value.
    """
    with np.errstate(over="ignore"):
        stored = part.astype(dtype, copy=False)
    if not np.isfinite(stored).all():
        raise UserError(
            f"{name}: a value of {float(np.abs(part).max()):.0f} is too large for {dtype}; set `dtype: float32`"
        )
    return stored


class Placed:
    """An `.npy` file whose shape is known before its rows are computed; an unfinished file is continued.

    Files `START.*.parquet` beside it mark that the rows from START on are written; they are deleted with the array.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str):
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.stride = int(np.prod(shape[1:], dtype=np.int64)) * self.dtype.itemsize
        size = shape[0] * self.stride
        with suppress(OSError, ValueError):
            if np.load(path, mmap_mode="r").shape != shape:
                path.unlink()
        if not path.exists():
            for mark in path.parent.glob("*.parquet"):  # these marks belong to an array that no longer exists
                mark.unlink()
            with atomic_write(path) as temporary, temporary.open("wb") as stream:
                self._head(stream, shape)
                stream.truncate(stream.tell() + size)
        self.offset = path.stat().st_size - size

    def forget(self, starts: Iterable[int]) -> None:
        """Remove the marks of the given starts, whose rows will be written again."""
        for start in starts:
            for mark in self.path.parent.glob(f"{start}.*.parquet"):
                mark.unlink()

    def write(self, start: int, rows: np.ndarray, name: str) -> None:
        """Write (n, ...) rows from row `start` on.

        Raises
        ------
        UserError : the stored type cannot hold a value, or the disk is full.
        ValueError : the rows do not have the announced shape.
        """
        if not len(rows):
            return
        if rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"{name}: an item has shape {rows.shape[1:]}, expected {self.shape[1:]}")
        data = memoryview(np.ascontiguousarray(narrowed(rows, self.dtype.name, name)).reshape(-1).view(np.uint8))
        place = self.offset + start * self.stride
        try:
            with self.path.open("r+b", buffering=0) as stream:
                while len(data):
                    done = os.pwrite(stream.fileno(), data, place)
                    data, place = data[done:], place + done
        except OSError as error:
            if reason(error) is None:
                raise
            raise UserError(f"{self.path}: cannot be written: {reason(error)}") from error

    def finish(self, target: Path, good: list[int], size: int) -> None:
        """Move the array to `target` without the rows of items that were left out.

        Parameters
        ----------
        good : number of rows written at the beginning of each block of `size` rows.
        """
        total = sum(good)
        if total < self.shape[0]:
            with self.path.open("r+b") as stream:
                for number, (count, end) in enumerate(zip(good, accumulate(good), strict=True)):
                    self._move(stream.fileno(), number * size, end - count, count)
                self._head(stream, (total, *self.shape[1:]))
                if stream.tell() != self.offset:
                    raise ValueError(f"{self.path}: has a header of another length")
                stream.truncate(self.offset + total * self.stride)
        with atomic_write(target) as temporary:
            shutil.move(self.path, temporary)

    def _move(self, file: int, source: int, target: int, count: int) -> None:
        """Move `count` rows from `source` to the earlier row `target`, from the front."""
        if source == target:
            return
        step = max(1, BLOCK // max(self.stride, 1))
        for first in range(0, count, step):
            length = min(step, count - first) * self.stride
            data = os.pread(file, length, self.offset + (source + first) * self.stride)
            os.pwrite(file, data, self.offset + (target + first) * self.stride)

    def _head(self, stream: BinaryIO, shape: tuple[int, ...]) -> None:
        described = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, described)
