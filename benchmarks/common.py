"""What the measurements share: alternating rounds, peak memory and a result file named after the hardware."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from crossmodal.core.files import hardware, write_json


def alternate(
    cases: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each case; the cases take turns, so that a slow minute of the machine meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            began = clock()
            case()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def processor(case: Callable[[], object], rounds: int) -> float:
    """Least seconds of a core that a case takes, over all its threads: what others on the machine change least."""
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        case()
        spent.append(time.process_time() - began)
    return min(spent)


def peak(script: str, count: int) -> float:
    """Peak MiB of a process that runs `script --peak COUNT`."""
    told = "import runpy, sys; from crossmodal.core.files import peak_memory_mib; sys.argv = sys.argv[1:]; "
    told += "runpy.run_path(sys.argv[0], run_name='__main__'); print(peak_memory_mib())"
    command = [sys.executable, "-c", told, script, "--peak", str(count)]
    beside = Path(script).parent  # where its own imports are found
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=beside)
    return float(done.stdout.split()[-1])


def file_of(name: str) -> Path:
    """The file of a benchmark's results on this machine."""
    machine = hardware()
    label = re.sub(r"[^a-z0-9]+", "-", machine.get("gpu", machine.get("cpu", machine["machine"])).lower()).strip("-")
    return Path(__file__).parent / "results" / f"{name}-{label}.json"


def save(name: str, found: dict) -> None:
    path = file_of(name)
    write_json(path, {**found, "hardware": hardware()})
    print(f"written: {path}")
