"""The parts of a run's `manifest.json` that the run is opened with, checked since the folder may come from others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_record
from crossmodal.experiments import validated

MODALITIES = 100  # more than any data set has


class Sizes(BaseModel):
    """The sizes of the data that a model is built from, as `crossmodal.models.base.described` gives them."""

    model_config = ConfigDict(strict=True, frozen=True)

    shapes: dict[str, Annotated[list[PositiveInt], Field(min_length=1)]] = Field(max_length=MODALITIES)
    vocabulary_size: NonNegativeInt
    n_classes: NonNegativeInt
    n_groups: NonNegativeInt
    n_concepts: NonNegativeInt
    trained: list[NonNegativeInt]
    source: Sizes | None


class Manifest(BaseModel):
    """What a trained run's manifest says of its weights and its data; it has further keys."""

    model_config = ConfigDict(strict=True, frozen=True)

    weights_sha256: str | None = None
    vocabulary_sha256: str | None = None
    """None for a run of an earlier version."""
    data: dict[str, str] = {}
    """`items`, `split`, `MODALITY.EXTRACTOR` and others to the SHA-256 of what the run was trained with."""
    context: Sizes | None = None
    """None for a run of an earlier version."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the trained run in a folder.

    Raises
    ------
    UserError : it cannot be read (`read_record`), or a value in it is of another type.
    """
    path = folder / "manifest.json"
    return validated(Manifest, read_record(path), str(path))


def sizes_of(folder: Path) -> Sizes:
    """The sizes of the data that the model of the run in a folder is built from.

    Raises
    ------
    UserError : as `read_manifest`, or an earlier version trained the run, whose manifest lacks them.
    """
    sizes = read_manifest(folder).context
    if sizes is None:
        raise UserError(f"{folder / 'manifest.json'}: lacks 'context'; an earlier version trained it: train it again")
    return sizes
