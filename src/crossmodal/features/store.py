"""Cached features: an array, an index of its rows and a manifest, read back memory-mapped and checked by hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.errors import UserError
from crossmodal.files import read_json, read_parquet, sha256_file, write_json, write_parquet


def paths(target: str | Path) -> tuple[Path, Path, Path]:
    """Array, index and manifest of `data/DATASET/features/MODALITY.EXTRACTOR`."""
    target = str(target)
    return Path(f"{target}.npy"), Path(f"{target}.parquet"), Path(f"{target}.json")


@dataclass(frozen=True)
class Features:
    """(N, D) vectors or (N, R, D) region sets, on the disk until they are gathered."""

    array: np.memmap
    index: pd.DataFrame  # item_id, row
    manifest: dict[str, Any]
    path: Path

    @cached_property
    def _row_of(self) -> pd.Series:
        return pd.Series(self.index.row.to_numpy(), index=self.index.item_id)

    def rows(self, item_ids: Sequence[str]) -> np.ndarray:
        """(n,) rows of the items.

        Raises
        ------
        UserError : an item without features.
        """
        found = self._row_of.reindex(list(item_ids))
        if found.isna().any():
            lone = found.index[found.isna()]
            raise UserError(
                f"{self.path}: has no features of {len(lone)} item(s), such as {lone[0]!r}; delete it and extract again"
            )
        return found.to_numpy(dtype=np.int64)


def save(target: str | Path, item_ids: Sequence[str], manifest: dict[str, Any]) -> None:
    """Index and manifest of an array that is in place; the manifest, which vouches for both, comes last."""
    array_path, index_path, manifest_path = paths(target)
    array = np.load(array_path, mmap_mode="r")
    write_parquet(index_path, pd.DataFrame({"item_id": list(item_ids), "row": np.arange(len(item_ids))}))
    facts = {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": sha256_file(array_path),
        "index_sha256": sha256_file(index_path),
    }
    write_json(manifest_path, {**manifest, **facts})


def open_features(target: str | Path, *, verify: bool = True) -> Features:
    """Open features after checking them against their manifest.

    Raises
    ------
    UserError : a missing file, or an array or index that is not what the manifest says (truncated, corrupted).
    """
    array_path, index_path, manifest_path = paths(target)
    for path in (manifest_path, array_path, index_path):
        if not path.is_file():
            raise UserError(f"{path}: not found; run the extraction of these features")
    manifest = read_json(manifest_path)
    again = "delete it and extract again"
    try:
        array = np.load(array_path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{array_path}: is truncated or no .npy file ({error}); {again}") from None
    found = (list(array.shape), str(array.dtype))
    expected = (manifest.get("shape"), manifest.get("dtype"))
    if found != expected:
        raise UserError(f"{array_path}: holds {found}, its manifest says {expected}; {again}")
    if verify:
        for path, key in ((array_path, "sha256"), (index_path, "index_sha256")):
            if sha256_file(path) != manifest.get(key):
                raise UserError(f"{path}: is corrupted (its SHA-256 is not the manifest's); {again}")
    return Features(array, read_parquet(index_path), manifest, array_path)
