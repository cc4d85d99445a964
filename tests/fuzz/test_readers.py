"""Mutated files to all readers; `make fuzz` takes thousands of each, the suite a few."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNT = os.environ.get("CROSSMODAL_FUZZ", "12")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded where Linux tells of it")
def test_only_results_and_errors_of_one_line_come_out():
    """One process: a library that crashes is told by the last name printed."""
    command = [sys.executable, "-m", "tests.fuzz.readers", COUNT]
    seconds = 120 + 40 * 2 * int(COUNT)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.returncode, done.stderr[-3000:])
    assert len(done.stdout.splitlines()) > 25
