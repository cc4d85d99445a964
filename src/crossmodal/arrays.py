"""Arrays in files of other tools (.npy, .npz, .mat, .h5, .parquet, .csv, .tsv, lines of text), by name and by rows.

Axes are those that the tool itself shows: a MATLAB matrix is (rows, columns) in both of its formats. `.npy` and large
`.h5` and `.mat` v7.3 arrays are read a part at a time; the other formats bring an array into memory whole.
"""

from __future__ import annotations

import fnmatch
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crossmodal import isolation, packed, released
from crossmodal.errors import UserError, suggestion
from crossmodal.files import is_count, read_json, read_lines
from crossmodal.rows import Array, Rows

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".npy", ".npz", ".mat", ".h5", ".hdf5", ".parquet", ".csv", ".tsv", ".txt", ".json")
PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib")
FORMS = "an .npy, .mat or .h5 file of numbers or texts, a .txt with one value per line, or a column of a .csv or .tsv"
WHOLE = 2**30  # bytes up to which an HDF5 array is read at once: its chunks may hold a little of every row
BLOCK = 2**24  # bytes that are read at a time of a larger one
KEPT = 8  # such blocks in memory


def open_array(path: str | Path, name: str = "", columns: bool = False) -> Array:
    """An array of a file.

    Parameters
    ----------
    name : of the array; may be left out where the file holds one. Of a `.parquet` file a column of numbers, texts or
        lists, or a pattern such as `f*` of columns that are put side by side; likewise of a `.csv` or `.tsv` file,
        whose first line names the columns; there, and in any other file of text, also a column's number from 1.
    columns : the file has one item per column: its axes are reversed.

    Files of region features as they are released (`crossmodal.released`) open as (N, R, D) padded with zeros.

    Raises
    ------
    UserError : a file that is missing, damaged or of another format; no such array (with those that there are); several
        and none named.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not columns and path.exists() and (regions := released.opened(path, name)) is not None:
        return regions
    if kind in PICKLES:
        raise UserError(
            f"{path}: is of no known format: a pickle could run any program when it is opened; save it as {FORMS}"
        )
    if not path.is_file():
        raise UserError(f"{path}: not found; put the file there or mend the path in params.yaml")
    if kind not in SUFFIXES and not _is_text(path):
        raise UserError(f"{path}: is of no known format; expected a name that ends in {', '.join(SUFFIXES)}, or text")
    with isolation.holding(path), readable(path):
        if kind == ".npy":
            return _npy(path, name, columns)
        if kind == ".json":
            return _list(path, columns)
        if kind == ".txt" or kind not in SUFFIXES:
            return _lines(path, name, columns)
        if kind == ".npz":
            with packed.arrays(path) as archive:
                name = _named(path, name, list(archive))
                try:
                    return _whole(path, name, archive[name], columns)
                except ValueError as error:
                    _refuse_objects(f"{path}#{name}", error)
                    raise
        if kind == ".parquet":
            return _parquet(path, name, columns)
        if kind in (".csv", ".tsv"):
            return _table(path, name, columns, "," if kind == ".csv" else "\t")
        return _hdf5(path, name, columns) if _is_hdf5(path) else _mat(path, name, columns)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever a reader raises at a damaged file, as one clear error."""
    try:
        yield
    except (UserError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # what broken files raise is not documented
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is truncated or damaged ({told}); fetch or make the file again") from None


@dataclass(frozen=True)
class Place:
    """Where the features of one item stand: `FILE#ARRAY/ROW`, the `source` of an item of `items.parquet`.

    `ARRAY.T` is an array with an item a column; `ROW[:9]` has nine regions and is padded after them.
    """

    file: str
    array: str
    columns: bool
    row: int
    count: int | None = None

    PATTERN: ClassVar = re.compile(
        r"(?P<file>[^#]+)#(?P<array>.*?)(?P<columns>\.T)?/(?P<row>\d{1,18})(\[:(?P<count>\d{1,18})\])?"
    )

    def __str__(self) -> str:
        count = "" if self.count is None else f"[:{self.count}]"
        return f"{self.file}#{self.array}{'.T' if self.columns else ''}/{self.row}{count}"

    @classmethod
    def parse(cls, source: str) -> Place:
        """Raises UserError where `source` is something else, such as a photograph's path."""
        found = cls.PATTERN.fullmatch(source)
        if found is None:
            raise UserError(f"{source!r} is no row of an array (FILE#ARRAY/ROW)")
        count = found["count"]
        columns = found["columns"] is not None
        return cls(found["file"], found["array"], columns, int(found["row"]), int(count) if count else None)


def _named(path: Path, name: str, there: list[str]) -> str:
    if name in there:
        return name
    if not name and len(there) == 1:
        return there[0]
    if not there:
        raise UserError(f"{path}: holds no arrays")
    if not name:
        raise UserError(f"{path}: holds several arrays; name one of them: {', '.join(sorted(there))}")
    raise UserError(f"{path}: has no array {name!r}" + suggestion(name, there))


def _whole(path: Path, name: str, array: np.ndarray, columns: bool) -> Array:
    array = array.T if columns else array
    return Array(path, name, array.shape, array.dtype, lambda rows: array[rows])


def _npy(path: Path, name: str, columns: bool) -> Array:
    if name:
        raise UserError(f"{path}: an .npy file holds one array without a name; leave out {name!r}")
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        _refuse_objects(str(path), error)
        raise
    if mapped.ndim == 0 or columns or not mapped.flags.c_contiguous:
        return _whole(path, "", mapped, columns)
    rows = Rows(path, mapped.offset, mapped.shape, mapped.dtype)
    return Array(path, "", mapped.shape, mapped.dtype, rows.read)


def _refuse_objects(where: str, error: ValueError) -> None:
    if "Python objects in dtype" in str(error) or "allow_pickle" in str(error):
        raise UserError(
            f"{where}: holds Python objects, stored as a pickle, which could run any program; save it as {FORMS}"
        ) from None


def _is_text(path: Path) -> bool:
    """Whether the beginning of a file is UTF-8 text."""
    with path.open("rb") as stream:
        head = stream.read(2**16)
    try:
        return "\0" not in head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and len(head) == 2**16  # the last character is cut


def _list(path: Path, columns: bool) -> Array:
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(one, str | int | float) for one in found):
        raise UserError(f"{path}: is no list of texts or numbers; expected {FORMS}")
    texts = any(isinstance(one, str) for one in found)
    return _whole(path, "", np.array(found, dtype=object if texts else None), columns)


def _lines(path: Path, name: str, columns: bool) -> Array:
    """Lines of text, or one of their columns by its number from 1: tabs part columns where there are any, or blanks."""
    lines = read_lines(path)
    if not name:
        return _whole(path, "", np.array(lines, dtype=object), columns)
    if not is_count(name) or int(name) < 1:
        raise UserError(f"{path}: has no column {name!r}; its columns have no names: give a number from 1")
    tabs = any("\t" in line for line in lines)
    cells = [line.split("\t") if tabs else line.split() for line in lines]
    for number, row in enumerate(cells, 1):
        if len(row) < int(name):
            raise UserError(
                f"{path}: line {number} has {len(row)} columns, and column {name} is wanted: {lines[number - 1]!r}"
            )
    import pandas as pd

    values = _numbers(pd.Series([row[int(name) - 1].strip() for row in cells], dtype=object))
    return _whole(path, name, values, columns)


def _parquet(path: Path, name: str, columns: bool) -> Array:
    import pyarrow.parquet as pq

    chosen = _columns(path, name, pq.read_schema(path).names)
    table = packed.table(path, chosen)
    name = name or chosen[0]
    if len(chosen) > 1:
        return _whole(path, name, np.stack([table[one].to_numpy() for one in chosen], axis=1), columns)
    values = table[chosen[0]].combine_chunks()
    if not _is_list(values.type):
        return _whole(path, name, table[chosen[0]].to_numpy(), columns)
    shape = [len(values)]
    while _is_list(values.type):
        sizes = values.value_lengths().unique().to_pylist() if len(values) else [0]
        if len(sizes) > 1 or sizes == [None]:
            raise UserError(f"{path}#{name}: its lists are not all of one length ({sizes[0]}, {sizes[-1]}, ...)")
        shape.append(sizes[0])
        values = values.flatten()
    return _whole(path, name, values.to_numpy(zero_copy_only=False).reshape(shape), columns)


def _columns(path: Path, name: str, there: list[str]) -> list[str]:
    """The column of that name, or those that it is a pattern of."""
    matching = fnmatch.filter(there, name) if name and name not in there else []
    return matching or [_named(path, name, there)]


def _table(path: Path, name: str, columns: bool, separator: str) -> Array:
    """Columns of text: numbers where all values are, but not where some are written as names are (`007`)."""
    import pandas as pd

    options = {"sep": separator, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    there = list(pd.read_csv(path, nrows=0, **options).columns)  # a table may be larger than the memory
    by_number = name not in there and is_count(name) and 1 <= int(name) <= len(there)
    if bare := [one for one in there if _is_number(one)]:
        if not by_number:
            raise UserError(
                f"{path}: its first line names no columns (it holds {bare[0]!r}); put their names above the rows, or "
                f"give a column's number from 1"
            )
        there = [str(number) for number in range(1, len(there) + 1)]
        options |= {"header": None, "names": there}
    elif by_number:
        name = there[int(name) - 1]
    chosen = _columns(path, name, there)
    frame = pd.read_csv(path, usecols=chosen, **options)
    values = [_numbers(frame[one]) for one in chosen]
    array = np.stack(values, axis=1) if len(values) > 1 else values[0]
    return _whole(path, name or chosen[0], array, columns)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(texts: pd.Series) -> np.ndarray:
    named = texts.str.fullmatch(r"[+-]?0\d+").any()
    try:
        return texts.to_numpy(dtype=object) if named else texts.to_numpy().astype(np.float64)
    except ValueError:
        return texts.to_numpy(dtype=object)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


# Bytes of a number of MATLAB's classes; what is sparse or nested tells later how large it is.
_SIZES = {"double": 8, "single": 4, "int64": 8, "uint64": 8, "int32": 4, "uint32": 4, "int16": 2, "uint16": 2}
_SIZES |= {"int8": 1, "uint8": 1, "logical": 1, "char": 4}


def _mat(path: Path, name: str, columns: bool) -> Array:
    """MATLAB up to v7."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        listed = whosmat(path)
        kinds = {one: kind for one, _, kind in listed}
        name = _named(path, name, list(kinds))
        shapes = {one: shape for one, shape, _ in listed}
        if (size := _SIZES.get(kinds[name])) is not None:
            packed.check_size(f"{path}#{name}", path.stat().st_size, size * math.prod(map(int, shapes[name])))
        if kinds[name] in ("struct", "object", "function", "opaque"):
            raise UserError(f"{path}: {name!r} is a {kinds[name]}, expected an array; save the field that is meant")
        found = loadmat(path, variable_names=[name])[name]
    except MatReadError as error:
        raise ValueError(error) from None
    if hasattr(found, "toarray"):  # sparse, as bags of words are saved
        packed.check_size(f"{path}#{name}", 12 * found.nnz, found.dtype.itemsize * math.prod(map(int, found.shape)))
        found = found.toarray()
    if found.dtype == object:  # a cell array
        cells = [_cell(path, name, number, cell) for number, cell in enumerate(found.ravel(), 1)]
        found = np.array(cells, dtype=object).reshape(found.shape)
    return _whole(path, name, found, columns)


def _cell(path: Path, name: str, number: int, cell: Any) -> str:
    """The text or the number of a cell."""
    values = np.asarray(cell)
    if values.dtype.kind in "US" and values.size <= 1:
        return str(values.item()) if values.size else ""
    if values.dtype.kind in "fiub" and values.size == 1:
        return str(values.item())
    raise UserError(
        f"{path}#{name}: cell {number} holds a {values.dtype} array of shape {values.shape}, expected one text or "
        f"number; save it as a matrix, or as {FORMS}"
    )


def _is_hdf5(path: Path) -> bool:
    import h5py

    return path.suffix.lower() != ".mat" or h5py.is_hdf5(path)


def _hdf5(path: Path, name: str, columns: bool) -> Array:
    """HDF5, and MATLAB v7.3, which is HDF5 with all axes reversed."""
    import h5py

    matlab = path.suffix.lower() == ".mat"
    file = h5py.File(path, "r")
    there: list[str] = []
    sparse: list[str] = []

    def visit(key: str, value: Any) -> None:
        if isinstance(value, h5py.Group) and "MATLAB_sparse" in value.attrs:
            sparse.append(key)
        elif isinstance(value, h5py.Dataset) and key.rpartition("/")[0] not in sparse:
            there.append(key)

    file.visititems(visit)
    # Without MATLAB's own: what cells refer to.
    name = _named(path, name, [key for key in (*there, *sparse) if not key.startswith("#")])
    data = file[name]
    if name in sparse:
        parts = [_stored(path, f"{name}/{key}", part) for key, part in data.items()]
        packed.check_size(f"{path}#{name}", sum(part.id.get_storage_size() for part in parts), _dense_size(data))
        return _whole(path, name, _dense(data), columns)
    data = _stored(path, name, data)
    reverse = columns != matlab
    if h5py.check_ref_dtype(data.dtype):  # a cell array
        refers = enumerate(data[()].T.ravel(), 1)
        cells = [_cell(path, name, number, _contents(_stored(path, name, file[one]))) for number, one in refers]
        return _whole(path, name, np.array(cells, dtype=object), False)
    if _is_char(data):
        texts = [_characters(row).rstrip() for row in np.atleast_2d(data[()].T)]
        return _whole(path, name, np.array(texts, dtype=object), False)
    if h5py.check_string_dtype(data.dtype):
        return _whole(path, name, data.asstr()[()], reverse)
    if data.ndim == 0 or data.size * data.dtype.itemsize <= WHOLE:
        return _whole(path, name, data[()], reverse)
    return _Blocks(path, name, data, reverse).array()


def _is_char(data: Any) -> bool:
    return data.attrs.get("MATLAB_class") == b"char"


def _contents(data: Any) -> Any:
    """What a cell refers to, in MATLAB's axes; an empty one has its shape in place of values."""
    text = _is_char(data) or ("MATLAB_class" not in data.attrs and data.dtype == np.uint16)
    if data.attrs.get("MATLAB_empty"):
        return np.array([], dtype=str if text else float)
    values = data[()].T
    return _characters(values) if text else values


def _stored(path: Path, name: str, data: Any) -> Any:
    """An HDF5 array whose values lie in the file itself, and are not many more than the file has bytes for.

    Raises
    ------
    UserError : values of other files (external storage, a virtual data set), no array, a size that fills the memory.
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
    return data


def stored(path: Path, file: Any, name: str) -> Any:
    """The array of that name at the top of an open HDF5 file: no link to another file, and as `_stored` has it.

    Raises
    ------
    UserError : it is a link, or as `_stored`.
    """
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{path}#{name}: is a link, which is not followed; save the array into the file itself")
    return _stored(path, name, file[name])


def _characters(codes: np.ndarray) -> str:
    return "".join(map(chr, np.asarray(codes).ravel().tolist()))


def _dense_size(group: Any) -> int:
    """Bytes of a sparse matrix once it is a whole one."""
    return 8 * int(group.attrs["MATLAB_sparse"]) * (group["jc"].shape[0] - 1)


def _dense(group: Any) -> np.ndarray:
    """(rows, columns) of a sparse matrix of MATLAB v7.3: a group of values, row numbers and starts of columns."""
    from scipy.sparse import csc_array

    starts = group["jc"][()].astype(np.int64)
    shape = (int(group.attrs["MATLAB_sparse"]), len(starts) - 1)
    if "ir" not in group:  # not one value
        return np.zeros(shape)
    return csc_array((group["data"][()], group["ir"][()].astype(np.int64), starts), shape=shape).toarray()


class _Blocks:
    """A large HDF5 array, a few blocks of rows of which are in memory."""

    def __init__(self, path: Path, name: str, data: Any, reverse: bool):
        self.path, self.name, self.data, self.reverse = path, name, data, reverse
        self.shape = data.shape[::-1] if reverse else data.shape
        stride = data.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        self.size = max(1, BLOCK // max(stride, 1))
        if data.chunks:  # whole chunks, each of which is unpacked once
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
