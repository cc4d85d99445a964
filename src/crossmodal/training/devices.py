"""Chooses the device of a run: a free GPU on machines with GPUs, otherwise the CPU."""

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
    """Reserve a device for the block, waiting until a GPU is free on machines with GPUs.

    `--resources gpu=N` bounds the number of simultaneous runs, but would leave all of them on the first GPU. One lock
    file per GPU distributes the runs; it is named by the GPU's UUID, since CUDA_VISIBLE_DEVICES may renumber the GPUs.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    files = [
        FileLock(locks / f"gpu-{torch.cuda.get_device_properties(i).uuid}.lock")
        for i in range(torch.cuda.device_count())
    ]
    is_logged = False
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
        if not is_logged:
            log.info("all %d GPUs are taken by other runs; waiting for one", len(files))
            is_logged = True
        time.sleep(1)
