"""Readers of the folder of a finished run. A missing or damaged file is logged and left out of the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, read_record
from crossmodal.experiments import Job, Plan, read_yaml
from crossmodal.tasks.base import EXAMPLE, LARGEST, all_metrics, read_numbers

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

log = logging.getLogger(__name__)

NUMBER = (int, float)
KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("commit", "device", "finished", "hash", "job", "scale", "source", "weights_sha256"), str),
    **dict.fromkeys(("hardware", "versions", "data", "context"), dict),
    **dict.fromkeys(("seconds", "peak_memory_mib", "gpu_memory_mib", "energy_joules", "gpu_energy_joules"), NUMBER),
    **dict.fromkeys(("parameters", "pairs", "words", "best_epoch"), NUMBER),
    "fallbacks": list,
}
"""Keys of a manifest, which may come from others, to the types of their values."""
EPOCH_COLUMNS = 500  # more than a history has


def chosen(plan: Plan, jobs: dict[str, Job] | None) -> dict[str, Job]:
    """The jobs that a report covers: a given part of the plan, or all of it."""
    return plan.jobs if jobs is None else jobs


def numbers(folder: Path, job: Job) -> list[dict[str, Any]] | None:
    """The rows of `metrics.json` of all tasks of a run; None if none exists, or one is damaged or of another job."""
    paths = [path for path in metrics_files(folder, job) if path.exists()]
    if not paths:
        return None
    read = [_numbers(path, job) for path in paths]
    return None if None in read else [row for rows in read for row in rows]


def is_made(folder: Path, job: Job) -> bool:
    """Whether a run has the metrics of any of its tasks."""
    return any(path.exists() for path in metrics_files(folder, job))


def metrics_files(folder: Path, job: Job) -> list[Path]:
    """The paths of the metrics of a run's tasks, whether they exist or not."""
    return [folder / task / "metrics.json" for task in job.tasks]


def _numbers(path: Path, job: Job) -> list[dict[str, Any]] | None:
    try:
        content, rows = read_numbers(path)
        job_of = content["job"]
        for key in ("dataset", "split", "model", "variant", "seed"):
            if job_of.get(key, "") != getattr(job, key):
                raise ValueError(f"is of {key} {job_of.get(key)!r}, expected {getattr(job, key)!r}")
        return [{"task": path.parent.name, **row} for row in rows]
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        log.warning("%s: left out: %s", path, what)
        return None


def manifest(folder: Path) -> dict[str, Any]:
    """A run's `manifest.json`; empty where none can be read, as for a control, which is not trained."""
    if not (folder / "manifest.json").exists():
        return {}
    try:
        content = read_record(folder / "manifest.json")
    except UserError as error:
        log.warning("%s", error)
        return {}
    kept = {}
    for key, value in content.items():
        if value is None or _fits(key, value):
            kept[key] = value
        else:
            log.warning("%s: %s: is %s and left out", folder / "manifest.json", key, type(value).__name__)
    return kept


def _fits(key: str, value: Any) -> bool:
    """Whether a value of a manifest has the type that the report expects of it."""
    if key not in KINDS:
        return True
    if not isinstance(value, KINDS[key]) or isinstance(value, bool):
        return False
    if isinstance(value, list):
        return all(isinstance(text, str) for text in value)
    return not isinstance(value, int | float) or -LARGEST < value < LARGEST


def settings(folder: Path) -> dict[str, Any] | None:
    """A run's settings with all defaults, from its `config.yaml`; None where none can be read."""
    path = folder / "config.yaml"
    if not path.exists():
        return None
    try:
        content = read_yaml(path).get("settings")
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected a block `settings`")
        return content
    except UserError as error:
        log.warning("%s", error)
        return None


def query_table(folder: Path, columns: list[str]) -> pyarrow.Table | None:
    """Some columns of the examples of a run's task, texts dictionary-encoded; None where they cannot be read."""
    from pyarrow import ArrowException, parquet

    path = folder / "examples.parquet"
    coded = [name for name in ("protocol", "aspect", "query_group") if name in columns]
    try:
        packed.check_table(path, columns)
        return parquet.read_table(path, columns=columns, read_dictionary=coded).combine_chunks()
    except (OSError, ArrowException, UserError) as error:
        log.warning("%s: left out of claims: %s", path, error)
        return None


def milliseconds(folder: Path) -> float | None:
    """Milliseconds of training per iteration; None for a model without iterations or a history without times."""
    epochs = history(folder)
    if not {"seconds", "steps"} <= {*epochs} or not epochs.steps.sum() > 0:
        return None
    return float(1000 * epochs.seconds.sum() / epochs.steps.sum())


def attention_blocks(folder: Path, before: Path | None) -> int | None:
    """The number of attention blocks of a multi-modal space that a run has trained; None for unreadable weights.

    A block counts as trained if it differs in any bit from all blocks of the run that it is initialised from.
    """
    blocks, older = _blocks(folder), _blocks(before) if before is not None else {}
    if blocks is None or older is None:
        return None
    names = {
        name.split(".")[1] for name in blocks if name not in older or not np.array_equal(blocks[name], older[name])
    }
    return len(names)


def _blocks(folder: Path) -> dict[str, np.ndarray] | None:
    """The weights of a run's attention blocks, by their names `blocks.BLOCK.WEIGHT`."""
    from safetensors import SafetensorError, safe_open

    path = folder / "model.safetensors"
    try:
        packed.check_header(path)
        with safe_open(path, "numpy") as weights:
            return {name: weights.get_tensor(name) for name in weights.keys() if name.startswith("blocks.")}  # noqa: SIM118
    except (OSError, SafetensorError, UserError) as error:
        log.warning("%s: left out: %s", path, error)
        return None


def examples(folder: Path) -> pd.DataFrame | None:
    """The examples of a task of a run, without best answers; None where no file can be read."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    path = folder / "examples.parquet"
    try:
        names = [name for name in read_schema(path).names if not name.startswith("top")]
        frame = read_parquet(path, names)
        check_examples(frame, path)
        return frame
    except (OSError, ArrowException, UserError) as error:
        log.warning("%s: left out of intervals and tests: %s", path, error)
        return None


def check_examples(frame: pd.DataFrame, path: Path) -> None:
    """Refuse examples whose columns are not those of a task; the file may come from others.

    Raises
    ------
    UserError : a column is missing, is of texts instead of numbers or the other way round, or a rank is below 1.
    """
    import pandas as pd

    if missing := [name for name in EXAMPLE if name not in frame]:
        raise UserError(f"{path}: lacks the column {missing[0]}; evaluate the run again")
    for name in ("protocol", "aspect"):
        if not frame[name].map(lambda text: isinstance(text, str)).all():
            raise UserError(f"{path}: {name} holds other values than texts; evaluate the run again")
    for name in {column for metric in all_metrics() for column in metric.columns} & {*frame}:
        if len(frame) and not pd.api.types.is_numeric_dtype(frame[name]):
            raise UserError(f"{path}: {name} is of {frame[name].dtype}, expected numbers; evaluate the run again")
    if "rank" in frame and len(frame) and not frame["rank"].min() >= 1:
        raise UserError(f"{path}: rank is {frame['rank'].min()}, expected 1 and more; evaluate the run again")


def history(folder: Path) -> pd.DataFrame:
    """A run's epochs; empty for a model that is not trained, or a file that cannot be read."""
    import pandas as pd

    path = folder / "history.parquet"
    if not path.exists():
        return pd.DataFrame()
    try:
        frame = read_parquet(path)
    except UserError as error:
        log.warning("%s", error)
        return pd.DataFrame()
    if frame.empty:  # as of a closed form
        return pd.DataFrame()
    if "epoch" not in frame or len(frame.columns) > EPOCH_COLUMNS or not pd.api.types.is_numeric_dtype(frame["epoch"]):
        log.warning("%s: left out: expected a number `epoch` and at most %d columns", path, EPOCH_COLUMNS)
        return pd.DataFrame()
    # Lists and records are nothing that an epoch is measured by.
    return frame[[name for name in frame if not _is_nested(frame[name])]]


def _is_nested(column: pd.Series) -> bool:
    return column.dtype == object and bool(column.map(lambda value: isinstance(value, list | dict | np.ndarray)).any())


def histories(runs: Path, jobs: dict[str, Job]) -> pd.DataFrame:
    """The epochs of all runs, with columns `run`, `dataset`, `split`, `name` and `seed` before theirs."""
    import pandas as pd

    frames = []
    for key, job in jobs.items():
        frame = history(runs / key)
        if len(frame):
            frame = frame.copy()
            for place, (column, value) in enumerate(
                {"run": key, "dataset": job.dataset, "split": job.split, "name": job.name, "seed": job.seed}.items()
            ):
                frame.insert(place, column, value)
            frames.append(frame)
    if not frames:
        return pd.DataFrame(columns=["run", "dataset", "split", "name", "seed", "epoch", "val_recall_sum", "loss"])
    return pd.concat(frames, ignore_index=True)


def name(model: str, variant: str) -> str:
    """The name of a run's folder, like `Job.name`: MODEL, or MODEL.VARIANT."""
    return f"{model}.{variant}" if variant else model
