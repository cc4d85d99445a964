"""Where curves of recall against annotation meet (A3VSE, figure 1 right and section 4.4).

The paper reads off its figure how many pairs the global semantics, which take none, are worth to the other systems;
and its own system against each of the others at few pairs and at many.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossmodal.evaluation.efficiency import crossover
from crossmodal.reporting import figures

PROPOSED = "a3vse"
"""The system of the paper that the figure is of: its curve is held against each other one."""
METRIC = "recall@1"
COLUMNS = ("dataset", "direction", "metric", "system", "other", "share", "value")


def meetings(metrics: pd.DataFrame, metric: str = METRIC) -> pd.DataFrame:
    """A row for each two curves of a data set and direction that are held against each other.

    Those are the proposed system's and each other one's, and the level of each system that takes no pairs and each
    curve. Means over runs at each share of annotated pairs, linear in its logarithm between them.

    Returns
    -------
    `COLUMNS`: `share`, the least share in per cent at which they meet, and `value`, their recall there; NaN where they
    do not meet within the shares of both.
    """
    trained, free, _ = figures.annotated(metrics, metric)
    means = trained.groupby(["dataset", "direction", "name", "share"]).value.mean()
    levels = free.groupby(["dataset", "direction", "name"]).value.mean()
    rows = []
    for (dataset, direction), part in means.groupby(level=[0, 1]):
        curves = {
            name: (one.index.get_level_values("share").to_numpy(), one.to_numpy())
            for name, one in part.groupby(level=2)
        }
        curves = {name: curve for name, curve in curves.items() if len(curve[0]) > 1}
        about = {"dataset": dataset, "direction": direction, "metric": metric}
        if PROPOSED in curves:
            for name in (other for other in curves if other != PROPOSED):
                rows.append({**about, "system": PROPOSED, "other": name, **_met(curves[PROPOSED], curves[name])})
        for level, value in levels.get((dataset, direction), pd.Series(dtype="float64")).items():
            for name, (shares, recalls) in curves.items():
                flat = (shares, np.full(len(shares), value))
                rows.append({**about, "system": name, "other": level, **_met((shares, recalls), flat)})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"share": "float64", "value": "float64"})


def _met(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    share = crossover(*one, *other)
    value = float(np.interp(np.log(share), np.log(one[0]), one[1])) if np.isfinite(share) else float("nan")
    return {"share": share, "value": value}
