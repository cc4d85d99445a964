"""Names of subsets as shares of the annotation: `10pct-2cap` keeps two of five captions of a tenth of the images."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

CAPTIONS = 5
"""Captions per image in the papers' data sets."""


def share(split: str) -> float:
    """Annotated pairs of a subset in per cent of all: 100 for `full`, 4 for `10pct-2cap` (of five captions)."""
    if split in ("full", "none"):
        return 100.0 if split == "full" else 0.0
    parts = re.fullmatch(r"(\d+)pct-(\d)cap", split)
    return int(parts[1]) * int(parts[2]) / CAPTIONS if parts else float("nan")


def captions(split: str) -> int:
    """Captions per image that a subset keeps, of five."""
    parts = re.fullmatch(r"\d+pct-(\d)cap", split)
    return int(parts[1]) if parts else CAPTIONS


def ordered_splits(splits: Iterable[str]) -> list[str]:
    """Each subset once, ordered by decreasing annotation; those that are no share of it come last, by name."""
    return sorted(set(splits), key=lambda s: (-np.nan_to_num(share(s), nan=-1.0), s))
