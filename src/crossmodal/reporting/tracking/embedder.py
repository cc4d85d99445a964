"""A trained run as an MLflow model: embeddings of sentences or feature vectors, or a captioner's captions of images.

A model holds the run's own files, and the installed package loads it; nothing is pickled. Systems that compare items
without vectors have no such model, nor have those that read pixels, concepts or named regions.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record
from crossmodal.experiments import Job
from crossmodal.tasks.base import ranking_of

FILES = ("config.yaml", "vocabulary.json", "manifest.json", "model.safetensors")
LIBRARIES = ("crossmodal", "torch", "numpy", "pandas")
SCRIPT = """\
from crossmodal.reporting.tracking.embedder import python_model
from mlflow.models import set_model

set_model(python_model())
"""


def is_captioner(job: Job) -> bool:
    """Whether a run's model gives captions of images, and not embeddings."""
    return not job.ranked and "generate" in registry.methods(job.model)


def _reads(job: Job) -> dict[str, str]:
    """{modality: form} that a run's MLflow model reads; a captioner reads captions only for its training."""
    reads = registry.reads(job.model, job.settings)
    return {"image": reads["image"]} if is_captioner(job) else reads


def without(job: Job, folder: Path) -> str:
    """The reason why a run has no MLflow model; empty for a run that has one."""
    if job.control:
        return "it is a control, which is not trained"
    reads = _reads(job)
    odd = {m: form for m, form in reads.items() if not registry.form(form, m)["outside"]}
    if not is_captioner(job) and not (ranking_of(folder) / "embeddings.npz").exists():
        return "it compares items without vectors"
    if odd:
        return "it reads " + " and ".join(f"{modality} as {form}" for modality, form in odd.items())
    absent = [name for name in FILES if not (folder / name).exists()]
    if absent:
        return f"{absent[0]} is missing"
    return "" if "context" in read_record(folder / "manifest.json") else "an earlier version trained it"


def _type(form: str, modality: str) -> Any:
    """MLflow's type of one input in a form that can be embedded."""
    from mlflow.types import DataType
    from mlflow.types.schema import Array

    declared = registry.form(form, modality)
    if declared["outside"] == "sentences":
        return DataType.string
    numbers: Any = DataType.double
    for _ in range(declared["axes"] - 1):
        numbers = Array(numbers)
    return numbers


def signature(job: Job) -> Any:
    """MLflow's signature: one optional column per modality (sentences or arrays); the output is (N, D) float32.

    That of a captioner has one column of images, and a column of captions as output.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    reads = _reads(job)
    if is_captioner(job):
        return ModelSignature(
            inputs=Schema([ColSpec(_type(reads["image"], "image"), "image")]),
            outputs=Schema([ColSpec(DataType.string, "caption")]),
            params=ParamSchema([ParamSpec("beam", DataType.long, 0)]),
        )
    columns = [ColSpec(_type(form, modality), modality, required=False) for modality, form in reads.items()]
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, -1), "embeddings")]),
        params=ParamSchema([ParamSpec("partner", DataType.string, "")]),
    )


def save(job: Job, folder: Path, target: Path, run_id: str) -> dict[str, Any]:
    """Save the run of `folder` as an MLflow model in `target`; returns the facts that MLflow's run records of it."""
    from mlflow import pyfunc
    from mlflow.models import Model

    model = Model(artifact_path=target.name, run_id=run_id)
    with tempfile.TemporaryDirectory() as temporary:
        run_folder = Path(temporary) / "run"
        run_folder.mkdir()
        for name in FILES:
            shutil.copyfile(folder / name, run_folder / name)
        script = Path(temporary) / "embedder.py"
        script.write_text(SCRIPT, encoding="utf-8")
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # it warns that there is no input example
            pyfunc.save_model(
                target,
                python_model=str(script),
                artifacts={"run": str(run_folder)},
                signature=signature(job),
                pip_requirements=[f"{name}=={metadata.version(name)}" for name in LIBRARIES],
                metadata={"run": job.key, "shapes": read_record(folder / "manifest.json")["context"]["shapes"]},
                mlflow_model=model,
            )
    return model.get_tags_dict()


def python_model() -> Any:
    """The embedder as MLflow's class; defined at the first call, since MLflow takes seconds to be imported."""
    from mlflow.pyfunc import PythonModel

    class Embedder(PythonModel):
        def load_context(self, context: Any) -> None:
            from crossmodal.inference.run import open_run

            folder = Path(context.artifacts["run"])
            self.run = open_run(folder)
            self.shapes = read_record(folder / "manifest.json")["context"]["shapes"]

        def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
            if is_captioner(self.run.job):
                return caption(self.run, self.shapes, model_input, (params or {}).get("beam", 0))
            return embed(self.run, self.shapes, model_input, (params or {}).get("partner", ""))

    return Embedder()


def caption(run: Any, shapes: dict[str, list[int]], frame: pd.DataFrame, beam: int = 0) -> pd.DataFrame:
    """The column `caption` of the captions of a frame's images, which are arrays of features in its column `image`.

    Parameters
    ----------
    run, shapes : as those of `embed`.
    beam : unfinished captions that are kept per image; 0 for the run's own setting.

    Raises
    ------
    UserError : the frame has no such column, rows are missing or have another shape, or the beam is negative.
    """
    import torch

    from crossmodal.models.base import Batch
    from crossmodal.tasks.captions.references import said

    if "image" not in frame or frame["image"].isna().any():
        found = ", ".join(map(str, frame.columns)) or "none"
        raise UserError(f"{run.job.key}: describes the images of a whole column `image`; found {found}")
    if beam < 0:
        raise UserError(f"beam {beam}: expected at least 1, or 0 for that of the run")
    batch = Batch({"image": _input(run, shapes, "image", list(frame["image"]))})
    beam = beam or getattr(run.model.settings, "beam", 1)
    with torch.inference_mode():
        return pd.DataFrame({"caption": [" ".join(one.words) for one in said(run.model, batch, beam, run.vocabulary)]})


def embed(run: Any, shapes: dict[str, list[int]], frame: pd.DataFrame, partner: str = "") -> np.ndarray:
    """(N, D) embeddings of the single column of a frame, for comparison with those of `partner`.

    Parameters
    ----------
    run : a `crossmodal.inference.run.TrainedRun`.
    shapes : modality to the shape of one item's features, as the run's manifest has it.
    partner : the other modality; by default the first that the run compares with the column's.

    Raises
    ------
    UserError : the frame has no column that the run reads, or several; rows are missing or have another shape; the
        partner is unknown.
    """
    reads = run.model.reads
    present = [modality for modality in reads if modality in frame and frame[modality].notna().any()]
    if len(present) != 1 or frame[present[0]].isna().any():
        raise UserError(
            f"{run.job.key}: reads one column of {', '.join(reads)} at a time, whole; found "
            f"{', '.join(map(str, frame.columns)) or 'none'}"
        )
    modality = present[0]
    others = [other for other in reads if other != modality]
    partner = partner or others[0]
    if partner not in others:
        raise UserError(f"partner {partner!r}: {run.job.key} compares {modality} with {', '.join(others)}")
    return run.encode(modality, _input(run, shapes, modality, list(frame[modality])), partner).float().numpy()


def _input(run: Any, shapes: dict[str, list[int]], modality: str, values: list[Any]) -> Any:
    source = run.source(modality)
    if source.form.outside == "sentences":
        return source.form.of_sentences(source, [str(value) for value in values])
    shape = shapes[modality]
    arrays = [np.asarray([np.asarray(row) for row in value], dtype=np.float32) for value in values]
    for array in arrays:
        if array.ndim != len(shape) or array.shape[-1] != shape[-1]:
            raise UserError(f"{run.job.key}: reads {modality} as arrays of {shape}, not {array.shape}")
    counts = [len(array) for array in arrays]
    padded = np.zeros((len(arrays), max(counts), *arrays[0].shape[1:]), np.float32)
    for place, array in enumerate(arrays):
        padded[place, : len(array)] = array
    return source.form.of_features(source, padded, {"count": counts})
