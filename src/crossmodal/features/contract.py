"""What an extractor gives and is given: its settings, items, how they are opened and how a batch is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from crossmodal import paths
from crossmodal.errors import UserError


class Settings(BaseModel):
    """What every extractor can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_error: Literal["stop", "skip"] = Field(
        "stop", description="a bad item ends the extraction, or is left out, counted and listed in the manifest"
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="numbers of the stored array")
    shard: int = Field(512, ge=1, description="items after which results are written down")


@dataclass(frozen=True)
class Item:
    """One item to extract features of: a file, or for text the sentence itself."""

    item_id: str
    source: str
    path: Path
    partition: str


Computed = np.ndarray | tuple[np.ndarray, dict[str, Sequence[Any]]]


@dataclass(frozen=True)
class Work:
    """What an extractor does, once it is known that there is something to do."""

    load: Callable[[Item], Any]
    """One item, read. A UserError says that it is bad, and why."""
    compute: Callable[[list[Any]], Computed]
    """(B, ...) features of loaded items, and what else the index keeps of each: column to B values."""
    batch: int = 1
    """Items of a batch."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the manifest: how it is run (device, precision). The values' last bits may depend on them."""
    shape: tuple[int, ...] | None = None
    """Of an item's features, where that is known: they are then written into the array at once, not into shards."""


@dataclass(frozen=True)
class Given:
    """The items that features are wanted of."""

    rows: pd.DataFrame
    """Of `items.parquet`, those of one modality."""
    root: Path
    """The folder that their sources are relative to."""
    modality: str
    folder: Path
    """The data set's own, `data/DATASET`."""

    def refused(self) -> dict[str, UserError]:
        """Why a file is not opened, by item: its path leads out of the root, or is that of a device."""
        found: dict[str, UserError] = {}
        if self.modality == "text":
            return found
        for item_id, source in zip(self.rows.item_id, self.rows.source, strict=True):
            try:
                paths.inside(self.root, str(source), f"items.parquet: {item_id}")
            except UserError as error:
                found[str(item_id)] = error
        return found

    @property
    def items(self) -> list[Item]:
        """Of the rows, in their order."""
        rows = self.rows
        parts = rows.partition if "partition" in rows else ["train"] * len(rows)
        columns = zip(rows.item_id, rows.source, parts, strict=True)
        return [Item(str(i), str(s), Path(self.root) / str(s), str(p)) for i, s, p in columns]


@dataclass(frozen=True)
class Recipe:
    """How an extractor makes its features: what the function `recipe(settings, given)` of its module returns."""

    begin: Callable[[list[Item]], Work]
    """Called with all items when there is something to extract."""
    depends: dict[str, Any] = field(default_factory=dict)
    """What the values depend on besides settings, source and inputs (weights and their hash); for the manifest."""
    finish: Callable[[np.ndarray, pd.DataFrame], dict[str, Any]] | None = None
    """Called with the whole array, writable, and the rows of its items; what it returns is for the manifest."""
    again: Callable[[np.ndarray, dict[str, Any]], np.ndarray] | None = None
    """What `finish` did to the array, done to the features of other items by what it said in the manifest."""
    packages: tuple[str, ...] = ()
    """Distributions whose versions the manifest keeps."""
    digest: Callable[[Item], bytes] | None = None
    """Hash of what an item's features are made from; by default of its file, or of a text itself."""
    settings: Settings | None = None
    """In place of those given, where the files decide what was left open."""
