"""Which device a run takes: a free GPU where there is one, else the CPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def device_slot(locks: Path = Path(".checkpoints")) -> Iterator[torch.device]:
    """A device of one's own for the block.

    `--resources gpu=N` bounds how many runs go on at once, but leaves all of them on the first GPU: a lock file a GPU
    (by its UUID, so that CUDA_VISIBLE_DEVICES may number them differently) spreads them.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    locks.mkdir(parents=True, exist_ok=True)
    files = [
        FileLock(locks / f"gpu-{torch.cuda.get_device_properties(i).uuid}.lock")
        for i in range(torch.cuda.device_count())
    ]
    told = False
    while True:
        for number, lock in enumerate(files):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield torch.device("cuda", number)
            finally:
                lock.release()
            return
        if not told:
            log.info("all %d GPUs are taken by other runs; waiting for one", len(files))
            told = True
        time.sleep(1)
