"""Recall at 1 against annotation, with the places where curves meet (A3VSE, figure 1 right and section 4.4).

From its figure the paper concludes how many annotated pairs the other systems need to match the global semantics, which
take none. It also compares its own system with each of the others at few pairs and at many.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import numpy as np
import pandas as pd
from pydantic import Field

from crossmodal.evaluation.efficiency import crossover
from crossmodal.experiments import Strict
from crossmodal.reporting.figures import base
from crossmodal.reporting.figures.annotation import annotated, annotation
from crossmodal.reporting.results import runs

METRIC = "recall@1"
COLUMNS = ("dataset", "aspect", "metric", "system", "other", "share", "value")


class Options(Strict):
    proposed: str = Field(
        description="an experiment of the system that the paper proposes, whose curve is compared with all others"
    )


class Figure(base.Figure):
    section = base.ANNOTATION
    place = 20
    title = "Crossovers"
    label = "Recall at 1 against annotation"
    caption = (
        "R@1 on the whole test set against the share of annotated training pairs. Rings mark the share at which "
        "the system that a paper proposes meets another one, and the share at which a system reaches the level of one "
        "without pairs, which shows how many pairs the latter is worth. Means over seeds, linear in the logarithm of "
        "the share between the points."
    )
    Options = Options

    @cached_property
    def meetings(self) -> pd.DataFrame:
        experiments = [self.scope.experiment(paper, options.proposed) for paper, options in self.options.items()]
        return meetings(
            self.scope.metrics, {runs.name(experiment.model, experiment.variant) for experiment in experiments}
        )

    def reads(self) -> list[str]:
        return [self.scope.collected("metrics.parquet")]

    def shown(self) -> bool:
        return len(self.meetings) > 0

    def draw(self) -> str:
        return annotation(self.scope.metrics, self.scope.titles, METRIC, self.meetings)


def meetings(metrics: pd.DataFrame, proposed: Collection[str], metric: str = METRIC) -> pd.DataFrame:
    """One row per pair of curves of a data set and direction that are compared.

    Each proposed system's curve is compared with every other curve, and the level of each system that takes no pairs
    with every curve. A curve goes through the means over runs at each share of annotated pairs, and is linear in the
    logarithm of the share between them.

    Parameters
    ----------
    proposed : names of systems that papers propose.

    Returns
    -------
    The columns `COLUMNS`: `share` is the least share in per cent at which the two meet, `value` their recall there;
    both are NaN where they do not meet within the shares of both.
    """
    trained, free, _ = annotated(metrics, metric)
    means = trained.groupby(["dataset", "aspect", "name", "share"]).value.mean()
    levels = free.groupby(["dataset", "aspect", "name"]).value.mean()
    rows = []
    for (dataset, aspect), part in means.groupby(level=[0, 1]):
        curves = {
            name: (series.index.get_level_values("share").to_numpy(), series.to_numpy())
            for name, series in part.groupby(level=2)
        }
        curves = {name: curve for name, curve in curves.items() if len(curve[0]) > 1}
        about = {"dataset": dataset, "aspect": aspect, "metric": metric}
        for system in sorted(curves.keys() & set(proposed)):
            for name in (other for other in curves if other != system):
                rows.append({**about, "system": system, "other": name, **_met(curves[system], curves[name])})
        for level, value in levels.get((dataset, aspect), pd.Series(dtype="float64")).items():
            for name, (shares, recalls) in curves.items():
                flat = (shares, np.full(len(shares), value))
                rows.append({**about, "system": name, "other": level, **_met((shares, recalls), flat)})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"share": "float64", "value": "float64"})


def _met(curve: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    share = crossover(*curve, *other)
    value = float(np.interp(np.log(share), np.log(curve[0]), curve[1])) if np.isfinite(share) else float("nan")
    return {"share": share, "value": value}
