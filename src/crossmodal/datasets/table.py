"""Reader of custom tables with one row per image and caption: CSV, TSV, JSON lines or Parquet.

The data set's block in `params.yaml` names the columns:

    reader: table
    images: photographs
    annotations: captions.csv            # or a list, or {train: ..., val: ..., test: ...}
    columns: {image: file, caption: sentence, partition: split, label: category}
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import json_of
from crossmodal.datasets import captioned, items
from crossmodal.datasets.captioned import Entry

Rows = Iterator[tuple[int, list[str]]]
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*SEPARATORS, ".jsonl", ".ndjson", ".parquet")


class Columns(BaseModel):
    """Names of the columns of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field("image", description="column with the path of the image relative to the image folder")
    caption: str = Field(
        "caption", description="column with a caption; in JSON lines and Parquet it may also hold a list of captions"
    )
    partition: str | None = Field(
        None,
        description="column with the partition: train, val or test; without it, partitions follow `lists` or are drawn",
    )
    label: str | None = Field(
        None,
        description="column with the class of the image; in JSON lines and Parquet it may also hold a list of classes",
    )


class Settings(captioned.Settings):
    """The block of a data set in a custom table."""

    columns: Columns = Columns()
    quotes: bool = Field(
        True,
        description="whether cells of a CSV or TSV file may be enclosed in double quotes; false: a quote is part of "
        "the text",
    )


def _entries(settings: Settings, dataset: str) -> list[tuple[Path, str | None, list[Entry]]]:
    return [(path, part, _read(path, settings, dataset)) for path, part in captioned.files_of(settings)]


_READER = captioned.Reader("table", _entries)
make, read = _READER.make, _READER.read


def _read(path: Path, settings: Settings, dataset: str) -> list[Entry]:
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise UserError(f"{path}: has an unknown format; expected a name that ends in {', '.join(SUFFIXES)}")
    captioned.existing_file(path, dataset, "the table of images and captions")
    columns = settings.columns
    wanted = [name for name in (columns.image, columns.caption, columns.partition, columns.label) if name is not None]
    rows = _of_json(path, wanted) if kind in (".jsonl", ".ndjson") else None
    rows = rows or (_of_parquet(path, wanted) if kind == ".parquet" else _of_text(path, wanted, settings.quotes))
    entries, faults = [], captioned.Faults()
    for place, row in rows:
        name, captions = row[columns.image], captioned.text_of(row[columns.caption])
        partition, label = (None if key is None else row[key] for key in (columns.partition, columns.label))
        if not isinstance(name, str) or not name.strip():
            faults.add(path, f"row(s) have no text in the column {columns.image!r}", place)
        elif captions is None:
            faults.add(path, f"row(s) have no text or list of texts in the column {columns.caption!r}", place)
        else:
            if isinstance(label, list):
                label = items.encoded_labels(str(value).strip() for value in label)
            partition, label = (None if value is None else str(value).strip() or None for value in (partition, label))
            entries.append(Entry(place, name.strip(), captions, partition, label))
    faults.stop()
    return entries


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of the lines that are not blank.

    A line ends at a line feed, which a carriage return may precede, and at no other character. A byte order mark is
    removed.

    Raises
    ------
    UserError : the file is no UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error}); save it as UTF-8") from None


def rows_of_text(path: Path, separator: str, quotes: bool) -> Rows:
    """Yield (line number, cells) of each row of a CSV or TSV that is not blank.

    Raises
    ------
    UserError : the file is no UTF-8 text, or a quote is never closed.
    """
    if not quotes:
        for number, line in numbered_lines(path):
            yield number, line.split(separator)
        return
    begin = 1
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            reader = csv.reader(stream, delimiter=separator, strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield begin, cells
                begin = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error}); save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(
            f"{path}: the row that begins in line {begin} cannot be read ({error}); close its quotes, or set "
            "`quotes: false` where a quote is text"
        ) from None


def _of_text(path: Path, wanted: list[str], quotes: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = rows_of_text(path, SEPARATORS[path.suffix.lower()], quotes)
    header = [name.strip() for name in next(rows, (0, []))[1]]
    for name in wanted:
        captioned.column(header, name, str(path))
    for number, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"{path}: line {number} has {len(cells)} cells, its first line names {len(header)} columns "
                f"({', '.join(header)}); put cells that hold the separator in double quotes"
            )
        yield f"line {number}", dict(zip(header, cells, strict=True))


def _of_json(path: Path, wanted: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in numbered_lines(path):
        row = json_of(line, f"{path}: line {number}")
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is no object but {type(row).__name__}")
        for name in wanted:
            captioned.column(row, name, f"{path}: line {number}")
        yield f"line {number}", row


def _of_parquet(path: Path, wanted: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        for name in wanted:
            captioned.column(names, name, str(path))
        table = packed.table(path, wanted)
    except UserError:
        raise
    except Exception as error:  # the library does not document what broken files raise
        raise UserError(f"{path}: cannot be read as Parquet ({error}); fetch or make the file again") from None
    number = 0
    for batch in table.to_batches(max_chunksize=8192):
        for row in batch.to_pylist():
            yield f"row {number}", row
            number += 1
