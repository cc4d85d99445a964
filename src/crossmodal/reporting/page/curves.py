"""Learning curves of the runs in the form that the page's charts read, thinned where a run has very many epochs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.tasks.base import criteria, metric

MOST = 200  # points of one line of a chart
ABOUT = ("run", "dataset", "split", "name", "seed", "epoch", "stage", "steps")


def curves(histories: pd.DataFrame) -> dict[str, Any]:
    """`measures` (name and label) and `runs`: each has its epochs and one list of values per measure (null if missing).

    Parameters
    ----------
    histories : one row per epoch of each run, as `results.runs.histories` gives them.
    """
    frame = histories.dropna(subset=["epoch"]) if len(histories) else histories
    names = [c for c in frame if c not in ABOUT and pd.api.types.is_numeric_dtype(frame[c]) and frame[c].notna().any()]
    first = (*criteria(), "loss")
    names.sort(key=lambda c: (first.index(c) if c in first else len(first), not c.startswith("val_"), c))
    entries = []
    for run, part in frame.groupby("run", sort=True) if len(frame) else ():
        part = part.iloc[np.unique(np.linspace(0, len(part) - 1, min(MOST, len(part))).round().astype(int))]
        first = part.iloc[0]
        about = {"run": run, "dataset": first.dataset, "split": first.split, "name": first["name"]}
        values = {c: [_short(v) for v in part[c]] for c in names if part[c].notna().any()}
        entries.append(about | {"seed": int(first.seed), "epochs": part.epoch.astype(int).tolist(), "values": values})
    return {"measures": [{"name": c, "label": label(c)} for c in names], "runs": entries}


def label(column: str) -> str:
    """The label of a history's column, such as `Validation: R@1, image to text` or `Gradient norm`."""
    validation = column.startswith("val_")
    text = column.removeprefix("val_")
    if column in criteria():
        text = criteria()[column]
    elif match := re.fullmatch(r"(\w+)-to-([^\W_]+)_(.+)", text):
        declared = metric(match[3])
        text = f"{declared.label if declared else match[3]}, {match[1]} to {match[2]}"
    text = text.replace("_", " ")
    return f"Validation: {text}" if validation else text[:1].upper() + text[1:]


def _short(value: Any) -> float | None:
    return float(f"{value:.5g}") if pd.notna(value) and np.isfinite(value) else None
