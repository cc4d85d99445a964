"""`items.parquet`, the one form in which every data set is known to the steps after it, and the manifest beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from crossmodal.errors import UserError
from crossmodal.files import library_versions, read_json, read_parquet, sha256_file, write_json, write_parquet

COLUMNS = ("item_id", "modality", "group_id", "label", "partition", "source")
MODALITIES = ("image", "text", "audio", "video", "mesh")
PARTITIONS = ("train", "val", "test")


def validate(frame: pd.DataFrame, where: str | Path) -> pd.DataFrame:
    """`frame` with the contract's columns, in their order.

    Raises
    ------
    UserError : a missing column, an item listed twice, an unknown modality or partition, an empty source.
    """
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise UserError(f"{where}: lacks the column(s) {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    frame = frame[list(COLUMNS)].astype("string")
    twice = frame.item_id[frame.item_id.duplicated()]
    if len(twice):
        raise UserError(
            f"{where}: {len(twice)} item(s) are listed twice, such as {twice.iloc[0]!r}; keep one row of each"
        )
    for column, known in (("modality", MODALITIES), ("partition", PARTITIONS)):
        odd = frame[~frame[column].isin(known)]
        if len(odd):
            raise UserError(
                f"{where}: item {odd.item_id.iloc[0]!r}: {column} {odd[column].iloc[0]!r} is none of {', '.join(known)}"
            )
    empty = frame[frame[["item_id", "group_id", "source"]].isna().any(axis=1)]
    if len(empty):
        raise UserError(f"{where}: {len(empty)} row(s) lack an item_id, a group_id or a source")
    return frame


def write(frame: pd.DataFrame, folder: Path, manifest: dict[str, Any]) -> None:
    """`items.parquet` and then `items.json` (what was read, counts, hashes) into the data set's folder."""
    frame = validate(frame, folder / "items.parquet")
    write_parquet(folder / "items.parquet", frame)
    counts = frame.groupby(["modality", "partition"]).size()
    write_json(
        folder / "items.json",
        {
            **manifest,
            "counts": {f"{modality}/{partition}": int(n) for (modality, partition), n in counts.items()},
            "sha256": sha256_file(folder / "items.parquet"),
            "versions": library_versions("pandas", "pyarrow", "pillow", "numpy"),
        },
    )


def read(folder: Path) -> pd.DataFrame:
    """The items of a prepared data set."""
    return validate(read_parquet(folder / "items.parquet"), folder / "items.parquet")


def root(folder: Path) -> Path:
    """The folder that `source` paths are relative to."""
    return folder / read_json(folder / "items.json")["root"]
