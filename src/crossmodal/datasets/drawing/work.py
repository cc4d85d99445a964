"""Drawing many items: a generator of its own for each, any number of processes, the same files."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from crossmodal.errors import UserError
from crossmodal.files import reason

CHUNK = 32  # items that a worker draws at a time
ALONE = 200  # items that one process draws sooner than others start

Place = TypeVar("Place")
Made = TypeVar("Made")


def generator(*key: int) -> np.random.Generator:
    """The generator of one item: a function of `key` alone, whatever else is drawn."""
    return np.random.default_rng(np.random.SeedSequence(key))


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def cores() -> int:
    """Cores that this process may use; macOS knows no affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(work: Callable[[Place], Made], places: Sequence[Place], workers: int | None = None) -> list[Made]:
    """`work` of each place, in their order, with a progress bar on a terminal.

    Parameters
    ----------
    workers : processes, by default up to one a core; what is made must not depend on it.
    """
    shown = partial(
        track,
        description="drawing",
        total=len(places),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    workers = workers or min(cores(), max(1, -(-len(places) // ALONE)))
    if workers == 1:
        return list(shown(map(work, places)))
    context = get_context("forkserver")
    context.set_forkserver_preload([getattr(work, "func", work).__module__])  # imported once, not by each worker
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(shown(pool.map(work, places, chunksize=CHUNK)))


def clear(folder: Path, left_over: Callable[[str], bool]) -> None:
    """Make `folder`, and take out the files and folders that an earlier drawing left, by their names.

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
