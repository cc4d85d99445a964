"""Names of metrics at any cut-off: `recall@K`, `map@K`, `ndcg@K` and `pair_recall@K`. It imports no torch."""

from __future__ import annotations

import re
from typing import NamedTuple

PATTERN = re.compile(r"(?P<kind>recall|map|ndcg|pair_recall)@(?P<k>[1-9]\d*)")


class CutOff(NamedTuple):
    """A metric with a cut-off, such as `recall@50`."""

    kind: str  # recall, map, ndcg or pair_recall
    k: int


def parse(metric: str) -> CutOff | None:
    """Split the name of a metric such as `recall@50` into its kind and its cut-off.

    Returns
    -------
    The parts, or None for a metric of another kind or without a numeric cut-off.

    Examples
    --------
    >>> parse("recall@50")
    CutOff(kind='recall', k=50)
    >>> parse("pair_recall@5").k
    5
    >>> parse("median_rank") is None
    True
    """
    match = PATTERN.fullmatch(metric)
    return CutOff(match["kind"], int(match["k"])) if match else None
