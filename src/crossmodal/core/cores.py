"""The number of cores that a step may keep busy, by which every pool of threads or processes is bounded."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

VARIABLE = "CROSSMODAL_CORES"
"""Environment variable with the number of cores of a step; Snakemake's rules set it to their `threads`."""


def available() -> int:
    """Number of cores that this process may use: those that the system gives it, at most `CROSSMODAL_CORES`.

    On systems without affinity (macOS) the system gives all cores. A value that is no positive number is ignored.
    """
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get(VARIABLE, "")
    return min(given, int(asked)) if asked.isdigit() and int(asked) else given


def compute_in(threads: int) -> None:
    """Let torch compute in so many threads, on no more cores than are available.

    The number of threads determines the last bits of sums, so that it is never lowered. If there are more threads than
    cores, the whole process is confined to as many cores as are available (on Linux).
    """
    import torch

    torch.set_num_threads(threads)
    if (count := available()) < threads and hasattr(os, "sched_setaffinity"):
        given = sorted(os.sched_getaffinity(0))
        first = os.getpid() % len(given)  # two workflows on one machine should not share their cores
        chosen = (given * 2)[first : first + count]
        for thread in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # it may have ended meanwhile
                os.sched_setaffinity(int(thread.name), chosen)
