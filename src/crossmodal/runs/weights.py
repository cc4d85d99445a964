"""Finds, checks and loads the weights of a trained run."""

from __future__ import annotations

from pathlib import Path

from crossmodal.core.errors import UserError, first_line
from crossmodal.core.files import read_record, sha256_file
from crossmodal.experiments import made_by_training
from crossmodal.models import base


def checked_weights(folder: Path) -> Path:
    """The path of a trained run's weights, whose SHA-256 is checked against the manifest.

    Raises
    ------
    UserError : a run that is not trained, or a file with another hash.
    """
    weights = made_by_training(folder / "model.safetensors")
    if sha256_file(weights) != read_record(folder / "manifest.json").get("weights_sha256"):
        raise UserError(f"{weights}: is corrupted (its SHA-256 is not the manifest's); delete it and train again")
    return weights


def take_weights(model: base.Model, weights: Path) -> None:
    """Load a file of weights into their model.

    Raises
    ------
    UserError : weights of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"{weights}: does not fit: {first_line(error)}; train it again") from None
