"""The names of numbers in MLflow, and the columns of the saved view of its table of runs."""

from __future__ import annotations

import re
from typing import Any

from crossmodal.tasks.base import headlines

VIEW = "headline"
"""The key of the saved view."""


def link_to(experiment: str) -> str:
    """The address of an experiment's saved view, relative to that of MLflow's pages."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def view() -> dict[str, Any]:
    """The columns of MLflow's table of runs in the saved view, with the runs sorted by the first headline number."""
    metrics = [shown(aspect, metric) for aspect, metric in headlines()]
    columns = ["attributes.`Dataset`", "attributes.`Source`", *(f"metrics.`{name}`" for name in metrics)]
    return {"selectedColumns": columns, "orderByKey": f"metrics.`{metrics[0]}`", "orderByAsc": False}


def shown(aspect: str, metric: str, protocol: str = "all") -> str:
    """A metric's name in MLflow: `test/image-to-text.recall_1`, `test/recall_sum`, `test-fold5/...`.

    MLflow groups its charts by the part before the slash.
    """
    head = "test" if protocol == "all" else f"test-{protocol}"
    return metric_name(f"{head}/{'' if aspect == 'both' else f'{aspect}.'}{metric}")


def metric_name(name: str) -> str:
    """A name that MLflow allows: forbidden characters become underscores, so that `recall@10` is `recall_10`."""
    return re.sub(r"[^\w\-. /:]", "_", name)
