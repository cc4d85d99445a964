"""TSV files of bottom-up attention: one row per image, with base64 columns of numbers and without a header.

Two orders of columns are in use: that of Anderson et al. (6 `FIELDS`), and that of LXMERT with classes and attributes
(10). The length of a row follows from its number of boxes, so that rows are found by seeking from one to the next, and
a file of 22 GB is read only once, when its features are converted. A row of another length is broken.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pybase64

from crossmodal.core.console import progress
from crossmodal.core.errors import UserError
from crossmodal.core.files import is_count
from crossmodal.released.base import RegionFile, Regions, log, once

FIELDS = {
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
    10: (
        "img_id",
        "img_h",
        "img_w",
        "objects_id",
        "objects_conf",
        "attrs_id",
        "attrs_conf",
        "num_boxes",
        "boxes",
        "features",
    ),
}
TYPES = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4", "boxes": "<f4"}
HEAD = 2**12  # bytes read from each row to find the next one; they must include its number of boxes
BLOCK = 2**20
SAMPLED = 5  # rows from which the size of the features is inferred


class Row(NamedTuple):
    """The position of an image's row in the file."""

    name: str
    start: int  # position in the file
    end: int  # position of the line end
    boxes: int  # 0 if the row is broken
    reason: str = ""


def is_one(path: Path, name: str) -> bool:
    """Whether a file is such a TSV, judged by its name and the columns of its first line."""
    if name or not path.is_file() or not (path.suffix == ".tsv" or ".tsv." in path.name):
        return False
    with path.open("rb") as stream:
        head = stream.readline(2**16).split(b"\t")
    return any(_numbered(head, fields) for fields in FIELDS.values() if len(head) in (len(fields), len(fields) - 1))


def _numbered(head: list[bytes], fields: tuple[str, ...]) -> bool:
    """Whether the cells that should hold whole numbers do so, unlike those of a header."""
    cells = dict(zip(fields, head, strict=False))
    return all(is_count(cells.get(key, b"")) for key in ("image_w", "image_h", "img_w", "img_h") if key in fields) and (
        is_count(cells.get("num_boxes", b""))
    )


def open_regions(path: Path, name: str) -> RegionFile:
    """Open the file; raises a UserError if its first rows have other columns."""
    return _Tsv(path)


class _Tsv(RegionFile):
    def __init__(self, path: Path):
        self.file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self.file)
        self.length = os.fstat(self.file).st_size
        if hasattr(os, "posix_fadvise"):  # otherwise the system reads far ahead of each row's head
            os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_RANDOM)
        self.path = path
        self.fields, dim = self._form()
        with progress(f"reading {path}", self.length, unit="bytes") as advance:
            rows, nameless = self._index(dim, advance)
        if nameless:
            log.warning("%s: %d row(s) are cut before their image's name: %s", path, len(nameless), nameless[0])
        kept = once([row.name for row in rows], {n: row.reason for n, row in enumerate(rows) if row.reason}, path)
        self.rows = [rows[n] for n in kept]
        broken = {n: row.reason for n, row in enumerate(self.rows) if row.reason}
        super().__init__(path, "", [row.name for row in self.rows], [row.boxes for row in self.rows], dim, broken)

    def version(self, row: int) -> str:
        status = os.fstat(self.file)
        return f"{status.st_size} {status.st_mtime_ns} {self.rows[row].start}"

    def _regions(self, row: int) -> Regions:
        entry = self.rows[row]
        data = memoryview(os.pread(self.file, entry.end - entry.start, entry.start))
        if len(data) < entry.end - entry.start:
            raise UserError(f"{self.path}: has been cut short; put it back")
        n, stop, values = entry.boxes, len(data), {}
        for field in reversed(self.fields):  # backwards, as lengths follow from the number of boxes
            if field == "num_boxes":
                stop -= len(str(n)) + 1
                continue
            if field not in TYPES and field != "features":
                break
            dtype, width = TYPES.get(field, "<f4"), {"features": self.dim, "boxes": 4}.get(field, 1)
            size = _encoded(n * width * np.dtype(dtype).itemsize)
            values[field] = self._decoded(data[stop - size : stop], dtype, n * width, row, field)
            stop -= size + 1
        return Regions(
            values["features"].reshape(n, self.dim),
            values["boxes"].reshape(n, 4),
            values.get("objects_id"),
            values.get("objects_conf"),
            values.get("attrs_id"),
        )

    def _decoded(self, text: memoryview, dtype: str, count: int, row: int, field: str) -> np.ndarray:
        try:
            values = np.frombuffer(pybase64.b64decode(text, validate=True), dtype)
        except ValueError:  # a character that is not base64
            values = np.empty(0, dtype)
        if len(values) != count:
            raise UserError(
                f"{self.path}: row of image {self.rows[row].name!r}: its {field} are not {count} numbers in base64; "
                "fetch the file again, or take the row out"
            )
        return values

    # -- where rows lie -----------------------------------------------------------------------------------------------

    def _form(self) -> tuple[tuple[str, ...], int]:
        """The order of columns and the size of the features in most of the first rows."""
        forms: Counter[tuple[int, int]] = Counter()
        start = 0
        for _ in range(SAMPLED):
            end = self._line_end(start)
            cells = os.pread(self.file, end - start, start).rstrip(b"\r").split(b"\t")
            fields = FIELDS.get(len(cells))
            if fields and _numbered(cells, fields):
                boxes = int(cells[fields.index("num_boxes")])
                size = len(cells[-1]) // 4 * 3 - cells[-1][-2:].count(b"=")
                if boxes and len(cells[-1]) % 4 == 0 and size % (4 * boxes) == 0:
                    forms[len(cells), size // (4 * boxes)] += 1
            start = end + 1
            if start >= self.length:
                break
        if not forms:
            orders = " or ".join(", ".join(fields) for fields in FIELDS.values())
            raise UserError(f"{self.path}: its first rows are not the columns {orders}; fetch the file again")
        (width, dim), _ = forms.most_common(1)[0]
        return FIELDS[width], dim

    def _index(self, dim: int, advance: Callable[[int], None]) -> tuple[list[Row], list[str]]:
        """All rows, and error messages about rows whose image is unknown; `advance` counts the bytes."""
        rows: list[Row] = []
        nameless: list[str] = []
        start, number = 0, 0
        while start < self.length:
            number += 1
            head = os.pread(self.file, HEAD, start)
            cells = head.split(b"\n", 1)[0].split(b"\t")
            boxes, end = self._stated(cells, start, dim)
            if boxes and self._ends(end):
                rows.append(Row(_name(cells[0]), start, end, boxes))
                following = end + (1 if os.pread(self.file, 1, end) == b"\n" else 2)
                advance(following - start)
                start = following
                continue
            end = self._line_end(start)
            if head[: end - start].strip():
                fault = f"row {number} is cut, or longer than its number of boxes says"
                if len(cells) > 1 and cells[0].strip():
                    rows.append(Row(_name(cells[0]), start, end, 0, f"{fault} (image {_name(cells[0])!r})"))
                else:
                    nameless.append(fault)
            advance(end + 1 - start)
            start = end + 1
        return rows, nameless

    def _stated(self, cells: list[bytes], start: int, dim: int) -> tuple[int, int]:
        """The number of boxes that a row states, and the end of the row that follows from it; (0, 0) if none."""
        place = self.fields.index("num_boxes")
        if len(cells) <= place + 1 or not is_count(cells[place]) or not cells[0].strip():
            return 0, 0
        boxes = int(cells[place])
        before = sum(len(cell) + 1 for cell in cells[: place + 1])
        return boxes, start + before + _encoded(16 * boxes) + 1 + _encoded(4 * boxes * dim)

    def _ends(self, end: int) -> bool:
        """Whether the line or the file ends at position `end`."""
        return os.pread(self.file, 2, end) in (b"\r\n", b"") or os.pread(self.file, 1, end) == b"\n"

    def _line_end(self, start: int) -> int:
        while start < self.length:
            place = os.pread(self.file, BLOCK, start).find(b"\n")
            if place >= 0:
                return start + place
            start += BLOCK
        return self.length


def _encoded(size: int) -> int:
    """Number of base64 characters for `size` bytes."""
    return -(-size // 3) * 4


def _name(cell: bytes) -> str:
    return cell.decode("utf-8", "replace").strip()
