"""The interface of extractors: settings, input items, and the functions that read an item and compute a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core import paths
from crossmodal.core.errors import UserError


class Settings(BaseModel):
    """Settings that every extractor has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_error: Literal["stop", "skip"] = Field(
        "stop", description="whether a bad item ends the extraction, or is left out, counted and listed in the manifest"
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="type of the numbers of the stored array")
    shard: int = Field(512, ge=1, description="number of items after which results are written")


@dataclass(frozen=True)
class Item:
    """One item to extract features from: a file, or for text the sentence itself (in `source`)."""

    item_id: str
    source: str
    path: Path
    partition: str


Computed = np.ndarray | tuple[np.ndarray, dict[str, Sequence[Any]]]


@dataclass(frozen=True)
class Work:
    """The functions of an extractor that do the work; they are created only if something is left to extract."""

    load: Callable[[Item], Any]
    """Reads one item; it raises a UserError with the reason if the item is bad."""
    compute: Callable[[list[Any]], Computed]
    """Computes the (B, ...) features of loaded items, and further columns of the index with B values each."""
    batch: int = 1
    """Number of items per batch."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How the extractor is run (device, precision), for the manifest; the last bits of the values may depend on it."""
    shape: tuple[int, ...] | None = None
    """Shape of an item's features if known in advance; they are then written directly into the array, not to shards."""


@dataclass(frozen=True)
class Given:
    """The items of one modality of a data set, whose features are extracted."""

    rows: pd.DataFrame
    """The rows of `items.parquet` of this modality."""
    root: Path
    """The folder that the items' sources are relative to."""
    modality: str
    folder: Path
    """The folder of the data set, `data/DATASET`."""

    def refused(self) -> dict[str, UserError]:
        """{item id: error} of the items whose file must not be opened.

        A file is refused if its path leads out of the root or is that of a device.
        """
        errors: dict[str, UserError] = {}
        if self.modality == "text":
            return errors
        for item_id, source in zip(self.rows.item_id, self.rows.source, strict=True):
            try:
                paths.inside(self.root, str(source), f"items.parquet: {item_id}")
            except UserError as error:
                errors[str(item_id)] = error
        return errors

    @property
    def items(self) -> list[Item]:
        """The items in the order of the rows."""
        rows = self.rows
        parts = rows.partition if "partition" in rows else ["train"] * len(rows)
        columns = zip(rows.item_id, rows.source, parts, strict=True)
        return [Item(str(i), str(s), Path(self.root) / str(s), str(p)) for i, s, p in columns]


@dataclass(frozen=True)
class Recipe:
    """How an extractor computes its features, as returned by the function `recipe(settings, given)` of its module."""

    begin: Callable[[list[Item]], Work]
    """Called with all items if something is left to extract."""
    depends: dict[str, Any] = field(default_factory=dict)
    """What the values depend on besides settings, source and inputs (weights and their hash), for the manifest."""
    finish: Callable[[np.ndarray, pd.DataFrame], dict[str, Any]] | None = None
    """Called with the whole writable array and the rows of its items; it returns entries of the manifest."""
    again: Callable[[np.ndarray, dict[str, Any]], np.ndarray] | None = None
    """Applies to the features of other items what `finish` did to the array, given the manifest."""
    packages: tuple[str, ...] = ()
    """Distributions whose versions are recorded in the manifest."""
    digest: Callable[[Item], bytes] | None = None
    """Hash of the input of an item's features; by default that of its file, or of the text itself."""
    settings: Settings | None = None
    """Settings that replace the given ones if the files determine what was left open."""
