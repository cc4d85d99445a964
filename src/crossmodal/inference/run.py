"""A trained run without its data: the model in a run's folder, to encode inputs that are in no data set.

This module imports nothing that only training needs, since a search waits for each import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from crossmodal.core import cores, registry
from crossmodal.corpus.forms import form
from crossmodal.corpus.forms.base import Source
from crossmodal.experiments import Job, job_in, validated
from crossmodal.language.tokens import Vocabulary
from crossmodal.models import base
from crossmodal.runs.manifest import read_manifest, sizes_of
from crossmodal.runs.weights import checked_vocabulary, checked_weights, take_weights, within


@dataclass(frozen=True)
class TrainedRun:
    """A run's model, ready to encode."""

    job: Job
    model: base.Model
    vocabulary: Vocabulary
    features: Mapping[str, str] = field(default_factory=dict)
    """`MODALITY.EXTRACTOR` to the SHA-256 of the features that it was trained with."""

    def source(self, modality: str, data: Path = Path(), **more: Any) -> Source:
        """The source with which `source.form` makes an input from outside of the data set.

        Parameters
        ----------
        more : further fields of the source.
        """
        return Source(
            form=form(self.model.reads[modality]),
            folder=data,
            modality=modality,
            settings=self.model.settings.model_dump(),
            vocabulary=self.vocabulary,
            **more,
        )

    @torch.inference_mode()
    def encode(self, modality: str, value: base.Input, partner: str) -> torch.Tensor:
        """(B, ...) encodings of inputs of one modality, for comparison with those of the modality `partner`."""
        return self.model.encode(modality, base.Batch({modality: value}), partner)


def open_run(folder: Path) -> TrainedRun:
    """The trained run in a folder.

    Raises
    ------
    UserError : a folder without a trained run, a run that another version trained, or files that do not fit each other.
    """
    weights = checked_weights(folder)
    sizes = sizes_of(folder)
    job = job_in(folder)
    cores.compute_in(job.threads)
    module = registry.module("models", job.model)
    settings = validated(module.Settings, job.settings, f"{folder / 'config.yaml'}: settings")
    with within(weights):
        model = module.Model(settings, base.context_of(sizes.model_dump()))
    take_weights(model, weights)
    return TrainedRun(job, model.eval(), checked_vocabulary(folder), read_manifest(folder).data)
