"""How many cores a step keeps busy."""

import os
import subprocess
import sys

import pytest

from crossmodal.core import cores


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("", None), ("0", None), ("many", None), ("100000", None)])
def test_cores_are_those_of_the_system_at_most_as_many_as_asked(monkeypatch, value, expected):
    monkeypatch.setenv(cores.VARIABLE, value)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert cores.available() == (expected or 3)


SCRIPT = """
import os, time
import torch
from crossmodal.core import cores
cores.compute_in(4)
a = torch.rand(400, 400, generator=torch.Generator().manual_seed(0))
began, spent = time.perf_counter(), time.process_time()
while time.process_time() - spent < 0.5:
    torch.mm(a, a)
load = (time.process_time() - spent) / (time.perf_counter() - began)
print(torch.get_num_threads(), len(os.sched_getaffinity(0)), load)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are confined on Linux only")
def test_one_core_is_one_core_whatever_the_number_of_torch_threads():
    environment = {**os.environ, cores.VARIABLE: "1", "OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    threads, affinity, load = done.stdout.split()
    assert (threads, affinity) == ("4", "1")
    assert float(load) < 1.05  # CPU seconds per second
