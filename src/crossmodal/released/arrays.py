"""Arrays in files of other tools (.npy, .npz, .mat, .h5, .parquet, .csv, .tsv, lines of text), by name and by rows.

Axes are those that the tool itself shows: a MATLAB matrix is (rows, columns) in both of its formats. `.npy` and large
`.h5` and `.mat` v7.3 arrays are read in parts; arrays of other formats are loaded into memory whole.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from crossmodal import released
from crossmodal.core import hdf5, isolation, packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import is_count, read_json, read_lines
from crossmodal.core.rows import FORMS, Array, Rows, in_memory, named, readable

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".npy", ".npz", ".mat", ".h5", ".hdf5", ".parquet", ".csv", ".tsv", ".txt", ".json")
PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib")


def open_array(path: str | Path, name: str = "", columns: bool = False) -> Array:
    """An array of a file.

    Parameters
    ----------
    name : the name of the array; it may be left out where the file holds only one. For a `.parquet` file it is a column
        of numbers, texts or lists, or a pattern such as `f*` of columns that are put side by side; likewise for a
        `.csv` or `.tsv` file, whose first line names the columns. There, and in any other text file, it may also be a
        column's number from 1.
    columns : whether the file has one item per column, so that its axes are reversed.

    Files of region features as they are released (`crossmodal.released`) open as (N, R, D) padded with zeros.

    Raises
    ------
    UserError : the file is missing, damaged or of another format; it has no such array (the message names those that it
        has), or several and none is named.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not columns and path.exists() and (regions := released.opened(path, name)) is not None:
        return regions
    if kind in PICKLES:
        raise UserError(
            f"{path}: has an unknown format: a pickle could run any program when it is opened; save it as {FORMS}"
        )
    if not path.is_file():
        raise UserError(f"{path}: not found; put the file there or correct the path in params.yaml")
    if kind not in SUFFIXES and not _is_text(path):
        raise UserError(f"{path}: has an unknown format; expected a name that ends in {', '.join(SUFFIXES)}, or text")
    with isolation.holding(path), readable(path):
        if kind == ".npy":
            return _npy(path, name, columns)
        if kind == ".json":
            return _list(path, columns)
        if kind == ".txt" or kind not in SUFFIXES:
            return _lines(path, name, columns)
        if kind == ".npz":
            with packed.arrays(path) as archive:
                name = named(path, name, list(archive))
                try:
                    return in_memory(path, name, archive[name], columns)
                except ValueError as error:
                    _refuse_objects(f"{path}#{name}", error)
                    raise
        if kind == ".parquet":
            return _parquet(path, name, columns)
        if kind in (".csv", ".tsv"):
            return _table(path, name, columns, "," if kind == ".csv" else "\t")
        return hdf5.open_hdf5(path, name, columns) if hdf5.is_hdf5(path) else hdf5.open_mat(path, name, columns)


@dataclass(frozen=True)
class Place:
    """The location of one item's features: `FILE#ARRAY/ROW`, the `source` of an item of `items.parquet`.

    `ARRAY.T` is an array with one item per column; `ROW[:9]` has nine regions and is padded after them.
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
        """The location that a `source` names.

        Raises
        ------
        UserError : `source` is something else, such as the path of a photograph.
        """
        match = cls.PATTERN.fullmatch(source)
        if match is None:
            raise UserError(f"{source!r} is no row of an array (FILE#ARRAY/ROW)")
        count = match["count"]
        columns = match["columns"] is not None
        return cls(match["file"], match["array"], columns, int(match["row"]), int(count) if count else None)


def _npy(path: Path, name: str, columns: bool) -> Array:
    if name:
        raise UserError(f"{path}: an .npy file holds one array without a name; leave out {name!r}")
    try:
        mapped = packed.mapped(path)
    except ValueError as error:
        _refuse_objects(str(path), error)
        raise
    if mapped.ndim == 0 or columns or not mapped.flags.c_contiguous:
        how = "to read it column by column" if columns else "to read it as it is stored, in Fortran order,"
        packed.check_whole(str(path), mapped.nbytes, how)
        return in_memory(path, "", mapped, columns)
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
        return error.start > len(head) - 4 and len(head) == 2**16  # the end of the head may cut a character


def _list(path: Path, columns: bool) -> Array:
    values = read_json(path)
    if not isinstance(values, list) or not all(isinstance(value, str | int | float) for value in values):
        raise UserError(f"{path}: is no list of texts or numbers; expected {FORMS}")
    texts = any(isinstance(value, str) for value in values)
    return in_memory(path, "", np.array(values, dtype=object if texts else None), columns)


def _lines(path: Path, name: str, columns: bool) -> Array:
    """Lines of text, or one of their columns by its number from 1; columns are separated by tabs, or else by blanks."""
    lines = read_lines(path)
    if not name:
        return in_memory(path, "", np.array(lines, dtype=object), columns)
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
    return in_memory(path, name, values, columns)


def _parquet(path: Path, name: str, columns: bool) -> Array:
    import pyarrow.parquet as pq

    chosen = _columns(path, name, pq.read_schema(path).names)
    table = packed.table(path, chosen)
    name = name or chosen[0]
    if len(chosen) > 1:
        return in_memory(path, name, np.stack([table[column].to_numpy() for column in chosen], axis=1), columns)
    values = table[chosen[0]].combine_chunks()
    if not _is_list(values.type):
        return in_memory(path, name, table[chosen[0]].to_numpy(), columns)
    shape = [len(values)]
    while _is_list(values.type):
        sizes = values.value_lengths().unique().to_pylist() if len(values) else [0]
        if len(sizes) > 1 or sizes == [None]:
            raise UserError(f"{path}#{name}: its lists differ in length ({sizes[0]}, {sizes[-1]}, ...)")
        shape.append(sizes[0])
        values = values.flatten()
    return in_memory(path, name, values.to_numpy(zero_copy_only=False).reshape(shape), columns)


def _columns(path: Path, name: str, present: list[str]) -> list[str]:
    """The column of that name, or those that match it as a pattern."""
    matching = fnmatch.filter(present, name) if name and name not in present else []
    return matching or [named(path, name, present)]


def _table(path: Path, name: str, columns: bool, separator: str) -> Array:
    """Columns of a text table: numbers where all values are numbers, unless some look like names (`007`)."""
    import pandas as pd

    options = {"sep": separator, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    present = list(pd.read_csv(path, nrows=0, **options).columns)  # the table may be larger than the memory
    by_number = name not in present and is_count(name) and 1 <= int(name) <= len(present)
    if bare := [column for column in present if _is_number(column)]:
        if not by_number:
            raise UserError(
                f"{path}: its first line names no columns (it holds {bare[0]!r}); put their names above the rows, or "
                f"give a column's number from 1"
            )
        present = [str(number) for number in range(1, len(present) + 1)]
        options |= {"header": None, "names": present}
    elif by_number:
        name = present[int(name) - 1]
    chosen = _columns(path, name, present)
    frame = pd.read_csv(path, usecols=chosen, **options)
    values = [_numbers(frame[column]) for column in chosen]
    array = np.stack(values, axis=1) if len(values) > 1 else values[0]
    return in_memory(path, name or chosen[0], array, columns)


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
