"""`items.parquet`, the common format in which later steps read every data set, and its manifest `items.json`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from crossmodal.core import limits, paths
from crossmodal.core.errors import UserError
from crossmodal.core.files import (
    atomic_write,
    check_small,
    library_versions,
    read_json,
    read_parquet,
    read_record,
    sha256_file,
    write_json,
)
from crossmodal.modalities import MODALITIES

log = logging.getLogger(__name__)

COLUMNS = ("item_id", "modality", "group_id", "label", "partition", "source")
PARTITIONS = ("train", "val", "test")


def class_id(label: str) -> str:
    """The item id of a class, for models that rank classes as well as items."""
    return f"class/{label}"


def encoded_labels(names: Iterable[str]) -> str | None:
    """The `label` of an item with the given classes: a name alone, or several names as a sorted JSON list.

    It is None if there are no classes. The inverse is `labels_of`.
    """
    listed = sorted(set(names))
    if not listed:
        return None
    return listed[0] if len(listed) == 1 else json.dumps(listed, ensure_ascii=False)


def labels_of(label: str | None) -> list[str]:
    """The names of an item's classes, decoded from its `label` (`encoded_labels`); empty for a null.

    A name that merely begins like a JSON list counts as one class.
    """
    if label is None or label is pd.NA:
        return []
    if label.startswith('["'):
        with suppress(ValueError, RecursionError):
            listed = json.loads(label)
            if all(isinstance(name, str) for name in listed):
                "".join(listed).encode()  # half a character, which JSON can state, cannot be written to any page
                return listed
    return [label]


def several_labels(labels: pd.Series) -> bool:
    """Whether any item has several classes."""
    listed = labels.dropna()
    candidates = listed[listed.str.startswith('["')].unique()
    return any(len(labels_of(label)) > 1 for label in candidates)


@dataclass(frozen=True)
class LabelTable:
    """The classes of the items of a data set, by which items are relevant to each other."""

    codes: pd.Series  # item id to the number of its class, or of its set of classes
    sets: np.ndarray | None  # (sets, classes) zeros and ones if items have several classes, otherwise None

    def of(self, ids: np.ndarray) -> np.ndarray:
        """(N,) class codes, or (N, L) zeros and ones, of items; an item `class/NAME` has the class of that name."""
        codes = self.codes.loc[ids].to_numpy()
        return codes if self.sets is None else self.sets[codes]


def label_table(frame: pd.DataFrame) -> LabelTable:
    """The classes of all items, and of the class items that models may rank (`class_id`)."""
    labelled = frame[frame.label.notna()]
    codes, sets = pd.factorize(labelled.label)
    series = pd.Series(codes, index=labelled.item_id)
    several = several_labels(frame.label)
    listed = [labels_of(label) for label in sets] if several else [[label] for label in sets]
    names = sorted({name for of in listed for name in of})
    place = {name: n for n, name in enumerate(names)}
    alone = {of[0]: n for n, of in enumerate(listed) if len(of) == 1}
    fresh = [name for name in names if name not in alone]
    alone |= {name: len(listed) + n for n, name in enumerate(fresh)}
    series = pd.concat([series, pd.Series({class_id(name): alone[name] for name in names}, dtype=np.int64)])
    if not several:
        return LabelTable(series, None)
    table = np.zeros((len(listed) + len(fresh), len(names)), np.uint8)
    for n, of in enumerate([*listed, *([name] for name in fresh)]):
        table[n, [place[name] for name in of]] = 1
    return LabelTable(series, table)


def validate(frame: pd.DataFrame, where: str | Path) -> pd.DataFrame:
    """`frame` reduced to the contract's columns (`COLUMNS`), in their order and as strings.

    Raises
    ------
    UserError : a column is missing, there are no rows, an item is listed twice, a modality or partition is unknown, an
        id or source is empty, or a group lies in two partitions (which would leak training items into the test).
    """
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise UserError(f"{where}: lacks the column(s) {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    frame = frame[list(COLUMNS)].astype("string")
    if frame.empty:
        raise UserError(f"{where}: holds no items; the data set's raw files list none")
    twice = frame.item_id[frame.item_id.duplicated()]
    if len(twice):
        raise UserError(
            f"{where}: {len(twice)} item(s) are listed twice, such as {twice.iloc[0]!r}; keep one row of each"
        )
    for column, allowed in (("modality", MODALITIES), ("partition", PARTITIONS)):
        odd = frame[~frame[column].isin(allowed)]
        if len(odd):
            raise UserError(
                f"{where}: item {odd.item_id.iloc[0]!r}: {column} {odd[column].iloc[0]!r} is none of "
                f"{', '.join(allowed)}"
            )
    empty = frame[np.any([_blank(frame[name], where) for name in ("item_id", "group_id", "source")], axis=0)]
    if len(empty):
        raise UserError(
            f"{where}: {len(empty)} row(s) lack an item_id, a group_id or a source, such as row {empty.index[0]} "
            f"(item_id {empty.item_id.iloc[0]!r}); fill them in"
        )
    parts = frame.groupby("group_id", sort=False).partition.nunique()
    split = parts.index[parts > 1]
    if len(split):
        raise UserError(
            f"{where}: {len(split)} group(s) lie in more than one partition, such as {split[0]!r}; an image and its "
            "captions must be in the same one"
        )
    return frame


def _blank(texts: pd.Series, where: str | Path) -> np.ndarray:
    """(N,) whether each text is missing, empty or of whitespace alone.

    Raises
    ------
    UserError : a text holds bytes that are no characters, such as the name of a file that is not in UTF-8.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        found = pa.array(texts)
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {texts.name} {error.object[:200]!r} is no text in UTF-8; rename the file, or mend the text"
        ) from None
    blank = pc.or_(pc.equal(pc.binary_length(found), 0), pc.utf8_is_space(found))
    return pc.fill_null(blank, True).to_numpy(zero_copy_only=False)


def labels_apart(frame: pd.DataFrame) -> list[str]:
    """Warnings about parts whose labels equal those of the training items except for counting from 0 or from 1."""
    parts: dict[str, set[int]] = {}
    for (modality, partition), labels in frame.dropna(subset="label").groupby(["modality", "partition"]).label:
        names = {name for label in labels.unique() for name in labels_of(label)}
        if all(re.fullmatch(r"-?\d+", name, re.ASCII) for name in names):
            parts[f"{modality} items of {partition}"] = {*map(int, names)}
    training = [name for name in parts if name.endswith(" of train")]
    if not training:
        return []
    first = max(training, key=lambda name: len(parts[name]))
    usual, warnings = parts[first], []
    for name, labels in parts.items():
        shifted = any({label + by for label in labels} <= usual for by in (1, -1))
        if len(labels) > 1 and not labels <= usual and shifted and 2 * len(labels & usual) >= len(labels):
            warnings.append(
                f"the labels of {name} are {min(labels)} to {max(labels)}, those of {first} {min(usual)} to "
                f"{max(usual)}: is one of them counted from 0 and the other from 1? In this form they do not match"
            )
    return warnings


def write(frame: pd.DataFrame, folder: Path, manifest: dict[str, Any]) -> None:
    """Write `items.json` (inputs, counts, hashes) and then `items.parquet` into the data set's folder.

    Suspicious labels are logged, and recorded as `warnings` in the manifest.

    Parameters
    ----------
    manifest : entries from the reader; `root` is the folder of the sources, relative to `folder` or absolute.

    Raises
    ------
    UserError : for the same reasons as `validate`, or if the disk is full or the folder cannot be written.
    """
    target = folder / "items.parquet"
    frame = validate(frame, target)
    warnings = labels_apart(frame)
    for warning in warnings:
        log.warning("%s: %s", folder.name, warning)
    counts = frame.groupby(["modality", "partition"]).size()
    # The table is moved into place after its manifest, so that a killed run never leaves a table without one.
    with atomic_write(target) as temporary:
        frame.to_parquet(temporary, index=False)
        write_json(
            folder / "items.json",
            {
                **manifest,
                "counts": {f"{modality}/{partition}": int(n) for (modality, partition), n in counts.items()},
                "warnings": warnings,
                "sha256": sha256_file(temporary),
                "versions": library_versions("pandas", "pyarrow", "pillow", "numpy"),
            },
        )
    log.info("%s: %s", target, summary(frame))


def summary(frame: pd.DataFrame) -> str:
    """The numbers of a data set's items and of its pairs, such as `8 images (6 train, 1 val, 1 test), ...`."""
    parts = []
    for modality in (name for name in MODALITIES if (frame.modality == name).any()):
        sizes = frame[frame.modality == modality].partition.value_counts()
        listed = ", ".join(f"{sizes[partition]:,} {partition}" for partition in PARTITIONS if partition in sizes)
        parts.append(f"{modality} {sizes.sum():,} ({listed})")
    groups = frame.dropna(subset=["group_id"]).groupby(["group_id", "modality"]).size().unstack(fill_value=0)
    if {"image", "text"} <= set(groups):
        parts.append(f"{int((groups.image * groups.text).sum()):,} pairs of an image and a text")
    if (classes := frame.label.dropna().map(labels_of).explode().nunique()) > 0:
        parts.append(f"{classes:,} classes")
    return "; ".join(parts)


def unopened(folder: Path, most: int = 20) -> list[str]:
    """What is wrong with the pictures of a prepared data set, of which `most` at equal distances are looked at.

    Their headers are read only; extraction decodes all of them and names each that is damaged.
    """
    from crossmodal.core import pictures

    frame = read_parquet(folder / "items.parquet", ["modality", "source"])
    sources = frame.source[frame.modality == "image"].tolist()
    base = root(folder)
    errors = []
    for source in sources[:: max(1, len(sources) // most)][:most]:
        if not (base / source).is_file():  # a row of an array, or a file whose absence the reader accepts
            continue
        try:
            with pictures.opened(base / source):
                pass
        except UserError as error:
            errors.append(str(error))
    return errors


def read(folder: Path) -> pd.DataFrame:
    """The items of a prepared data set, as `validate` returns them.

    Raises
    ------
    UserError : `items.parquet` is missing, unreadable or breaks the contract.
    """
    return validate(read_parquet(folder / "items.parquet"), folder / "items.parquet")


def words(folder: Path) -> Literal["nltk", "blanks"]:
    """How the captions of a prepared data set are split into words, according to `words` of its manifest."""
    path = folder / "items.json"
    manifest = read_record(path) if path.exists() else {}
    return "blanks" if manifest.get("words") == "blanks" else "nltk"


def root(folder: Path) -> Path:
    """The folder to which the `source` paths of a prepared data set are relative.

    Raises
    ------
    UserError : `items.json` is missing or names no root, or that folder no longer exists.
    """
    path = folder / "items.json"
    check_small(path, "record_bytes", limits.current().record_bytes)
    manifest = read_json(path)
    named = manifest.get("root") if isinstance(manifest, dict) else None
    if not isinstance(named, str):
        raise UserError(f"{path}: names no `root` folder; delete it and prepare the data set again")
    resolved = paths.named(folder, named, f"{path}: root")  # an absolute path stays unchanged
    if not resolved.is_dir():
        raise UserError(
            f"{path}: its root {resolved} is no folder (any more); put it back or prepare the data set again"
        )
    return resolved
