"""Files that crash, stall or fill the library which opens them: each is that item's error, and the rest goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are split on Linux alone")

# A library whose files say what becomes of the process that opens them.
SCRIPT = """
import json, logging, os, signal, sys, time
from pathlib import Path
import numpy as np
import pandas as pd
from crossmodal.core import isolation, limits
from crossmodal.features.engine import extraction, store

def load(item):
    said = item.path.read_text()
    with open("opened", "a") as stream:
        stream.write(f"{item.item_id}\\n")
    if said == "crash":
        signal.raise_signal(signal.SIGSEGV)  # to this thread, as a fault in C is
    if said == "grow":
        kept = [np.ones(2**23) for _ in range(32) if not time.sleep(0.05)]  # 2 GiB
    if said == "hang":
        time.sleep(600)
    if said == "once" and not os.path.exists("struck"):
        Path("struck").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return np.array([len(said)], np.float32)

raw = Path(sys.argv[1])
limits.use(limits.Limits(item_seconds=10, item_memory=2**28))
isolation.begin()
names = sorted(path.name for path in raw.iterdir())
rows = pd.DataFrame({"item_id": names, "source": names, "modality": "audio", "partition": "train"})
target = Path("features/audio.x")
recipe = extraction.Recipe(lambda listed: extraction.Work(load, np.stack, 2))
settings = extraction.Settings(on_error="skip", shard=4)
given = extraction.given_of(rows, raw, "audio", Path("."))
extraction.extract(given, recipe, settings, target, extractor="audio", threads=2)
found = store.open_features(target)
print(json.dumps({"skipped": found.manifest["skipped"], "values": found.array[:, 0].tolist(),
                  "ids": found.index.item_id.tolist()}))
"""


def begun(folder: Path, files: dict[str, str]) -> subprocess.Popen:
    (folder / "raw").mkdir()
    for name, text in files.items():
        (folder / "raw" / name).write_text(text)
    command = [sys.executable, "-c", SCRIPT, str(folder / "raw")]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=quiet, stdout=pipe, stderr=pipe, text=True)


def run(folder: Path, files: dict[str, str]) -> tuple[int, dict, str]:
    process = begun(folder, files)
    out, error = process.communicate(timeout=120)
    return process.returncode, json.loads(out) if out else {}, error


def test_a_crash_a_stall_and_a_glutton_are_their_items_errors(tmp_path):
    files = {f"{n:02}": "x" * (n + 1) for n in range(12)}
    files |= {"03": "crash", "06": "grow", "08": "once", "09": "hang", "10": "crash"}
    code, found, error = run(tmp_path, files)
    assert code == 0, error
    assert found["ids"] == ["00", "01", "02", "04", "05", "07", "08", "11"]
    assert found["values"] == [1, 2, 3, 5, 6, 8, 4, 12]
    reasons = {one["item_id"]: one["reason"] for one in found["skipped"]}
    assert sorted(reasons) == ["03", "06", "09", "10"]
    assert "SIGSEGV" in reasons["03"]
    assert "SIGSEGV" in reasons["10"]
    assert "limits.item_memory" in reasons["06"]
    assert "limits.item_seconds" in reasons["09"]
    assert all("\n" not in reason and str(tmp_path / "raw") in reason for reason in reasons.values())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_is_left_behind(tmp_path, number):
    process = begun(tmp_path, {"00": "hang", "01": "hang"})
    while not (tmp_path / "opened").exists():
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()[1]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == -number
    deadline = time.monotonic() + 5
    while Path(f"/proc/{children[0]}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{children[0]}").exists()
