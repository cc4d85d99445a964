"""Reader of precomputed features: published arrays with labels and partitions become the items of a data set.

No media are read. The source of an item is its row of an array (`FILE#ARRAY/ROW`), which the extractor `precomputed`
reads. Text may also be given as captions, one per line, which models read as words.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from crossmodal.core import paths
from crossmodal.core.errors import UserError
from crossmodal.datasets import items, partitions, raw
from crossmodal.modalities import Modality
from crossmodal.released import RegionFile, flat
from crossmodal.released.arrays import SUFFIXES, Array, Place, open_array

log = logging.getLogger(__name__)

SLICE = r"(?P<slice>-?\d*:-?\d*(:-?\d*)?)"
REFERENCE = re.compile(rf"((?P<file>[^#\[\]]*)#)?(?P<array>[^#\[\]]*)(\[{SLICE}\])?")
TABLE_HEADS = {"image", "image_name", "filename", "file_name", "caption", "captions", "comment", "image_id"}
TAB = "\t"
MOST_REPEATED = 20  # maximum number of captions per image for which repeated rows are detected
SAMPLED = 16  # positions at which an array is checked for repeated rows
OF_AN_ITEM = "; FILE#ARRAY, a FILE, or an ARRAY of the same file; [a:b:c] selects a part"


class Part(BaseModel):
    """One array of a modality, or the captions of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: Literal["train", "val", "test"] | None = Field(None, description="partition of all rows of this part")
    partitions: str = Field("", description=f"partition of each row: train, val or test{OF_AN_ITEM}")
    file: str = Field("", description="file of this part instead of the data set's `file`")
    array: str = Field(
        "", description="name of the array in the file; it may be left out where the file contains a single one"
    )
    captions: str = Field(
        "",
        description="sentences instead of an array (text only): a .txt with one sentence per line, or an array of "
        "texts",
    )
    items: Literal["rows", "columns"] = Field("rows", description="whether an item is a row or a column of the array")
    rows: str = Field(
        "", description="rows that belong to this part: a:b:c, or an array of their numbers (from 1 in a .mat file)"
    )
    labels: str = Field(
        "", description=f"class of each row: a number, a name, or the ones in a row of a matrix{OF_AN_ITEM}"
    )
    ids: str = Field("", description=f"name of each row{OF_AN_ITEM}")
    groups: str = Field(
        "",
        description=f"group of each row; rows of a group belong together, as a photograph and its text{OF_AN_ITEM}",
    )
    counts: str = Field(
        "", description=f"number of regions in each row of an N x R x D array, without padding{OF_AN_ITEM}"
    )

    @model_validator(mode="after")
    def _one(self) -> Part:
        if (self.partition is None) == (self.partitions == ""):
            raise ValueError("give either `partition` (of all rows) or `partitions` (an array with that of each)")
        return self


class Settings(BaseModel):
    """The arrays of each modality, and how their rows belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: Path = Field(description="folder to which file names are relative")
    file: str = Field("", description="file of the parts that name no file")
    modalities: dict[Modality, list[Part]] = Field(min_length=1)
    paired: list[Modality] = Field(
        [],
        description="modalities whose rows correspond in order; if one has a multiple of the rows (captions), "
        "consecutive ones belong together",
    )
    several: bool | None = Field(
        None,
        description="whether a matrix of labels may assign several classes to a row; true: also none; null: several, "
        "if every row has at least one",
    )
    val: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the training items that is kept for validation where the parts have no validation items",
    )
    seed: int = Field(0, description="seed of that choice")

    @field_validator("modalities", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        """Turn a single part into a list."""
        return {m: [p] if isinstance(p, dict) else p for m, p in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        for modality, parts in self.modalities.items():
            if not parts:
                raise ValueError(f"modalities.{modality}: names no part")
            words = {bool(part.captions) for part in parts}
            if True in words and (modality != "text" or len(words) > 1):
                raise ValueError(
                    f"modalities.{modality}: `captions` are for text alone, and for all of its parts or none"
                )
            if modality in self.paired and any(part.groups for part in parts):
                raise ValueError(f"modalities.{modality}: has `groups`, so it is not `paired` by order as well")
        lone = [modality for modality in self.paired if modality not in self.modalities]
        if lone:
            raise ValueError(f"paired: {lone[0]} is none of the modalities ({', '.join(self.modalities)})")
        return self


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Read shapes, labels and partitions, and write `items.parquet` and `items.json` into `folder`.

    Raises
    ------
    UserError : a file is missing or damaged, lacks an array, or numbers of items do not agree.
    """
    if not settings.root.is_dir():
        raise UserError(f"{settings.root}: no such folder; set datasets.{folder.name}.root in params.yaml")
    paths = _files(settings)
    read_from = raw.record(folder, [p for p in paths if not p.is_dir()], trees=[p for p in paths if p.is_dir()])
    frame, arrays = read(settings)
    frame, carved = partitions.with_validation(frame, settings)
    root = settings.root
    manifest = {
        "reader": "precomputed",
        "title": title,
        "root": str(root if root.is_absolute() else Path(os.path.relpath(root.absolute(), folder.resolve()))),
        "arrays": arrays,
        "settings": settings.model_dump(mode="json", exclude={"root"}, exclude_defaults=True),
        "carved": carved,
        "raw": read_from,
    }
    items.write(frame, folder, manifest)


def _files(settings: Settings) -> list[Path]:
    """The files on which the items depend: all except .npy arrays of features.

    The values of features are no part of the items, and their shape is recorded in `arrays` of the manifest.
    """
    parts = [part for of in settings.modalities.values() for part in of]
    files: set[str] = set()
    for part in parts:
        if not part.captions and not (file := part.file or settings.file).lower().endswith(".npy"):
            files.add(file)
        for reference in (part.captions, part.partitions, part.rows, part.labels, part.ids, part.groups, part.counts):
            if reference and not re.fullmatch(SLICE, reference):
                files.add(_place(settings, part, reference)[0])
    return [settings.root / file for file in sorted(filter(None, files))]


def read(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The items in the order of modalities, parts and rows, and {array: its shape and type}.

    Raises
    ------
    UserError : for the same reasons as `make`.
    """
    frames: list[pd.DataFrame] = []
    arrays: dict[str, Any] = {}
    for modality, parts in settings.modalities.items():
        first: Array | None = None
        for number, part in enumerate(parts):
            array, name = _array(settings, part, f"modalities.{modality}[{number}]")
            frames.append(_items(settings, modality, part, array, name))
            if part.captions:
                _refuse_table(array)
                continue
            if modality in settings.paired and not isinstance(array, RegionFile):
                _refuse_repeated(array, _rows(settings, part, array), f"modalities.{modality}[{number}]")
            first = first or array
            if _shape(array) != _shape(first):
                raise UserError(
                    f"{array.where}: an item has shape {array.shape[1:]}, in {first.where} {first.shape[1:]}; "
                    f"all {modality} features must be of one shape"
                )
            arrays[array.where] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    frame = pd.concat(frames, ignore_index=True)
    place = frame.groupby(["modality", "partition"], sort=False).cumcount()
    default = frame.modality + "/" + frame.partition + "/" + place.astype(str)
    frame["item_id"] = (frame.modality + "/" + frame.item_id).fillna(default)
    frame["group_id"] = frame.group_id.fillna(_paired(frame, place, settings.paired)).fillna(frame.item_id)
    return items.validate(frame, f"{settings.root} (kind: precomputed)"), arrays


def _refuse_table(captions: Array) -> None:
    """Refuse a table as a file of captions, since its header and file names would be read as captions."""
    if captions.name or not len(captions):
        return
    path, first = captions.path, str(captions[0])
    head = [cell.strip().strip('"').lower() for cell in re.split("[,\t|]", first)]
    if len(head) > 1 and any(cell in TABLE_HEADS for cell in head):
        raise UserError(
            f"{path}: is a table of the columns {', '.join(head)}, not a caption per line; name it .csv or .tsv and "
            f"give its column, such as `captions: {path.stem}.csv#{head[-1]}`"
        )
    if all(TAB in str(line) for line in captions.read(np.arange(min(len(captions), SAMPLED)))):
        raise UserError(
            f"{path}: its lines hold {first.count(TAB) + 1} columns ({first!r}), not a caption alone; give the number "
            f"of the column that is meant, such as `captions: {path.name}#{first.count(TAB) + 1}`"
        )


def _refuse_repeated(array: Array, rows: np.ndarray, where: str) -> None:
    """Refuse rows that are repeated for each caption, as in the files of VSE++ and SCAN.

    Otherwise each of the copies would count as relevant to one caption only.
    """
    times = 1
    while times < min(len(rows), MOST_REPEATED + 1) and np.array_equal(array[rows[0]], array[rows[times]]):
        times += 1
    if times == 1 or times > MOST_REPEATED or len(rows) % times or len(rows) < 2 * times:
        return
    blocks = np.unique(np.linspace(0, len(rows) // times - 1, SAMPLED).astype(int)) * times
    for start in blocks:
        values = array.read(rows[start : start + times + 1])
        if (values[:times] != values[0]).any() or (len(values) > times and np.array_equal(values[times], values[0])):
            return
    raise UserError(
        f"{array.where}: repeats each row {times} times in succession, once per caption, as VSE++ and SCAN publish "
        f'theirs: take one of each by `rows: "::{times}"` in {where} of params.yaml'
    )


def _shape(array: Array) -> tuple[int, ...]:
    """Shape of an item; (D,) for files of regions, whose numbers of regions may differ."""
    return array.shape[2:] if isinstance(array, RegionFile) else array.shape[1:]


def _array(settings: Settings, part: Part, where: str) -> tuple[Array, str]:
    """The numeric array of a part, or its captions, and the file relative to the root."""
    if part.captions:
        return _open(settings, part, part.captions), part.captions
    file = part.file or settings.file
    if not file:
        raise UserError(f"params.yaml: {where}: names no `file`, nor does the data set")
    if "#" in file:
        raise UserError(f"params.yaml: {where}.file: {file!r}: '#' cannot be part of a name; rename the file")
    array = open_array(_below(settings, file), part.array, part.items == "columns")
    if array.dtype.kind not in "fiub" or len(array.shape) not in (2, 3):
        raise UserError(
            f"{array.where}: is a {array.dtype} array of shape {array.shape}, expected numbers of shape (items, D) or "
            f"(items, regions, D)"
        )
    return array, file


def _below(settings: Settings, file: str) -> Path:
    return paths.inside(settings.root, file, "params.yaml: modalities")


def _open(settings: Settings, part: Part, reference: str) -> Array:
    """Open a reference: `FILE#ARRAY`, a FILE, or an ARRAY of the part's own file; `[a:b:c]` selects a slice."""
    file, name, chosen = _place(settings, part, reference)
    if not file:
        raise UserError(f"params.yaml: {reference!r}: names no file, nor does the data set")
    array = open_array(_below(settings, file), name)
    if len(array.shape) == 2 and 1 in array.shape:  # MATLAB has no vectors
        values = array.all().reshape(-1)
    else:
        values = array.all()
    values = values[_slice(chosen)] if chosen else values
    return Array(array.path, array.name, values.shape, values.dtype, lambda rows: values[rows])


def _place(settings: Settings, part: Part, reference: str) -> tuple[str, str, str]:
    """The file, array and slice that a reference names; each may be empty."""
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise UserError(
            f"params.yaml: {reference!r}: expected FILE#ARRAY, FILE or ARRAY, optionally followed by [a:b:c]"
        )
    file, name = match["file"], match["array"]
    if file is None:
        is_file = name.lower().endswith(SUFFIXES) or (name != "" and (settings.root / name).is_file())
        file, name = (name, "") if is_file else (part.file or settings.file, name)
    return file, name, match["slice"] or ""


def _slice(text: str) -> slice:
    return slice(*(int(part) if part else None for part in text.split(":")))


def _items(settings: Settings, modality: str, part: Part, array: Array, file: str) -> pd.DataFrame:
    rows = _rows(settings, part, array)

    def of_each(reference: str) -> Array | None:
        """The values of the selected rows; the referenced array may have one value for each row of the whole array."""
        if not reference:
            return None
        values_of = _open(settings, part, reference)
        if len(values_of) in (len(array), len(rows)):
            values = values_of.read(rows) if len(values_of) == len(array) else values_of.all()
            return Array(values_of.path, values_of.name, values.shape, values.dtype, values.__getitem__)
        flip = "; set `items: columns` if each column is an item" if len(values_of) == array.shape[-1] else ""
        raise UserError(f"{values_of.where}: {len(values_of)} values for the {len(array)} rows of {array.where}{flip}")

    if part.captions:
        sources = [
            " ".join(array.text(row, sentence).split()) for row, sentence in zip(rows, array.read(rows), strict=True)
        ]
        if "" in sources:
            raise UserError(f"{array.where}: caption {rows[sources.index('')]} is empty; mend it or take it out")
    else:
        counts = _of_file(part, array, rows) if isinstance(array, RegionFile) else of_each(part.counts)
        counts = None if counts is None else _counts(counts, array)
        columns = part.items == "columns"
        sources = [
            str(Place(file, array.name, columns, int(row), None if counts is None else int(counts[i]) or None))
            for i, row in enumerate(rows)
        ]
    frame = pd.DataFrame({"modality": modality, "source": sources}, dtype="string")
    for column, reference in (("item_id", part.ids), ("group_id", part.groups), ("label", part.labels)):
        values = of_each(reference)
        several = settings.several if column == "label" else False
        frame[column] = pd.array([pd.NA] * len(rows) if values is None else _texts(values, several), dtype="string")
    if isinstance(array, RegionFile) and array.ids is not None:  # the file has the names of its images
        names = pd.Series([array.ids[row] for row in rows], dtype="string")
        frame["item_id"] = frame.item_id.fillna(names)
        if modality not in settings.paired:
            frame["group_id"] = frame.group_id.fillna(names)
    partitions = of_each(part.partitions)
    frame["partition"] = pd.array([part.partition] * len(rows) if partitions is None else _texts(partitions))
    return frame


def _rows(settings: Settings, part: Part, array: Array) -> np.ndarray:
    """(n,) row numbers of the array that belong to the part."""
    every = np.arange(len(array))
    if not part.rows:
        return every
    if re.fullmatch(SLICE, part.rows):
        return every[_slice(part.rows)]
    listed = _open(settings, part, part.rows)
    values = listed.all()
    if values.dtype == bool and values.shape == every.shape:
        return np.flatnonzero(values)
    whole = values.dtype.kind in "fiu" and np.isfinite(values).all() and (values == np.floor(values)).all()
    if values.ndim != 1 or not whole:
        raise UserError(f"{listed.where}: expected a list of row numbers, found {values.dtype} of shape {values.shape}")
    rows = values.astype(np.int64) - listed.first
    if len(rows) and not (rows.min() >= 0 and rows.max() < len(array)):
        raise UserError(
            f"{listed.where}: rows {int(values.min())} to {int(values.max())}, but {array.where} has {len(array)}"
        )
    return rows


def _texts(labels: Array, several: bool | None = False) -> list[Any]:
    """Values as texts: 3.0 becomes '3', a row of a one-hot matrix the index of its one, and texts stay unchanged.

    A row with several classes becomes the indices of all its ones (`items.encoded_labels`) if `several` allows it.
    """
    values = labels.all()
    if values.ndim == 2 and values.dtype.kind in "fiub":
        ones = _ones(labels, values)
        counts = ones.sum(1)
        if several is None and counts.min(initial=1) > 0 and not ones.all():
            if extra := int((counts > 1).sum()):
                message = "%s: %d of %d rows have several classes, and all are read; `several: false` refuses such rows"
                log.info(message, labels.where, extra, len(counts))
        elif not several and (counts != 1).any():
            row = int(np.flatnonzero(counts != 1)[0])
            raise UserError(
                f"{labels.where}: row {row} has {counts[row]} classes; each item must have one label, or set "
                "`several: true` in the data set's block"
            )
        return [items.encoded_labels(str(n + labels.first) for n in np.flatnonzero(row)) for row in ones]
    if values.ndim != 1:
        raise UserError(f"{labels.where}: expected one value per item, found shape {values.shape}")
    if values.dtype.kind == "f":
        if (infinite := np.isinf(values)).any():
            raise UserError(f"{labels.where}: row {infinite.argmax()} is infinite; expected a number, or NaN for none")
        whole = values == np.floor(values)
        return [None if np.isnan(v) else str(int(v)) if w else str(v) for v, w in zip(values, whole, strict=True)]
    texts = [None if v is None else labels.text(row, v) for row, v in enumerate(values)]
    if tabbed := next((text for text in texts if text and TAB in text), None):
        raise UserError(
            f"{labels.where}: its lines hold {tabbed.count(TAB) + 1} columns ({tabbed!r}); give the number of the one "
            f"that is meant, such as {labels.path.name}#{tabbed.count(TAB) + 1}"
        )
    return texts


def _ones(labels: Array, values: np.ndarray) -> np.ndarray:
    """(n, C) bool: the classes of each row of a matrix of zeros and ones, or of -1 and 1."""
    if not any(np.isin(values, pair).all() for pair in ((0, 1), (-1, 1))):
        other = values[~np.isin(values, (0, 1))][0]
        raise UserError(
            f"{labels.where}: {values.shape[1]} columns with numbers such as {other:g} are neither one label per item "
            "nor a matrix of zeros and ones with a column per class; save what is meant as an array of its own"
        )
    return values > 0


def _of_file(part: Part, array: RegionFile, rows: np.ndarray) -> Array:
    """The number of regions of each row according to the file; 0 for a broken row, which the extraction reports."""
    if part.counts not in ("", flat.SPANS):
        raise UserError(
            f"{array.where}: already contains the number of regions of each image; leave out counts: {part.counts}"
        )
    values = array.counts[rows]
    return Array(array.path, "", values.shape, values.dtype, values.__getitem__)


def _counts(listed: Array, array: Array) -> np.ndarray:
    if len(array.shape) != 3:
        raise UserError(f"{array.where}: has shape {array.shape}; `counts` apply to region sets (items, regions, D)")
    counts = listed.all()
    if counts.ndim != 1 or counts.dtype.kind not in "fiu":
        raise UserError(f"{listed.where}: expected a list of counts, found {counts.dtype} of shape {counts.shape}")
    least = 0 if isinstance(array, RegionFile) else 1
    odd = np.flatnonzero(~((counts >= least) & (counts <= array.shape[1]) & (counts == np.floor(counts))))
    if len(odd):
        raise UserError(f"{listed.where}: row {odd[0]} has count {counts[odd[0]]}, expected 1 to {array.shape[1]}")
    return counts.astype(np.int64)


def _paired(frame: pd.DataFrame, place: pd.Series, paired: list[str]) -> pd.Series:
    """Group ids `PARTITION/n` of the rows that are paired by their order; null for all other rows."""
    groups = pd.Series(pd.NA, index=frame.index, dtype="string")
    for partition, part in frame[frame.modality.isin(paired)].groupby("partition", sort=False):
        sizes = part.modality.value_counts().reindex(paired, fill_value=0)
        least = int(sizes.min())
        if least == 0 or (sizes % least).any():
            counts = ", ".join(f"{n} {modality}" for modality, n in sizes.items())
            raise UserError(
                f"params.yaml: paired: {counts} items of {partition}: each must be a multiple of the least, such as "
                "five captions per image; see `rows`"
            )
        groups[part.index] = f"{partition}/" + (place[part.index] // part.modality.map(sizes // least)).astype(str)
    return groups
