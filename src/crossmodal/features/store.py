"""Cached features: an array, an index of its rows and a manifest, read back memory-mapped and checked by hash.

The manifest vouches for the other two and is written last: without one, or with other bytes, there are no features.
"""

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
    target = str(target)  # not `with_suffix`, which would take the extractor's name for one
    return Path(f"{target}.npy"), Path(f"{target}.parquet"), Path(f"{target}.json")


@dataclass(frozen=True)
class Features:
    """(N, D) vectors or (N, R, D) region sets, on the disk until they are gathered."""

    array: np.memmap
    index: pd.DataFrame  # item_id, row; what else an extractor keeps of an item
    manifest: dict[str, Any]
    path: Path

    @property
    def skipped(self) -> list[str]:
        """Ids of the items that the extraction left out as bad (`on_error: skip`)."""
        return [one["item_id"] for one in self.manifest.get("skipped", ())]

    @cached_property
    def counts(self) -> np.ndarray:
        """(N,) int64 regions that each row really has; all of them where the index does not say."""
        if "count" in self.index:
            return self.index["count"].to_numpy(dtype=np.int64)
        return np.full(len(self.array), self.array.shape[1], dtype=np.int64)

    @cached_property
    def _row_of(self) -> pd.Series:
        return pd.Series(self.index.row.to_numpy(), index=self.index.item_id)

    def rows(self, item_ids: Sequence[str]) -> np.ndarray:
        """(n,) int64 rows of the items, in their order.

        Raises
        ------
        UserError : an item without features.
        """
        found = self._row_of.reindex(list(item_ids))
        if found.isna().any():
            lone = found.index[found.isna()]
            raise UserError(
                f"{self.path}: has no features of {len(lone)} of {len(found)} items, such as {lone[0]!r}; "
                "it was made from another list of items: delete it and extract again"
            )
        return found.to_numpy(dtype=np.int64)


def save(target: str | Path, items: Sequence[str] | pd.DataFrame, manifest: dict[str, Any]) -> None:
    """Index and manifest of an array (N, D) or (N, R, D) that is in place as `target.npy`.

    Parameters
    ----------
    items : ids of the rows, or a frame with `item_id` and what else is known of each.

    Raises
    ------
    UserError : an item id that stands twice.
    ValueError : not as many items as rows.
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
        raise UserError(f"{index_path}: item {double!r} stands twice among the items; give each an id of its own")
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
    verify : False leaves out the hashes (a read of the whole array) and checks shape, type and size alone.

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
            digest = sha256_file(path)
            if digest != manifest.get(key):
                told = f"SHA-256 {digest[:12]}..., its manifest says {str(manifest.get(key))[:12]}..."
                raise UserError(f"{path}: is corrupted ({told}); {again}")
    return Features(array, read_parquet(index_path), manifest, array_path)
