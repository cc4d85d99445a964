"""Reader of Hugging Face `datasets`: a folder of `save_to_disk`, or the Parquet files of a snapshot of the hub.

`save_to_disk` writes one folder of Arrow files per split (`dataset_dict.json` names the splits), or a single one. In a
snapshot the split is that which begins a file's name (`train-00000-of-00002.parquet`) or the name of its folder. The
library `datasets` is not needed. A photograph is a struct of `bytes` and `path`, bare bytes, or the path of a file
below the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core import isolation, limits, packed, paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record
from crossmodal.datasets import captioned, embedded, items
from crossmodal.datasets.embedded import Sample

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 64  # of a Parquet file that are held at once


class Columns(BaseModel):
    """Names of the columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field("image", description="column of the photographs")
    caption: str = Field("caption", description="column with a caption or a list of captions")
    partition: str | None = Field(None, description="column with the split of each row, such as Karpathy's `split`")
    label: str | None = Field(None, description="column with the class, by name or number")
    name: str | None = Field(None, description="column with the file name of each photograph, such as `filename`")


class Settings(embedded.Settings):
    """The block of a data set in a folder of Hugging Face's `datasets`."""

    columns: Columns = Columns()


def _samples(settings: Settings, dataset: str) -> tuple[list[Path], Iterator[Sample]]:
    advice = f"set datasets.{dataset}.root in params.yaml to a folder of `save_to_disk`, or to a snapshot of the hub"
    root = settings.root
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        listed = _saved(root)
        return [file for file, _ in listed], (
            sample for file, split in listed for sample in _rows(settings, file, split, _batches_of_arrow)
        )
    files = embedded.files_below(root, (".parquet",), advice)
    return files, (
        sample for file in files for sample in _rows(settings, file, _split(settings, file), _batches_of_parquet)
    )


_READER = embedded.Reader("hf_datasets", _samples)
make, read = _READER.make, _READER.read


def _saved(root: Path) -> list[tuple[Path, str | None]]:
    """The Arrow files of a folder of `save_to_disk`, each with its split."""
    splits: list[Any] = [None]
    if (table := root / "dataset_dict.json").is_file():
        splits = read_record(table).get("splits")
        if not isinstance(splits, list) or not splits or not all(isinstance(name, str) for name in splits):
            raise UserError(f"{table}: names no list of `splits`; save the data set again")
    files: list[tuple[Path, str | None]] = []
    for split in splits:
        folder = root if split is None else paths.inside(root, split, str(root / "dataset_dict.json"))
        listed = read_record(folder / "state.json").get("_data_files")
        names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed or [None]]
        if not all(isinstance(name, str) for name in names):
            raise UserError(f"{folder / 'state.json'}: names no `_data_files`; save the data set again")
        files += [(paths.inside(folder, name, str(folder / "state.json")), split) for name in names]
    for file, _ in files:
        if not file.is_file():
            raise UserError(f"{file}: not found, though `state.json` names it; copy the whole folder")
    return files


def _split(settings: Settings, file: Path) -> str | None:
    """The split of a Parquet file, or None where its name and its folder say none that is known."""
    below = file.relative_to(settings.root)
    named = re.split(r"-\d+-of-\d+|\.parquet$", below.name)[0]
    names = [named, *below.parts[-2:-1], re.split(r"[-_.]", named)[0]]
    return next((name for name in names if name and not embedded.partition_of(name, settings.splits)[1]), None)


def _batches_of_arrow(path: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        for name in wanted:
            captioned.column(stream.schema.names, name, str(path))
        while True:
            with isolation.holding(path):
                try:
                    batch = stream.read_next_batch().select(wanted)
                except StopIteration:
                    return
                batch.validate(full=True)  # offsets in a damaged file may lead anywhere
            for start in range(0, len(batch), ROWS):
                yield batch.slice(start, ROWS)


def _batches_of_parquet(path: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        for name in wanted:
            captioned.column(file.schema_arrow.names, name, str(path))
        packed.check_table(path, wanted)
        batches = file.iter_batches(ROWS, columns=wanted)
        while True:
            with isolation.holding(path):
                if (batch := next(batches, None)) is None:
                    return
            yield batch


def _rows(settings: Settings, path: Path, split: str | None, batches: Any) -> Iterator[Sample]:
    columns = settings.columns
    wanted = [columns.image, columns.caption, columns.partition, columns.label, columns.name]
    wanted = list(dict.fromkeys(name for name in wanted if name is not None))
    number = 0
    try:
        for batch in batches(path, wanted):
            for place in range(len(batch)):
                row = {name: batch.column(name)[place].as_py() for name in wanted}
                yield _sample(settings, path, number, row, split)
                number += 1
    except UserError:
        raise
    except Exception as error:  # the library does not document what broken files raise
        raise UserError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:300]}); fetch or save it again"
        ) from None


def _sample(settings: Settings, path: Path, number: int, row: dict[str, Any], split: str | None) -> Sample:
    columns, where = settings.columns, f"{path}: row {number}"
    captions = captioned.text_of(row[columns.caption])
    if captions is None:
        raise UserError(f"{where}: {columns.caption!r} is no text or list of texts; set `columns` in params.yaml")
    if (longest := max((len(text) for text in captions), default=0)) > (most := limits.current().line):
        raise UserError(f"{where}: holds a text of {longest:,} characters, expected at most {most:,} (`limits.line`)")
    data, name = _photograph(settings.root, where, row[columns.image], columns.image)
    if columns.name is not None:
        name = row[columns.name]
    label, part = (None if key is None else row[key] for key in (columns.label, columns.partition))
    if isinstance(label, list):
        label = items.encoded_labels(str(value).strip() for value in label)
    label = None if label is None else str(label).strip() or None
    return Sample(path, f"row {number}", data, name if isinstance(name, str) else None, captions,
                  split if columns.partition is None else str(part), label)  # fmt: skip


def _photograph(root: Path, where: str, value: Any, column: str) -> tuple[bytes, str | None]:
    """The bytes and the file name of a cell of the column of photographs."""
    data, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, str):
        data, name = None, data
    if data is None and isinstance(name, str) and name:
        file = paths.inside(root, name, where)
        if not file.is_file():
            raise UserError(f"{where}: {name!r}: not found below {root}; copy the photographs there")
        embedded.check_image(where, file.stat().st_size)
        return file.read_bytes(), name
    if not isinstance(data, bytes) or not data:
        raise UserError(
            f"{where}: {column!r} holds no photograph; set `columns` in params.yaml to the column that does"
        )
    embedded.check_image(where, len(data))
    return data, name
