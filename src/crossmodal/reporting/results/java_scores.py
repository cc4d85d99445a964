"""METEOR and SPICE of a captioner's run, from the captions that its evaluation has kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet
from crossmodal.evaluation.java_metrics import NAMES, measured
from crossmodal.experiments import Job
from crossmodal.tasks.captioning import HUMAN, Task


def measure(folder: Path, job: Job, data: Path, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The numbers of a run, one per protocol and metric, in the form of `metrics.json`.

    Parameters
    ----------
    folder : the run's folder.
    data : the folder of all data sets.

    Raises
    ------
    UserError : another metric, a run that says no captions or was not evaluated, or what the metric needs is missing.
    """
    from crossmodal.corpus.opening import load
    from crossmodal.tasks.captions.references import images_of

    if odd := [name for name in metrics if name not in NAMES]:
        raise UserError(f"{odd[0]!r}: is not measured together with {', '.join(NAMES)}; ask for it by itself")
    if Task.name not in job.tasks:
        raise UserError(f"{job.key}: is evaluated on {', '.join(job.tasks)}, and says no captions; choose another run")
    path = folder / Task.name / "examples.parquet"
    if not path.exists():
        raise UserError(f"{path}: not found; evaluate the run first (crossmodal evaluate {job.key})")
    table = read_parquet(path, ["protocol", "aspect", "query_id", "caption"])
    images = images_of(load(data / job.dataset, job.split, dict.fromkeys(("image", "text"), "ids"), {}), "test")
    references = dict(zip(images.ids, images.references, strict=True))
    rows = []
    for (protocol, aspect), part in table.groupby(["protocol", "aspect"], sort=False):
        skipped = 1 if protocol == HUMAN else 0  # the first reference is what a person says
        others = [references[id_][skipped:] for id_ in part.query_id]
        for name in metrics:
            value, _ = measured(name, [caption.split() for caption in part.caption], others)
            about = {"aspect": str(aspect), "metric": name, "protocol": str(protocol), "value": value}
            rows.append({**about, "n_queries": len(part), "n_gallery": 0})
    return rows
