"""The order of a table's rows, ours against the published one, by Kendall's tau, which suits stand-ins' numbers too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossmodal.evaluation.agreement import Ordered, kendall_tau, tau_interval


def fill(cells: list[dict[str, Any]], seeds: Sequence[int], values: Mapping[tuple, tuple[float, int, int]]) -> None:
    """Put `tau`, `tau_low`, `tau_high` and `tau_rows` into the cells of a table that has rows to be compared.

    Rows are compared where they have both a published number and ours for the same data set, aspect, metric and
    protocol; all these comparisons count together.

    Parameters
    ----------
    values : (run, aspect, metric, protocol) to its value first, as `comparison.lookup_of` gives it.
    """
    kept, published, numbers = [], [], []
    for cell in cells:
        if cell["status"] == "done" and cell["published"] is not None:
            run = "/".join(cell[name] for name in ("ours_dataset", "ours_split", "ours_model"))
            about = (cell["aspect"], cell["metric"], cell["protocol"])
            of_seeds = [values.get((f"{run}/seed{seed}", *about)) for seed in seeds]
            kept.append((cell["row"], run, (cell["dataset"], *about)))
            published.append(cell["published"])
            numbers.append(np.array([value[0] for value in of_seeds if value is not None]))
    if len({row for row, *_ in kept}) < 2:
        return
    rows, runs, columns = (_coded(values) for values in zip(*kept, strict=True))
    data = Ordered(np.array(published), numbers, columns, rows, runs)
    tau = kendall_tau(data)
    if math.isnan(tau):
        return
    low, high = tau_interval(data)
    for cell in cells:
        cell |= {"tau": tau, "tau_low": low, "tau_high": high, "tau_rows": len(set(rows))}


def _coded(values: Sequence[Any]) -> np.ndarray:
    codes: dict[Any, int] = {}
    return np.array([codes.setdefault(value, len(codes)) for value in values])


def sentence(cells: Sequence[Mapping[str, Any]]) -> str:
    """A sentence on the order of a table's rows for its caption; empty where there is no tau."""
    tested = [cell for cell in cells if cell["tau"] is not None]
    if not tested:
        return ""
    tau, low, high, rows = (tested[0][key] for key in ("tau", "tau_low", "tau_high", "tau_rows"))
    text = f"Order of the rows, ours and the published: Kendall's τ {_number(tau)}"
    if low is None:
        return f"{text}, of {rows} rows, too few for an interval."
    between = f"{_number(low)} to {_number(high)}"
    drawn = f"bootstrap over the {rows} rows and the seeds of each"
    return f"{text} (95 % interval {between}, by {drawn}), over all columns."


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
