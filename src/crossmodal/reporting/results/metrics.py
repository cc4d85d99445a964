"""The columns of `metrics.parquet`, and its distinct numbers, whatever papers share them."""

from __future__ import annotations

import pandas as pd

from crossmodal.reporting.results import runs

TYPES = {
    "paper": "string",
    "dataset": "string",
    "split": "string",
    "model": "string",
    "variant": "string",
    "seed": "int64",
    "task": "string",
    "aspect": "string",
    "metric": "string",
    "protocol": "string",
    "value": "float64",
    "n_queries": "int64",
    "n_gallery": "int64",
}


def distinct(metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per number, however many papers share it, with the run's `name` in place of `paper`."""
    frame = metrics.drop(columns="paper").drop_duplicates().reset_index(drop=True)
    names = [runs.name(m, v) for m, v in zip(frame.model, frame.variant, strict=True)]
    return frame.assign(name=pd.Series(names, dtype="string"))
