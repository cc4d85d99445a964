"""The columns of `comparison.parquet`, one row per cell of a published table. Nothing here imports pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TYPES = {
    "paper": "string",
    "table": "string",
    "row": "int64",
    "column": "int64",
    "group": "string",
    "system": "string",
    "column_system": "string",
    "dataset": "string",
    "split": "string",
    "aspect": "string",
    "metric": "string",
    "published": "float64",
    "ours_mean": "float64",
    "ours_sd": "float64",
    "difference": "float64",
    "significant": "boolean",
    "ours_low": "float64",
    "ours_high": "float64",
    "reference": "string",
    "p_value": "float64",
    "p_holm": "float64",
    "against": "string",
    "n_seeds": "int64",
    "n_expected": "int64",
    "status": "string",
    "experiment": "string",
    "ours_dataset": "string",
    "ours_split": "string",
    "ours_model": "string",
    "protocol": "string",
    "n_queries": "Int64",
    "n_gallery": "Int64",
    "comparable": "boolean",
    "tau": "float64",
    "tau_low": "float64",
    "tau_high": "float64",
    "tau_rows": "Int64",
    "qc": "string",
    "fallbacks": "string",
    "differs": "string",
    "ours_extra": "string",
    "ours_settings": "string",
    "ours_sweep": "string",
}
Cells = Sequence[Mapping[str, Any]]
"""Rows of `comparison.parquet`, in which a missing value is None."""
PUBLISHED_ONLY = "published only"
"""The status of a cell that no experiment fills."""
NOT_QUICK = "missing: not part of quick; run `snakemake all`"
