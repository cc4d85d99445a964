"""A trained run with its data set, each part of which is opened when it is first needed, and then held.

This module imports no torch, which a search by the vectors that the run's evaluation has saved does without.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record
from crossmodal.experiments import Job, job_in
from crossmodal.runs.manifest import read_manifest
from crossmodal.tasks.base import ranking_of

if TYPE_CHECKING:
    from crossmodal.inference.run import TrainedRun


def features_of(job: Job, modality: str) -> str:
    """The name MODALITY.EXTRACTOR of the features of a modality that a run reads.

    Raises
    ------
    UserError : the run's `config.yaml`, which may come from others, names none.
    """
    if modality not in job.inputs:
        raise UserError(f"{job.key}: its `config.yaml` names no features of {modality}; fetch or train the run again")
    return f"{modality}.{job.inputs[modality]}"


class OpenedRun:
    """The run in a folder.

    Parameters
    ----------
    folder : the folder of the run, wherever it lies.
    data : the folder of all prepared data sets.
    job : the run's job, where it is none that was trained: a control.

    Raises
    ------
    UserError : no run was trained there, or the one in a folder `runs/DATASET/SPLIT/NAME/seedN` is another.
    """

    def __init__(self, folder: Path, data: Path, job: Job | None = None):
        self.folder = folder
        self.job = job or job_in(folder)
        self.data = data / self.job.dataset
        *_, above, dataset, split, name, seed = (*[""] * 5, *folder.absolute().parts)
        if above == "runs" and self.job.key != f"{dataset}/{split}/{name}/{seed}":
            raise UserError(
                f"{folder / 'config.yaml'}: is that of another run ({self.job.key}); fetch or train the run again"
            )
        self._saved: dict[tuple[str, str], tuple[np.ndarray, np.ndarray] | None] = {}

    @cached_property
    def trained(self) -> TrainedRun:
        """The run's model."""
        from crossmodal.inference.run import open_run

        return open_run(self.folder)

    def saved(self, modality: str, partner: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The ids and the vectors of the test items that the run's evaluation has saved; None if there are none.

        Parameters
        ----------
        partner : the modality with which the items are compared.

        Raises
        ------
        UserError : the file of the vectors is damaged.
        """
        if (modality, partner) not in self._saved:
            self._saved[modality, partner] = self._read(modality, partner)
        return self._saved[modality, partner]

    def _read(self, modality: str, partner: str) -> tuple[np.ndarray, np.ndarray] | None:
        path, weights = ranking_of(self.folder) / "embeddings.npz", self.folder / "model.safetensors"
        if not (path.exists() and weights.exists()) or not self._of_these_weights():
            return None
        try:
            with packed.arrays(path) as kept:
                name = next((name for name in (modality, f"{modality}.{partner}") if name in kept), None)
                if name is None:
                    return None
                ids, vectors = kept[f"{modality}_ids"], kept[name]
            if ids.ndim != 1 or vectors.ndim != 2 or len(ids) != len(vectors) or vectors.dtype.kind != "f":
                raise ValueError(f"{len(ids)} ids and vectors of shape {vectors.shape} and type {vectors.dtype}")
            return ids, vectors
        except Exception as error:  # what broken files raise is not documented
            raise UserError(
                f"{path}: is truncated or damaged ({error}); delete it and evaluate the run again"
            ) from None

    def _of_these_weights(self) -> bool:
        """Whether the run was evaluated with its present weights, by their hash: copied files have other times."""
        path = ranking_of(self.folder) / "metrics.json"
        tested = read_record(path) if path.exists() else {}
        return tested.get("weights_sha256") == read_manifest(self.folder).weights_sha256
