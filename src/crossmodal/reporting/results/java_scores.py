"""METEOR and SPICE of a captioner's run, from the captions that its evaluation has kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.evaluation.java_metrics import NAMES, measured
from crossmodal.experiments import Job
from crossmodal.tasks.captioning import HUMAN, Task

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def measure(folder: Path, job: Job, data: Path, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The numbers of a run, one per protocol and metric, in the form of `metrics.json`.

    Parameters
    ----------
    folder : the run's folder.
    data : the folder of all data sets.

    Raises
    ------
    UserError : another metric, a run that says no captions or was not evaluated, captions that do not fit the data, or
        what the metric needs is missing.
    """
    from crossmodal.corpus.opening import load
    from crossmodal.tasks.captions.references import images_of

    if odd := [name for name in metrics if name not in NAMES]:
        raise UserError(
            f"metric {odd[0]!r}: is not measured together with {', '.join(NAMES)}; other numbers of captions are in "
            f"{folder / Task.name / 'metrics.json'}, and those of rankings are asked for by themselves"
        )
    if Task.name not in job.tasks:
        raise UserError(f"{job.key}: is evaluated on {', '.join(job.tasks)}, and says no captions; choose another run")
    path = folder / Task.name / "examples.parquet"
    if not path.exists():
        raise UserError(f"{path}: not found; evaluate the run first (crossmodal evaluate {job.key})")
    table = read_parquet(path, ["protocol", "aspect", "query_id", "caption"])
    images = images_of(load(data / job.dataset, job.split, dict.fromkeys(("image", "text"), "ids"), {}), "test")
    references = dict(zip(images.ids, images.references, strict=True))
    _check(table, references, path)
    rows = []
    for (protocol, aspect), part in table.groupby(["protocol", "aspect"], sort=False):
        skipped = 1 if protocol == HUMAN else 0  # the first reference is what a person says
        others = [references[id_][skipped:] for id_ in part.query_id]
        for name in dict.fromkeys(metrics):
            log.info("%s of %d captions (%s), by its Java program", name.upper(), len(part), protocol)
            value, _ = measured(name, [caption.split() for caption in part.caption], others)
            about = {"aspect": str(aspect), "metric": name, "protocol": str(protocol), "value": value}
            rows.append({**about, "n_queries": len(part), "n_gallery": 0})
    return rows


def _check(table: pd.DataFrame, references: Mapping[str, Any], path: Path) -> None:
    """Check that kept captions are texts of test images.

    Raises
    ------
    UserError : there are none, or one of them is no text, of no protocol, or of another image.
    """
    advice = "evaluate the run again"
    if table.empty:
        raise UserError(f"{path}: holds no caption; {advice}")
    for name in ("protocol", "aspect", "caption"):
        odd = [value for value in table[name] if not isinstance(value, str)]
        if odd:
            raise UserError(f"{path}: {name}: expected text, found {odd[0]!r}; {advice}")
    for id_ in table.query_id:
        if id_ not in references:
            raise UserError(f"{path}: query_id {id_!r} is no test image with captions; {advice}")
