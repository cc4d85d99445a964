"""Parallel drawing of many items; each has its own random generator, so that files do not depend on processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from crossmodal.core import cores
from crossmodal.core.console import tracked
from crossmodal.core.errors import UserError
from crossmodal.core.files import reason

CHUNK = 32  # items per task of a worker
ALONE = 200  # items per process, below which starting another process does not pay off

Place = TypeVar("Place")
Made = TypeVar("Made")


def generator(*key: int) -> np.random.Generator:
    """The random generator of one item, which depends on `key` only."""
    return np.random.default_rng(np.random.SeedSequence(key))


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Draw one of the options with equal probabilities."""
    return options[int(rng.integers(len(options)))]


def each(work: Callable[[Place], Made], places: Sequence[Place], workers: int | None = None) -> list[Made]:
    """The results of `work` for all places, in their order; the progress is shown.

    Parameters
    ----------
    workers : number of processes, by default up to one per core; the results must not depend on it.
    """
    workers = workers or min(cores.available(), max(1, -(-len(places) // ALONE)))
    if workers == 1:
        return list(tracked(map(work, places), "drawing", len(places)))
    context = get_context("forkserver")
    context.set_forkserver_preload([getattr(work, "func", work).__module__])  # import it only once
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(tracked(pool.map(work, places, chunksize=CHUNK), "drawing", len(places)))


def clear(folder: Path, left_over: Callable[[str], bool]) -> None:
    """Create `folder`, and remove files and folders that an earlier drawing left.

    Parameters
    ----------
    left_over : whether the file or folder with a given name is to be removed.

    Raises
    ------
    UserError : the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if left_over(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {reason(error) or error}") from error
