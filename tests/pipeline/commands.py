"""The commands that a user types, run in a folder."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def call(folder, *command, **variables):
    """Exit code and everything printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **variables}
    environment.pop("CROSSMODAL_PARAMS", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def ok(folder, *command, **variables):
    """Everything printed by a command that must end well."""
    code, text = call(folder, *command, **variables)
    assert code == 0, text
    return text


def snakemake(folder, *words, **variables):
    return call(folder, sys.executable, "-m", "snakemake", "--cores", "2", *words, **variables)
