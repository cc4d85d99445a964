"""Readers of tables (.parquet) and arrays (.npy, .npz) that check the unpacked size before they take memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmodal.core import limits
from crossmodal.core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

DEEP = 16  # nested lists and records
OBJECT = 128  # bytes of a value that becomes an object of Python's or NumPy's: a list, a record, a date
TEXT = 24  # bytes of a text besides its characters, where equal ones are one object
COLUMNS = 10_000
ROW, CELL = 240, 64  # bytes of a row as a mapping of Python's, and of each value in it
EMPTY = 2**24  # rows that an array may have in which there is nothing
HEADER = 2**23  # bytes of the list of arrays in a file of safetensors, which has about 100 for each


def check_size(where: str, packed: int, unpacked: int) -> None:
    """Refuse data that unpack to so many bytes that the file must be meant to fill the memory.

    Raises
    ------
    UserError : the size is above `limits.unpacked` and the ratio above `limits.ratio`.
    """
    if limits.is_bomb(packed, unpacked):
        raise UserError(
            f"{where}: {packed:,} bytes of the file would become {unpacked:,} in memory; if it is no decompression "
            "bomb, raise `limits.unpacked` or `limits.ratio` in params.yaml"
        )


def check_header(path: Path) -> None:
    """Refuse a file of safetensors that lists millions of arrays, which take memory although they hold nothing.

    Raises
    ------
    UserError : it does.
    """
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
    if HEADER < size <= path.stat().st_size:  # the library itself refuses one that is longer than its file
        raise UserError(f"{path}: has a list of arrays of {size:,} bytes, expected at most {HEADER:,}; save it again")


def check_rows(where: str, shape: tuple[int, ...], size: int) -> None:
    """Refuse an array of endless rows or values in which there is nothing, which a file of a few bytes may state.

    Parameters
    ----------
    size : bytes of a value. NumPy gives each text of none 4 bytes when it copies them.

    Raises
    ------
    UserError : it is one.
    """
    if not math.prod(shape) * size and (count := math.prod(shape) or max(shape)) > EMPTY:
        raise UserError(f"{where}: has {count:,} rows without a value; make the file again")


def check_whole(where: str, size: int, how: str) -> None:
    """Refuse an array of which more than `limits.whole_bytes` would be in memory at once.

    Raises
    ------
    UserError : it is one.
    """
    if size > (most := limits.current().whole_bytes):
        raise UserError(
            f"{where}: {how} takes {size:,} bytes of memory, expected at most {most:,} (`limits.whole_bytes` in "
            "params.yaml)"
        )


def check_array(where: str, array: np.ndarray) -> None:
    """Refuse an array of endless rows of nothing, or of texts that are too many or hold numbers that are no characters.

    Raises
    ------
    UserError : it is one.
    """
    check_rows(where, array.shape, array.dtype.itemsize)
    if array.dtype.kind == "U" and array.nbytes:  # Python makes texts of any number, of which it can do nothing else
        check_whole(where, array.nbytes, "to read its texts")
        codes = np.ascontiguousarray(array).reshape(-1).view(f"{array.dtype.byteorder}u4")
        if codes.max() > ord("\U0010ffff"):
            raise UserError(f"{where}: holds numbers that are no characters in place of texts; make the file again")


# -- .parquet ---------------------------------------------------------------------------------------------------------


def table(
    path: str | Path, columns: Sequence[str] | None = None, *, index: bool = False, as_rows: bool = False
) -> pa.Table:
    """The table in a Parquet file, or some columns of it.

    Parameters
    ----------
    index : whether to add the columns that pandas has written as the index of a frame.
    as_rows : whether its rows become mappings, which take many times the room of columns.

    Raises
    ------
    UserError : it would fill the memory, a text is longer than `limits.line`, or columns hold lists nested too deeply.
    OSError, ValueError, pyarrow.ArrowException : the file is missing, damaged or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        names = schema.names
        if len(names) > COLUMNS:
            raise UserError(f"{path}: has {len(names):,} columns, expected at most {COLUMNS:,}")
        chosen = names if columns is None else list(columns)
        if missing := sorted({*chosen}.difference(names), key=chosen.index):
            raise ValueError(f"has no column {', '.join(missing)}; its columns are {', '.join(names)}")
        if as_rows:
            rows = file.metadata.num_rows
            check_size(str(path), path.stat().st_size, rows * (ROW + CELL * len(chosen)))
        _check_columns(path, file, set(chosen))
        coded = _coded(file.metadata, [name for name in chosen if _is_text(schema.field(name).type)])
    # Not `read_table`, which imports pandas and the readers of whole folders for any file.
    with pq.ParquetFile(path, read_dictionary=[*coded], pre_buffer=True) as file:
        loaded = file.read(columns=None if columns is None else chosen, use_pandas_metadata=index)
    for name, size in coded.items():
        _check_coded(f"{path}: {name}", loaded[name], size)
    if coded:
        kinds = [schema.field(field.name) if field.name in coded else field for field in loaded.schema]
        loaded = loaded.cast(pa.schema(kinds, loaded.schema.metadata))
    for name, texts in zip(loaded.column_names, loaded.columns, strict=True):
        if name not in coded and _is_text(texts.type) and texts.nbytes > limits.current().line:  # or none is longer
            _check_longest(f"{path}: {name}", texts)
    return loaded


def check_table(path: Path, columns: Sequence[str]) -> None:
    """Check the unpacked size of some columns in a Parquet file that others than `table` read as they are stored.

    Raises
    ------
    UserError, OSError, pyarrow.ArrowException : as `table`.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _check_columns(path, file, set(columns))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_kind(kind) for is_kind in kinds)


def _parts(metadata: Any, chosen: set[str]) -> Iterator[tuple[Any, int]]:
    """The chosen columns of each row group, each with the number of its rows."""
    for n in range(metadata.num_row_groups):
        group = metadata.row_group(n)
        for k in range(group.num_columns):
            if (part := group.column(k)).path_in_schema.split(".")[0] in chosen:
                yield part, group.num_rows


def _check_columns(path: Path, file: pq.ParquetFile, chosen: set[str]) -> None:
    packed = unpacked = 0
    metadata, schema = file.metadata, file.schema_arrow
    plain = {name for name in chosen.intersection(schema.names) if _is_plain(schema.field(name).type)}
    for part, rows in _parts(metadata, chosen):
        if (depth := part.path_in_schema.count(".")) > DEEP:
            raise UserError(f"{path}: {part.path_in_schema[:80]} is nested too deeply; expected values or lists")
        copies = 3 if part.physical_type == "BYTE_ARRAY" else 1  # of the page, the column and Python's texts
        packed += part.total_compressed_size
        each = TEXT if part.physical_type == "BYTE_ARRAY" else 8
        unpacked += max(copies * part.total_uncompressed_size, each * part.num_values)
        if part.path_in_schema not in plain:  # one list per row; of lists in lists (`x.list.element.list.element`) more
            unpacked += OBJECT * (part.num_values if depth > 2 else rows)
    check_size(str(path), min(packed, path.stat().st_size), max(unpacked, 8 * metadata.num_rows))


def _is_plain(kind: pa.DataType) -> bool:
    """Whether pandas keeps values as numbers, or as texts of which equal ones are one object."""
    import pyarrow.types as types

    kinds = (types.is_integer, types.is_floating, types.is_boolean, types.is_timestamp, types.is_duration)
    return _is_text(kind) or types.is_null(kind) or types.is_dictionary(kind) or any(is_kind(kind) for is_kind in kinds)


def _coded(metadata: Any, texts: list[str]) -> dict[str, int]:
    """{column: packed bytes} of texts that are stored once and named by number in each row, and may be many times more.

    They are read as they are stored, and checked before they are unpacked.
    """
    coded = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}
    sizes: dict[str, tuple[int, int]] = {}
    for part, _ in _parts(metadata, set(texts)):
        if not coded.isdisjoint(part.encodings):
            size, most = sizes.get(part.path_in_schema, (0, 0))
            most += part.num_values * part.total_uncompressed_size
            sizes[part.path_in_schema] = size + part.total_compressed_size, most
    return {name: size for name, (size, most) in sizes.items() if limits.is_bomb(size, most)}


def _check_coded(where: str, column: pa.ChunkedArray, size: int) -> None:
    """Check the bytes that dictionary-encoded texts of `size` packed bytes become."""
    chunks = [(len(chunk), _check_longest(where, chunk.dictionary)) for chunk in column.chunks]
    check_size(where, size, sum(count * longest for count, longest in chunks))


def _check_longest(where: str, texts: pa.Array | pa.ChunkedArray) -> int:
    """Check the lengths of texts; returns the bytes of the longest one."""
    import pyarrow.compute as pc

    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > (most := limits.current().line):
        raise UserError(
            f"{where}: holds a text of {longest:,} bytes, expected at most {most:,} (`limits.line` in params.yaml)"
        )
    return longest


# -- .npy, .npz ------------------------------------------------------------------------------------------------------


def mapped(path: str | Path) -> np.ndarray:
    """The memory-mapped array of an .npy file, whose rows are read when they are accessed.

    Raises
    ------
    UserError : it has endless rows of nothing.
    OSError, ValueError, EOFError : the file is missing, damaged or holds pickles.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise
    except Exception as error:  # NumPy parses the header like Python source, which raises many kinds of errors
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    check_array(str(path), array)
    return array


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of an .npz file, each of which is read when it is accessed."""

    def __init__(self, path: Path, archive: np.lib.npyio.NpzFile):
        self.path, self.archive = path, archive
        self.sizes = {entry.filename: (entry.compress_size, entry.file_size) for entry in archive.zip.infolist()}

    def __getitem__(self, name: str) -> np.ndarray:
        key = f"{name}.npy" if f"{name}.npy" in self.sizes else name
        if key not in self.sizes:
            raise KeyError(name)
        check_size(f"{self.path}#{name}", *self.sizes[key])
        try:
            array = self.archive[name]
        except RuntimeError as error:  # encrypted, or compressed in a way that zipfile does not know
            raise zipfile.BadZipFile(str(error)) from error
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} is no array")  # NumPy returns other members as bytes
        check_array(f"{self.path}#{name}", array)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.archive.files)

    def __len__(self) -> int:
        return len(self.archive.files)


@contextmanager
def arrays(path: str | Path) -> Iterator[Arrays]:
    """The arrays of an .npz file by their names, without pickles.

    Raises
    ------
    UserError : inside the `with` block, an array would fill the memory.
    OSError, ValueError, EOFError, zipfile.BadZipFile : the file is missing, damaged or holds pickles.
    """
    path = Path(path)
    try:
        archive = np.load(path, mmap_mode="r", allow_pickle=False)
    except NotImplementedError as error:  # of a later version of the format
        raise zipfile.BadZipFile(str(error)) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise zipfile.BadZipFile("is no archive of arrays")
    with archive:
        yield Arrays(path, archive)
