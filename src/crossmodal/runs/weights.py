"""Finds, checks and loads the weights and the vocabulary of a trained run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from crossmodal.core import packed
from crossmodal.core.errors import UserError
from crossmodal.core.files import sha256_file
from crossmodal.experiments import made_by_training
from crossmodal.language.tokens import Vocabulary
from crossmodal.models import base
from crossmodal.runs.manifest import read_manifest

ROOM = 2**28  # bytes that any model may take besides its weights, such as for tables that are computed again
COPIES = 4  # of its weights that a model may take while it is built, since initial values may need further tensors
# Torch's functions that make a tensor, whose arguments have no other whole numbers than its size and a value.
MAKING = {"empty", "zeros", "ones", "full", "rand", "randn", "arange", "linspace", "eye", "randperm"}
WHOLE = {"arange", "randperm"}  # of these, those that make whole numbers unless told otherwise


def checked_weights(folder: Path) -> Path:
    """The path of a trained run's weights, whose SHA-256 is checked against the manifest.

    Raises
    ------
    UserError : a run that is not trained, or a file with another hash.
    """
    weights = made_by_training(folder / "model.safetensors")
    if sha256_file(weights) != read_manifest(folder).weights_sha256:
        raise UserError(f"{weights}: is corrupted (its SHA-256 is not the manifest's); delete it and train again")
    packed.check_header(weights)
    return weights


def checked_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a trained run, whose SHA-256 is checked against the manifest, unless that lacks it.

    Raises
    ------
    UserError : a run that is not trained, a file with another hash, or one that is no vocabulary.
    """
    path = made_by_training(folder / "vocabulary.json")
    known = read_manifest(folder).vocabulary_sha256
    if known is not None and sha256_file(path) != known:
        raise UserError(f"{path}: is corrupted (its SHA-256 is not the manifest's); fetch or train the run again")
    return Vocabulary.load(path)


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
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{weights}: does not fit: {said[:300]}; train it again") from None


@contextmanager
def within(weights: Path) -> Iterator[None]:
    """Build a model in a `with` block, in which tensors may not grow far beyond the size of its file of weights.

    The sizes of a model come from the settings and the manifest of a run, which may be those of others: a few digits
    there would otherwise take all memory.

    Raises
    ------
    UserError : inside the `with` block, the model takes more.
    """
    size = weights.stat().st_size
    try:
        with _Bounded(ROOM + COPIES * size):
            yield
    except _BoundError as error:
        raise UserError(
            f"{weights.parent}: its `config.yaml` and `manifest.json` describe a model of more than {error} bytes, but "
            f"{weights.name} has {size:,}; fetch or train the run again"
        ) from None


class _BoundError(Exception):
    """Its text is the bound in bytes."""


class _Bounded(TorchFunctionMode):
    """Adds up the bytes of new tensors before they are made, and raises an error where they exceed a bound."""

    def __init__(self, most: int):
        super().__init__()
        self.most, self.bytes = most, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if (name := getattr(func, "__name__", "")).removeprefix("new_") in MAKING:
            sizes = [*args[name.startswith("new_") :], kwargs.get("size", 1), kwargs.get("end", 1)]
            if name == "eye":
                sizes = [*args, *args][:2]  # n stands for n x n
            counts = [n for size in sizes for n in (size if isinstance(size, Sequence) else [size])]
            count = math.prod(n for n in counts if isinstance(n, int) and n)
            self.bytes += (
                count * (kwargs.get("dtype") or (torch.int64 if name in WHOLE else torch.get_default_dtype())).itemsize
            )
            if self.bytes > self.most:
                raise _BoundError(f"{self.most:,}")
        return func(*args, **kwargs)
