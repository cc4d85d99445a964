"""LMDB files of ViLBERT, 12-in-1 and MMF: one pickled object per image, whose arrays are NumPy arrays or base64.

Since a pickle can run arbitrary code, only plain values and NumPy arrays are unpickled. The package `lmdb` is an
optional dependency: `pip install 'crossmodal[lmdb]'`.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pybase64

from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.released.base import RegionFile, Regions

FEATURES = ("features", "feat", "x")
BOXES = ("boxes", "bbox")
CLASSES = ("objects_id", "objects")
MAGIC = 0xBEEFC0DE
NOT_IMAGES = (b"keys", b"__keys__", b"__len__")
# The functions that rebuild a pickled array; all others in a pickle are refused.
ALLOWED = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"holds {module}.{name}, which is no plain value")
        return super().find_class(module, name)


def plain(data: bytes, where: str) -> Any:
    """Unpickle plain values and NumPy arrays.

    Raises
    ------
    UserError : the data is no pickle, or holds other objects.
    """
    try:
        return _Plain(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # broken bytes may raise anything
        raise UserError(f"{where}: is no pickle of plain values and arrays ({error})") from None


def is_one(path: Path, name: str) -> bool:
    """Whether a path is an LMDB file or folder."""
    return path.suffix.lower() == ".lmdb" or (path.is_dir() and (path / "data.mdb").is_file())


def open_regions(path: Path, name: str) -> RegionFile:
    """Open the LMDB; raises a UserError if it is truncated, or the package `lmdb` is missing."""
    return _Lmdb(path, name)


class _Lmdb(RegionFile):
    def __init__(self, path: Path, name: str):
        try:
            import lmdb
        except ImportError:
            raise UserError(
                f"{path}: is an LMDB, which the package `lmdb` reads; install it with pip install 'crossmodal[lmdb]'"
            ) from None
        self.path, self.name = path, name
        _check_whole(path)
        try:
            self.store = lmdb.open(str(path), readonly=True, lock=False, readahead=False, subdir=path.is_dir())
            with self.store.begin() as reader:
                self.keys = [key for key in reader.cursor().iternext(values=False) if key not in NOT_IMAGES]
        except lmdb.Error as error:
            raise UserError(f"{path}: is truncated or no LMDB ({error}); fetch or make it again") from None
        counts, dims, broken = [], [], {}
        for row, key in enumerate(tracked(self.keys, f"reading {path}", unit="images")):
            try:
                regions = self._of(key)
            except UserError as error:
                broken[row] = str(error).removeprefix(f"{path}: ")
                counts.append(0)
            else:
                counts.append(len(regions.features))
                dims.append(regions.features.shape[1])
        if not dims:
            raise UserError(f"{path}: no entry holds region features; the first is: {next(iter(broken.values()), '')}")
        super().__init__(path, name, [_text(key) for key in self.keys], counts, max(set(dims), key=dims.count), broken)

    def version(self, row: int) -> str:
        data = self.path / "data.mdb" if self.path.is_dir() else self.path
        status = data.stat()
        return f"{status.st_size} {status.st_mtime_ns} {_text(self.keys[row])}"

    def _regions(self, row: int) -> Regions:
        regions = self._of(self.keys[row])
        if regions.features.shape[1] != self.dim:
            raise UserError(
                f"{self.path}: entry {_text(self.keys[row])!r}: regions have {regions.features.shape[1]} numbers, in "
                f"most entries {self.dim}"
            )
        return regions

    def _of(self, key: bytes) -> Regions:
        where = f"{self.path}: entry {_text(key)!r}"
        with self.store.begin() as reader:
            entry = plain(bytes(reader.get(key)), where)
        entry = {_text(field): value for field, value in entry.items()} if isinstance(entry, dict) else {}
        features = next((entry[field] for field in ((self.name,) if self.name else FEATURES) if field in entry), None)
        boxes = next((entry[field] for field in BOXES if field in entry), None)
        if features is None:
            raise UserError(f"{where}: has no {self.name or ', '.join(FEATURES)} (it holds {', '.join(entry)})")
        try:
            n = int(entry["num_boxes"]) if "num_boxes" in entry else len(features)
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{where}: its num_boxes or its features are not numbers") from None
        features, boxes = _numbers(features, where), None if boxes is None else _numbers(boxes, where)
        if n < 1 or features.size % n or (features.ndim == 2 and len(features) < n):
            raise UserError(f"{where}: {features.size} numbers are not features of {n} regions")
        features = features[:n] if features.ndim == 2 else features.reshape(n, -1)
        if boxes is not None and (boxes.size < 4 * n or (boxes.shape[-1] < 4 if boxes.ndim == 2 else boxes.size % 4)):
            raise UserError(f"{where}: {boxes.size} numbers are not boxes of {n} regions")
        boxes = None if boxes is None else boxes.reshape(-1, boxes.shape[-1] if boxes.ndim == 2 else 4)[:n, :4]
        classes = next((np.asarray(entry[field]) for field in CLASSES if field in entry), None)
        classes = classes if classes is not None and classes.shape == (n,) and classes.dtype.kind in "iu" else None
        return Regions(features, boxes, classes)


def _check_whole(path: Path) -> None:
    """Refuse a truncated file, because LMDB maps it, and reading a map beyond the end of its file kills the process.

    The first two pages state the size and number of pages.
    """
    data = path / "data.mdb" if path.is_dir() else path
    with data.open("rb") as stream:
        size, head = data.stat().st_size, stream.read(2**17)
    for place in (0, int.from_bytes(head[40:44], "little")):  # the first page states the page size
        magic, version, page, last = (
            int.from_bytes(head[place + at : place + at + length], "little")
            for at, length in ((16, 4), (20, 4), (40, 4), (136, 8))
        )
        if magic != MAGIC or version != 1 or not 256 <= page <= 2**16 or (last + 1) * page > size:
            raise UserError(f"{path}: is truncated or no LMDB; fetch or make it again")


def _numbers(value: Any, where: str) -> np.ndarray:
    """The float32 numbers of an array or of base64 text."""
    if isinstance(value, bytes | str):
        try:
            return np.frombuffer(pybase64.b64decode(value, validate=True), "<f4")
        except ValueError:
            raise UserError(f"{where}: its numbers are not in base64") from None
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{where}: expected numbers, found {array.dtype}")
    return array.astype(np.float32)


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
