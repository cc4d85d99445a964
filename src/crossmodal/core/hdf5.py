"""Arrays of HDF5 and MATLAB files (v7.3 is HDF5): values in the file itself, sparse matrices, texts and cells."""

from __future__ import annotations

import math
import struct
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from crossmodal.core import limits, packed
from crossmodal.core.errors import UserError
from crossmodal.core.rows import FORMS, Array, in_memory, named, readable

CHUNKS, CHUNK = 150_000, 1024  # number from which chunks of so few bytes are refused, each of which takes 4 KB
WHOLE = 2**30  # bytes up to which an HDF5 array is read at once, since its chunks may hold parts of every row
MATRIX, COMPRESSED = 14, 15  # MATLAB's numbers of an array and of a compressed one
MOST = 100_000  # arrays in a file of MATLAB
DEFLATE = 1032  # how many times as long compressed bytes may be unpacked
HEAD, BEGINNING = 2**16, 2**17  # bytes in which an array's head lies; that SciPy unpacks in order to read it
CELL_ARRAY, NUMBERS = 1, range(6, 16)  # MATLAB's numbers of the kinds of arrays
TEXTS_AND_NUMBERS, CELL_HEAD = (4, *NUMBERS), 512  # kinds of arrays in cells; bytes of the head of one
CELLS = 16  # a small array in a cell takes as much time and memory to read as so many times its bytes of a matrix
BLOCK = 2**24  # bytes of one block of a larger array
DEEPEST = 100  # groups of HDF5 within each other: HDF5 takes minutes to follow thousands
CELL = 64  # bytes of a cell beside its content
KEPT = 8  # blocks that are kept in memory

# Bytes per number of MATLAB's classes; the size of sparse or nested arrays is checked later.
_SIZES = {"double": 8, "single": 4, "int64": 8, "uint64": 8, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2}
_SIZES |= {"int8": 1, "uint8": 1, "logical": 1, "char": 8}  # SciPy holds characters twice
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes per number of the types of data


def open_mat(path: Path, name: str, columns: bool) -> Array:
    """An array of a MATLAB file up to v7."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        parts = _parts(path)
        listed = whosmat(path)
        kinds = {variable: kind for variable, _, kind in listed}
        name = named(path, name, list(kinds))
        shapes = {variable: shape for variable, shape, _ in listed}
        if (size := _SIZES.get(kinds[name])) is not None:
            packed.check_size(f"{path}#{name}", path.stat().st_size, size * math.prod(map(int, shapes[name])))
        if kinds[name] in ("struct", "object", "function", "opaque"):
            raise UserError(f"{path}: {name!r} is a {kinds[name]}, expected an array; save the field that is meant")
        for place in parts:
            if place.head is None or place.head.name == name:
                _check_part(path, place)
                if kinds[name] == "char" and place.head is not None:  # of whose shape SciPy lists all but the last axis
                    size = _SIZES["char"] * place.head.length
                    packed.check_size(f"{path}#{name}", path.stat().st_size, size)
                if kinds[name] == "cell":
                    _check_cells(path, name, place)
        array = loadmat(path, variable_names=[name])[name]
    except MatReadError as error:
        raise ValueError(error) from None
    if hasattr(array, "toarray"):  # sparse, as bags of words are saved
        packed.check_size(f"{path}#{name}", 12 * array.nnz, array.dtype.itemsize * math.prod(map(int, array.shape)))
        array = array.toarray()
    if array.dtype == object:  # a cell array
        cells = [_cell(path, name, number, cell) for number, cell in enumerate(array.ravel(), 1)]
        array = np.array(cells, dtype=object).reshape(array.shape)
    return in_memory(path, name, array, columns)


def _parts(path: Path) -> list[_Place]:
    """The arrays of a MATLAB file, each of which is a part of it, compressed or not.

    Raises
    ------
    UserError : there are too many, or their beginnings, which SciPy unpacks in order to list them, would fill the
        memory.
    """
    parts, begun, number = [], 0, 0
    with path.open("rb") as stream:
        head = stream.read(128)
        order = "<" if head[126:128] == b"IM" else ">"
        while len(tag := stream.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            start = stream.tell()
            if kind == COMPRESSED:
                first, found = _beginning(stream, size)
                begun += found
                packed.check_size(str(path), path.stat().st_size, begun)
                parts.append(_Place(start, size, order, True, _Part.of(first, order)))
            elif kind == MATRIX:
                parts.append(_Place(start, size, order, False, _Part.of(tag + stream.read(min(HEAD, size)), order)))
            stream.seek(start + size)
            number += 1
            if number > MOST:
                raise UserError(f"{path}: holds more than {MOST:,} arrays; save those that are meant as one matrix")
    return parts


def _beginning(stream: BinaryIO, size: int) -> tuple[bytes, int]:
    """The head of a compressed part, and how many bytes the block becomes that SciPy unpacks in order to read it."""
    unpacker, found = zlib.decompressobj(), 0
    block = stream.read(min(BEGINNING, size))
    first = unpacker.decompress(block, HEAD)
    while block := unpacker.unconsumed_tail:
        found += len(unpacker.decompress(block, BLOCK))
    return first, found + len(first)


@dataclass(frozen=True)
class _Part:
    """The head of an array of numbers, characters, cells or others in a MATLAB file."""

    name: str
    kind: int
    is_complex: bool
    stated: int
    """Bytes of the values by their own head."""
    expected: int
    """Bytes of the values by the shape of the array."""
    length: int
    """Number of its elements by its shape."""
    begin: int
    """Place of the first value or cell."""

    @classmethod
    def of(cls, head: bytes, order: str) -> _Part | None:
        """The head in the first bytes of an unpacked part; None if it is not in the form in which MATLAB writes it."""
        try:
            at, elements = 8, []
            for _ in range(3):
                _, size, start = _element(head, at, order)
                elements.append(head[start : start + size])
                at = -(-(start + size) // 8) * 8
            flags, dims, name = elements
            bits = struct.unpack_from(f"{order}I", flags)[0]
            shape = struct.unpack(f"{order}{len(dims) // 4}i", dims)
            kind, stated, _ = _element(head, at, order) if len(head) > at else (0, 0, at)
        except struct.error:
            return None
        length = math.prod(shape)
        expected = length * _WIDTHS.get(kind, 0)
        return cls(name.decode("latin1"), bits & 255, bool(bits & 2048), stated, expected, length, at)


@dataclass(frozen=True)
class _Place:
    """An array of a MATLAB file: the place and the size of its bytes, and its head if that can be read."""

    start: int
    size: int
    order: str
    is_compressed: bool
    head: _Part | None


def _element(head: bytes, at: int, order: str) -> tuple[int, int, int]:
    """The type, the size and the place of an element of a MATLAB file, whose tag has 8 bytes or, if small, 4."""
    kind, size = struct.unpack_from(f"{order}II", head, at)
    return (kind & 0xFFFF, kind >> 16, at + 4) if kind >> 16 else (kind, size, at + 8)


def _check_part(path: Path, place: _Place) -> None:
    """Check an array before SciPy reads it whole.

    Where its numbers are as many as its shape says, that size has been checked. Otherwise, as for cells and sparse
    matrices, it is unpacked here first, a block at a time.

    Raises
    ------
    UserError : it would fill the memory, or its numbers are not as many as its shape says.
    """
    part, size = place.head, place.size
    if part is not None and part.kind in NUMBERS and not part.is_complex:
        if part.stated != part.expected:
            raise UserError(
                f"{path}#{part.name}: holds {part.stated:,} bytes of values, expected {part.expected:,} for its shape; "
                "fetch or make the file again"
            )
        return
    weight = CELLS if part is None or part.kind == CELL_ARRAY else 1
    if not place.is_compressed or size * DEFLATE * weight <= limits.current().unpacked:
        return
    unpacker, taken, found = zlib.decompressobj(), 0, 0
    with path.open("rb") as stream:
        stream.seek(place.start)
        while taken < size and (block := stream.read(min(HEAD, size - taken))):
            taken += len(block)
            while block:
                found += len(unpacker.decompress(block, BLOCK))
                block = unpacker.unconsumed_tail
                packed.check_size(str(path), size, found * weight)


def _check_cells(path: Path, name: str, place: _Place) -> None:
    """Check that each cell holds a text or numbers and no further cells, before SciPy makes room for all of them.

    Raises
    ------
    UserError : one holds something else, or states a shape that is larger than itself; or cells are missing.
    """
    with path.open("rb") as stream:
        stream.seek(place.start)
        data = stream.read(place.size)
    head = _Part.of(
        zlib.decompressobj().decompress(data[:HEAD], HEAD) if place.is_compressed else bytes(8) + data, place.order
    )
    if head is None:
        raise UserError(f"{path}#{name}: is no array as MATLAB writes it; fetch or make the file again")
    data = zlib.decompress(data) if place.is_compressed else bytes(8) + data
    at = head.begin
    for number in range(1, head.length + 1):
        if at + 8 > len(data):
            raise UserError(
                f"{path}#{name}: has {head.length:,} cells, of which {number - 1:,} are there; fetch it again"
            )
        _, size, start = _element(data, at, place.order)
        cell = _Part.of(data[at : min(start + size, at + CELL_HEAD)], place.order) if size else None
        if size and (cell is None or cell.kind not in TEXTS_AND_NUMBERS or not 0 <= cell.length <= size):
            raise UserError(f"{path}#{name}: cell {number} holds no text or number; save it as a matrix, or as {FORMS}")
        at = start + size


def _cell(path: Path, name: str, number: int, cell: Any) -> str:
    """The text or the number in a cell, as text."""
    values = np.asarray(cell)
    if values.dtype.kind in "US" and values.size <= 1:
        return str(values.item()) if values.size else ""
    if values.dtype.kind in "fiub" and values.size == 1:
        return str(values.item())
    raise UserError(
        f"{path}#{name}: cell {number} holds a {values.dtype} array of shape {values.shape}, expected one text or "
        f"number; save it as a matrix, or as {FORMS}"
    )


def is_hdf5(path: Path) -> bool:
    """Whether a `.mat` file is HDF5 (v7.3); files with other endings are taken to be HDF5."""
    import h5py

    return path.suffix.lower() != ".mat" or h5py.is_hdf5(path)


def open_hdf5(path: Path, name: str, columns: bool) -> Array:
    """An array of an HDF5 file, or of a MATLAB v7.3 file, which is HDF5 with all axes reversed."""
    import h5py

    matlab = path.suffix.lower() == ".mat"
    file = h5py.File(path, "r")
    present: list[str] = []
    sparse: dict[str, None] = {}

    def visit(key: str, value: Any) -> None:
        if key.count("/") > DEEPEST:
            raise UserError(f"{path}: has groups nested more than {DEEPEST} times; save the arrays that are meant")
        if isinstance(value, h5py.Group) and "MATLAB_sparse" in value.attrs:
            sparse[key] = None
        elif isinstance(value, h5py.Dataset) and key.rpartition("/")[0] not in sparse:
            present.append(key)

    file.visititems(visit)
    # Names with `#` are MATLAB's own, for the contents of cells.
    name = named(path, name, [key for key in (*present, *sparse) if not key.startswith("#")])
    data = file[name]
    if name in sparse:
        parts = [_stored(path, f"{name}/{key}", part) for key, part in data.items()]
        packed.check_size(f"{path}#{name}", sum(part.id.get_storage_size() for part in parts), _dense_size(data))
        return in_memory(path, name, _dense(data), columns)
    data = _stored(path, name, data)
    reverse = columns != matlab
    if h5py.check_ref_dtype(data.dtype):  # a cell array
        return in_memory(path, name, _texts_of_cells(path, name, file, data), False)
    if _is_char(data):
        texts = [_characters(row).rstrip() for row in np.atleast_2d(data[()].T)]
        return in_memory(path, name, np.array(texts, dtype=object), False)
    if h5py.check_string_dtype(data.dtype):
        return in_memory(path, name, _texts(path, name, data), reverse)
    if data.ndim == 0 or data.size * data.dtype.itemsize <= WHOLE:
        return in_memory(path, name, data[()], reverse)
    return _Blocks(path, name, data, reverse).array()


def _texts_of_cells(path: Path, name: str, file: Any, data: Any) -> np.ndarray:
    """The texts and numbers of a cell array, column by column; what several cells refer to is read once."""
    import h5py

    addresses = np.empty(data.shape, np.uint64)
    data.id.read(h5py.h5s.ALL, h5py.h5s.ALL, addresses, mtype=h5py.h5t.STD_REF_OBJ)
    references = data[()].T.ravel()
    _, first, which = np.unique(addresses.T.ravel(), return_index=True, return_inverse=True)
    texts, size = np.empty(len(first), dtype=object), 0
    for i, place in enumerate(first.tolist()):
        part = _stored(path, name, file[references[place]])
        size += CELLS * (part.nbytes + CELL)
        packed.check_size(f"{path}#{name}", path.stat().st_size, size)
        texts[i] = _cell(path, name, place + 1, _contents(part))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    packed.check_size(f"{path}#{name}", path.stat().st_size, int(lengths[which].sum()))  # others copy them
    return texts[which]


def _texts(path: Path, name: str, data: Any) -> np.ndarray:
    """The texts of an array, read a part at a time: many of them may refer to the same bytes of the file."""
    out, size, most = np.empty(data.shape, object), 0, path.stat().st_size
    step = min(4096, max(32, 2**26 // most))  # no text is longer than the file
    if not data.shape:
        return np.array(data.asstr()[()], dtype=object)
    for start in range(0, len(data), step):
        out[start : start + step] = part = data.asstr()[start : start + step]
        size += sum(map(len, part.ravel()))
        packed.check_size(f"{path}#{name}", most, size)
    return out


def _is_char(data: Any) -> bool:
    return data.attrs.get("MATLAB_class") == b"char"


def _contents(data: Any) -> Any:
    """The array that a cell refers to, in MATLAB's axes; an empty one stores its shape in place of values."""
    text = _is_char(data) or ("MATLAB_class" not in data.attrs and data.dtype == np.uint16)
    if data.attrs.get("MATLAB_empty"):
        return np.array([], dtype=str if text else float)
    values = data[()].T
    return _characters(values) if text else values


def _stored(path: Path, name: str, data: Any) -> Any:
    """Check that an HDF5 array has its values in the file itself and is not far larger than the file; returns it.

    Raises
    ------
    UserError : its values are in other files (external storage, a virtual data set), it is no array, or it would fill
        the memory.
    """
    where = f"{path}#{name}"
    if not hasattr(data, "shape") or data.shape is None:
        raise UserError(f"{where}: is no array with values")
    if data.is_virtual or data.external:
        raise UserError(
            f"{where}: its values lie in other files (external storage or a virtual data set), which are not opened; "
            "save the array into the file itself"
        )
    stored = data.id.get_storage_size()
    for shape in (data.shape, data.chunks or ()):
        packed.check_size(where, stored, data.dtype.itemsize * math.prod(shape))
    count = math.prod(
        -(-size // chunk) for size, chunk in zip(data.shape, data.chunks or data.shape, strict=True) if chunk
    )
    if count > CHUNKS and data.dtype.itemsize * math.prod(data.chunks or ()) < CHUNK:
        raise UserError(f"{where}: lies in {count:,} chunks of a few bytes each; save it in larger chunks, or in one")
    return data


def stored(path: Path, file: Any, name: str) -> Any:
    """The array of that name at the top of an open HDF5 file, checked like in `_stored`; no link to another file.

    Raises
    ------
    UserError : it is a link, or as `_stored`.
    """
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{path}#{name}: is a link, which is not followed; save the array into the file itself")
    return _stored(path, name, file[name])


def _characters(codes: np.ndarray) -> str:
    codes = np.asarray(codes).ravel()
    if codes.dtype == np.uint16:  # as MATLAB stores them; a hundred times faster
        return codes.astype("<u2").tobytes().decode("utf-16-le", "surrogatepass")
    return "".join(map(chr, codes.tolist()))


def _dense_size(group: Any) -> int:
    """Bytes of a sparse matrix once it is dense."""
    return 8 * int(group.attrs["MATLAB_sparse"]) * (group["jc"].shape[0] - 1)


def _dense(group: Any) -> np.ndarray:
    """(rows, columns) of a sparse matrix of MATLAB v7.3: a group of values, row numbers and starts of columns."""
    from scipy.sparse import csc_array

    starts = group["jc"][()].astype(np.int64)
    shape = (int(group.attrs["MATLAB_sparse"]), len(starts) - 1)
    if "ir" not in group:  # a matrix without values has no `ir`
        return np.zeros(shape)
    return csc_array((group["data"][()], group["ir"][()].astype(np.int64), starts), shape=shape).toarray()


class _Blocks:
    """A large HDF5 array, which keeps a few blocks of its rows in memory."""

    def __init__(self, path: Path, name: str, data: Any, reverse: bool):
        self.path, self.name, self.data, self.reverse = path, name, data, reverse
        self.shape = data.shape[::-1] if reverse else data.shape
        stride = data.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        self.size = max(1, BLOCK // max(stride, 1))
        if data.chunks:  # blocks of whole chunks, so that each is unpacked once
            along = data.chunks[-1 if reverse else 0]
            self.size = -(-self.size // along) * along
        self.kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self.lock = threading.Lock()

    def array(self) -> Array:
        return Array(self.path, self.name, self.shape, self.data.dtype, self.read)

    def read(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *self.shape[1:]), self.data.dtype)
        for number in np.unique(rows // self.size):
            inside = rows // self.size == number
            out[inside] = self._block(int(number))[rows[inside] - number * self.size]
        return out

    def _block(self, number: int) -> np.ndarray:
        with self.lock:
            if number not in self.kept:
                part = slice(number * self.size, (number + 1) * self.size)
                with readable(self.path):
                    self.kept[number] = self.data[..., part].T if self.reverse else self.data[part]
                if len(self.kept) > KEPT:
                    self.kept.popitem(last=False)
            self.kept.move_to_end(number)
            return self.kept[number]
