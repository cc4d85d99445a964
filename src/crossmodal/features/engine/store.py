"""Cached features: an array, an index of its rows and a manifest, opened memory-mapped and verified by hash.

The manifest holds the hashes of the other two files and is written last; without a manifest, or if the hashes differ,
the features do not exist. A large file that was verified is not hashed again while its inode, size and modification
time stay the same.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, read_record, sha256_file, write_json, write_parquet
from crossmodal.core.rows import Rows

REMEMBERED = 2**26  # size in bytes from which a verified file is not hashed at each opening
IDENTITY = re.compile("[0-9a-f]{16}")  # names of folders of the store
SETTLED = 2.0  # seconds; a more recently modified file may change again without a new modification time


def paths(target: str | Path) -> tuple[Path, Path, Path]:
    """Paths of the array, index and manifest of `data/DATASET/features/MODALITY.EXTRACTOR`."""
    target = str(target)  # `with_suffix` would take the extractor's name for a suffix
    return Path(f"{target}.npy"), Path(f"{target}.parquet"), Path(f"{target}.json")


@dataclass(frozen=True)
class Features:
    """(N, D) vectors or (N, R, D) region sets, which stay on disk until they are gathered."""

    array: np.memmap
    manifest: dict[str, Any]
    path: Path

    @cached_property
    def index(self) -> pd.DataFrame:
        """`item_id`, `row` and the extractor's further columns (the boxes of MS-COCO take gigabytes)."""
        return read_parquet(self._index)

    @property
    def _index(self) -> Path:
        return self.path.with_suffix(".parquet")

    @property
    def skipped(self) -> list[str]:
        """Ids of the items that the extraction left out as bad (`on_error: skip`)."""
        return [entry["item_id"] for entry in self.manifest.get("skipped", ())]

    @cached_property
    def counts(self) -> np.ndarray:
        """(N,) int64 number of regions of each row; R if the index has no `count`."""
        if "count" in pq.read_schema(self._index).names:
            return read_parquet(self._index, ["count"])["count"].to_numpy(dtype=np.int64)
        return np.full(len(self.array), self.array.shape[1], dtype=np.int64)

    @cached_property
    def _row_of(self) -> pd.Series:
        index = read_parquet(self._index, ["item_id", "row"])
        return pd.Series(index.row.to_numpy(), index=index.item_id)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.path, self.array.offset, self.array.shape, self.array.dtype)

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """(n, ...) rows in memory, read from the file so that, unlike with `array`, no other rows become resident.

        Parameters
        ----------
        rows : (n,) row numbers.
        out : (n, ...) contiguous array of the stored type to read into.

        Raises
        ------
        UserError : the file has been truncated since it was opened.
        """
        return self._rows.read(rows, out)

    def rows(self, item_ids: Sequence[str]) -> np.ndarray:
        """(n,) int64 row numbers of the items, in the order of `item_ids`.

        Raises
        ------
        UserError : an item has no features.
        """
        places = self._row_of.reindex(list(item_ids))
        if places.isna().any():
            lone = places.index[places.isna()]
            raise UserError(
                f"{self.path}: has no features of {len(lone)} of {len(places)} items, such as {lone[0]!r}; "
                "it was computed from another list of items: delete it and extract again"
            )
        return places.to_numpy(dtype=np.int64)


def save(target: str | Path, items: Sequence[str] | pd.DataFrame, manifest: dict[str, Any]) -> None:
    """Write the index and manifest of an array (N, D) or (N, R, D) that already exists as `target.npy`.

    Parameters
    ----------
    items : item ids of the rows, or a frame with `item_id` and further columns.
    manifest : entries of the manifest; the shape, type and hashes are added.

    Raises
    ------
    UserError : an item id occurs twice.
    ValueError : the numbers of items and rows differ.
    """
    array_path, index_path, manifest_path = paths(target)
    array = np.load(array_path, mmap_mode="r")
    index = items.copy() if isinstance(items, pd.DataFrame) else pd.DataFrame({"item_id": list(items)})
    index["item_id"] = index.item_id.astype(str)
    if len(index) != len(array):
        raise ValueError(f"{array_path}: {len(array)} rows for {len(index)} items")
    index.insert(1, "row", np.arange(len(index)))
    if index.item_id.duplicated().any():
        double = index.item_id[index.item_id.duplicated()].iloc[0]
        raise UserError(f"{index_path}: item {double!r} occurs twice among the items; give each item an id of its own")
    write_parquet(index_path, index)
    facts = {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": sha256_file(array_path),
        "index_sha256": sha256_file(index_path),
    }
    write_json(manifest_path, {**manifest, **facts})


def open_features(target: str | Path, verify: bool = True) -> Features:
    """Open features after checking them against their manifest.

    Parameters
    ----------
    verify : whether to check the hashes, which reads the whole array; otherwise only shape, type and size are checked.

    Raises
    ------
    UserError : a file is missing, or the array or index does not match the manifest (it is truncated or corrupted).
    """
    array_path, index_path, manifest_path = paths(target)
    for path in (manifest_path, array_path, index_path):
        if not path.is_file():
            raise UserError(f"{path}: not found; run the extraction of these features")
    manifest = read_record(manifest_path)
    again = "delete it and extract again"
    try:
        array = packed.mapped(array_path)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{array_path}: is truncated or no .npy file ({error}); {again}") from None
    actual = (list(array.shape), str(array.dtype))
    expected = (manifest.get("shape"), manifest.get("dtype"))
    if actual != expected:
        raise UserError(f"{array_path}: holds {actual}, its manifest says {expected}; {again}")
    if not array.flags.c_contiguous:
        raise UserError(f"{array_path}: is stored column by column (Fortran order); {again}")
    if verify:
        for path, key in ((array_path, "sha256"), (index_path, "index_sha256")):
            _verify(path, str(manifest.get(key)), manifest, again)
    return Features(array, manifest, array_path)


# -- what was verified ------------------------------------------------------------------------------------------------


def _verify(path: Path, expected: str, manifest: dict[str, Any], again: str) -> None:
    before = path.stat()
    if before.st_size >= REMEMBERED and _recorded(path, manifest) == _facts(before, expected):
        return
    digest = sha256_file(path)
    if digest != expected:
        message = f"SHA-256 {digest[:12]}..., its manifest says {expected[:12]}..."
        raise UserError(f"{path}: is corrupted ({message}); {again}")
    if time.time() - before.st_mtime > SETTLED:
        remember(path, expected, manifest, before)


def remember(path: Path, digest: str, manifest: dict[str, Any], status: os.stat_result | None = None) -> None:
    """Record that a large file, identified by its inode, size and modification time, has this SHA-256.

    Parameters
    ----------
    found : the file's state before it was hashed; by default its present state.
    """
    status = status or path.stat()
    if status.st_size < REMEMBERED:
        return
    try:
        write_json(_record(path, manifest), _facts(status, digest))
    except UserError:  # in a read-only folder, the file is verified at each opening
        return


def _facts(status: os.stat_result, digest: str) -> dict[str, Any]:
    return {"sha256": digest, "inode": status.st_ino, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _recorded(path: Path, manifest: dict[str, Any]) -> Any:
    record = _record(path, manifest)
    try:
        return read_record(record) if record.is_file() else None  # a pipe would never end
    except UserError:
        return None


def _record(path: Path, manifest: dict[str, Any]) -> Path:
    """Path of the record of a verified file: beside the store's copy if there is one, which all data sets share."""
    identity = manifest.get("identity")  # which may be that of others, and then no name of a folder
    is_one = isinstance(identity, str) and IDENTITY.fullmatch(identity)
    for folder in list(path.parents)[:3] if is_one else []:
        stored = folder / ".features" / identity / f"features{path.suffix}"
        if stored.exists() and stored.samefile(path):
            return stored.with_name(f"{stored.name}.verified")
    return path.with_name(f".{path.name}.verified")
