"""Arrays in files, by their rows; rows of a large array are read when needed instead of memory-mapped.

Mapped pages count as resident until the system reclaims them: random batches of a file of 33 GB would fill the memory.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from crossmodal.core import packed
from crossmodal.core.errors import UserError, suggestion

FORMS = "an .npy, .mat or .h5 file of numbers or texts, a .txt with one value per line, or a column of a .csv or .tsv"
THREADS = 4  # threads per file: more than one keeps a disk's queue filled
ALONE = 2**20  # bytes that one thread reads before a second one would start


class Rows:
    """(N, ...) consecutive rows of a file, read without memory-mapping: only the rows that are read become resident."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype):
        self.path, self.offset, self.shape, self.dtype = path, offset, shape, np.dtype(dtype)
        self.stride = int(np.prod(shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self.file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self.file)
        if hasattr(os, "posix_fadvise"):  # otherwise the system reads ahead many times the bytes of a scattered row
            os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_RANDOM)

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS)

    def read(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(n, ...) values of the given rows, in their order.

        Parameters
        ----------
        out : a contiguous buffer for them; a new array by default.

        Raises
        ------
        IndexError : a row does not exist.
        ValueError : `out` has another shape or type.
        UserError : the file is too short.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.shape[0]):
            raise IndexError(f"{self.path}: rows {rows.min()} to {rows.max()} of {self.shape[0]}")
        if out is None:
            out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        elif out.shape != (len(rows), *self.shape[1:]) or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(f"{self.path}: expected a contiguous {self.dtype} buffer of {len(rows)} rows")
        if not out.nbytes:
            return out
        view = memoryview(out.reshape(-1).view(np.uint8))
        parts = min(THREADS, len(rows), out.nbytes // ALONE)
        if parts < 2:
            self._some(rows, view)
            return out
        edges = np.linspace(0, len(rows), parts + 1).astype(int)
        spans = pairwise(edges.tolist())
        jobs = [self._workers.submit(self._some, rows[a:b], view[a * self.stride : b * self.stride]) for a, b in spans]
        for job in jobs:
            job.result()
        return out

    def _some(self, rows: np.ndarray, view: memoryview) -> None:
        # Consecutive rows are read at once.
        starts = np.concatenate([[0], np.flatnonzero(np.diff(rows) != 1) + 1])
        for first, last in zip(starts, [*starts[1:], len(rows)], strict=True):
            part = view[first * self.stride : last * self.stride]
            place = self.offset + int(rows[first]) * self.stride
            while len(part):
                done = os.preadv(self.file, [part], place)
                if done == 0:
                    raise UserError(f"{self.path}: has been cut short; put it back or make it again")
                part, place = part[done:], place + done


class Array:
    """An array of a file: its shape, and rows of it along the first axis (the last one where `columns`)."""

    def __init__(
        self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, read: Callable[[np.ndarray], np.ndarray]
    ):
        self.path, self.name, self.shape, self.dtype, self.read = path, name, shape, dtype, read
        if not shape:
            raise UserError(f"{self.where}: holds a single value, expected one per item")
        packed.check_rows(self.where, shape, np.dtype(dtype).itemsize)

    @property
    def where(self) -> str:
        return f"{self.path}#{self.name}" if self.name else str(self.path)

    @property
    def first(self) -> int:
        """The number of the first row or class in the file's tool: 1 for MATLAB, else 0."""
        return 1 if self.path.suffix.lower() == ".mat" else 0

    def __len__(self) -> int:
        return self.shape[0]

    def all(self) -> np.ndarray:
        """The values of all rows.

        Raises
        ------
        UserError : they, and rows that are chosen from them, have more than `limits.whole_bytes`.
        """
        size = 2 * math.prod(self.shape) * np.dtype(self.dtype).itemsize
        packed.check_whole(self.where, size, f"to choose from all {len(self):,} rows")
        return self.read(np.arange(len(self)))

    def __getitem__(self, row: int) -> np.ndarray:
        return self.read(np.array([row]))[0]

    def text(self, row: int, value: Any) -> str:
        """A value of the array as text without the blanks around it.

        Raises
        ------
        UserError : it is no text in UTF-8.
        """
        try:
            text = value.decode() if isinstance(value, bytes) else str(value)
            text.encode()  # half a character cannot be written
        except UnicodeError:
            raise UserError(f"{self.where}: row {row} is no text in UTF-8; save it in that encoding") from None
        return text.strip()


def named(path: Path, name: str, names: list[str]) -> str:
    """`name` if a file's arrays `names` include it, or the name of the only one where `name` is empty.

    Raises
    ------
    UserError : there is no such array, or `name` is empty and there are several.
    """
    if name in names:
        return name
    if not name and len(names) == 1:
        return names[0]
    if not names:
        raise UserError(f"{path}: holds no arrays")
    if not name:
        raise UserError(f"{path}: holds several arrays; name one of them: {', '.join(sorted(names))}")
    raise UserError(f"{path}: has no array {name!r}" + suggestion(name, names))


def in_memory(path: Path, name: str, array: np.ndarray, columns: bool) -> Array:
    """The `Array` of values that are in memory; with `columns` the axes are reversed."""
    array = array.T if columns else array
    return Array(path, name, array.shape, array.dtype, lambda rows: array[rows])


@contextmanager
def readable(path: Path, advice: str = "fetch or make the file again") -> Iterator[None]:
    """Turn whatever a reader raises for a damaged file into one clear error."""
    try:
        yield
    except (UserError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # what broken files raise is not documented
        message = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is truncated or damaged ({message}); {advice}") from None
