"""An extractor of another package, found by its entry point and run by the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from crossmodal.core import registry
from crossmodal.datasets import items
from crossmodal.features.engine import store
from tests.prepared import forget, install

ROOT = Path(__file__).parents[2]
MODULE = '''
"""Mean, least and greatest byte of a file; its library dies of some."""
import os

import numpy as np
from pydantic import Field

from bytestats.help import statistics
from crossmodal.features.engine import extraction


class Settings(extraction.Settings):
    factor: float = Field(1.0, description="of the values")


def load(item):
    data = item.path.read_bytes()
    if data == b"crash":
        os.abort()
    return np.frombuffer(data, np.uint8)


def recipe(settings, given):
    work = extraction.Work(
        load,
        lambda loaded: np.stack([settings.factor * statistics(data) for data in loaded]),
    )
    return extraction.Recipe(lambda listed: work)
'''
HELP = "def statistics(data):\n    import numpy as np\n    return np.array([data.mean(), data.min(), data.max()])\n"


PACKAGE = ("bytestats", {"extractor": MODULE, "help": HELP}, {"features": {"bytestats": "extractor"}})


def test_an_installed_extractor_runs_and_a_file_that_crashes_it_is_left_out(tmp_path):
    site, project = tmp_path / "site", tmp_path / "project"
    install(site, *PACKAGE)
    raw = project / "data" / "mine" / "raw"
    raw.mkdir(parents=True)
    rows = []
    for n in range(4):
        (raw / f"{n}.wav").write_bytes(bytes([n, 10 * n, 100]))
        rows.append((f"a{n}", "audio", f"g{n}", None, ("train", "train", "val", "test")[n], f"{n}.wav"))
    (raw / "4.wav").write_bytes(b"crash")
    rows.append(("a4", "audio", "g4", None, "train", "4.wav"))
    items.write(pd.DataFrame(rows, columns=list(items.COLUMNS)), project / "data" / "mine", {"root": "raw"})
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["papers"] = []
    params["datasets"]["mine"] = {"reader": "karpathy", "title": "Mine"}
    params["extractors"]["mine"] = {"extractor": "bytestats", "modality": "audio", "factor": 2, "on_error": "skip"}
    (project / "params.yaml").write_text(yaml.safe_dump(params))

    def crossmodal(*words: str) -> str:
        path = os.pathsep.join([str(ROOT / "src"), str(site)])
        command = [sys.executable, "-m", "crossmodal", *words]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "bytestats  (bytestats.extractor)" in crossmodal("list", "extractors")
    crossmodal("extract", "mine", "mine")
    found = store.open_features(project / "data" / "mine" / "features" / "audio.mine")
    expected = [[2 * (n + 10 * n + 100) / 3, 2 * n, 200] for n in range(4)]
    np.testing.assert_allclose(found.array, expected, rtol=1e-6)
    assert found.manifest["extractor"] == "bytestats"
    [lost] = found.manifest["skipped"]
    assert lost["item_id"] == "a4"
    assert "4.wav: ends the process that reads it (SIGABRT)" in lost["reason"]
    assert found.manifest["settings"] == {"dtype": "float32", "factor": 2}


def test_a_changed_source_of_another_package_is_noticed(outside):
    """Its module, and what it imports of its own package."""
    folder = outside(*PACKAGE)
    before = registry.source_hash("features", "bytestats")
    for name in ("extractor.py", "help.py"):
        path = folder / name
        path.write_text(path.read_text() + "\nCHANGED = True\n")
        forget("bytestats")
        after = registry.source_hash("features", "bytestats")
        assert after != before
        before = after
