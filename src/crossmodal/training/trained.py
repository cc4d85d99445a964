"""A trained run without its data: the model of a run's folder, for encoding what is in no data set.

Free of what training needs, since a search pays for each import.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from crossmodal import registry
from crossmodal.errors import UserError
from crossmodal.experiments import Job, job_in, made_by_training, validated
from crossmodal.files import read_record, sha256_file
from crossmodal.models import base
from crossmodal.text import RareWords, Vocabulary


def described(context: base.Context) -> dict[str, Any]:
    """What a manifest keeps of a context: enough to build the model again, whose weights hold the rest."""
    return {
        "shapes": {modality: list(shape) for modality, shape in context.shapes.items()},
        "vocabulary_size": context.vocabulary_size,
        "n_classes": context.n_classes,
        "trained": list(context.trained),
        "n_groups": 0 if context.groups is None else len(context.groups),
        "n_concepts": context.n_concepts,
        "source": None if context.source is None else described(context.source),
    }


def context_of(told: dict[str, Any]) -> base.Context:
    """The context that `described` told of; vectors of zeros stand where the weights hold better ones."""
    shapes = {modality: tuple(shape) for modality, shape in told["shapes"].items()}
    moments = {m: (torch.zeros(shape[-1]), torch.ones(shape[-1])) for m, shape in shapes.items()}
    rest = {
        "groups": torch.zeros(told["n_groups"], dtype=torch.int64),
        "n_concepts": told["n_concepts"],
        "source": told["source"] and context_of(told["source"]),
    }
    return base.Context(shapes, told["vocabulary_size"], told["n_classes"], tuple(told["trained"]), moments, **rest)


def checked_weights(folder: Path) -> Path:
    """The weights of a trained run, which are what its manifest says.

    Raises
    ------
    UserError : a run that is not trained, or other bytes.
    """
    weights = made_by_training(folder / "model.safetensors")
    if sha256_file(weights) != read_record(folder / "manifest.json")["weights_sha256"]:
        raise UserError(f"{weights}: is corrupted (its SHA-256 is not the manifest's); delete it and train again")
    return weights


def take_weights(model: base.Model, weights: Path) -> None:
    """Load a file of weights into the model that they are of.

    Raises
    ------
    UserError : weights of another model.
    """
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise UserError(f"{weights}: does not fit: {str(error).splitlines()[0]}; train it again") from None


@dataclass(frozen=True)
class Trained:
    """A run's model, ready to encode."""

    job: Job
    model: base.Model
    vocabulary: Vocabulary

    @property
    def rare_words(self) -> RareWords:
        return getattr(self.model.settings, "rare_words", "mark")

    def tokens(self, captions: list[str]) -> base.Tokens:
        """Captions as the model reads them.

        Raises
        ------
        UserError : a caption none of whose words the run knows.
        """
        ids, lengths = self.vocabulary.encode_known(captions, self.model.settings.max_words, self.rare_words)
        return base.Tokens(torch.from_numpy(ids).long(), torch.from_numpy(lengths))

    @torch.inference_mode()
    def encode(self, modality: str, value: base.Input, partner: str) -> torch.Tensor:
        """(B, ...) encodings of inputs of one modality, for comparison with those of another."""
        return self.model.encode(modality, base.Batch({modality: value}), partner)


def open_run(folder: Path) -> Trained:
    """The trained run of a folder.

    Raises
    ------
    UserError : a folder without a trained run, or one of another version.
    """
    weights = checked_weights(folder)
    manifest = folder / "manifest.json"
    try:
        context = context_of(read_record(manifest)["context"])
    except KeyError as error:
        raise UserError(f"{manifest}: says no {error}; an earlier version trained it: train it again") from None
    job = job_in(folder)
    torch.set_num_threads(job.threads)
    module = registry.module("models", job.model)
    settings = validated(module.Settings, job.settings, f"{folder / 'config.yaml'}: settings")
    model = module.Model(settings, context)
    take_weights(model, weights)
    return Trained(job, model.eval(), Vocabulary.load(folder / "vocabulary.json"))
