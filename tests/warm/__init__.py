"""Commands by a process that has imported what they need: it forks for each, which spares seconds of imports.

For tests of what commands do with files. What a process of its own makes of them, its imports and its ending, is tested
by those that call `tests.pipeline.commands.snakemake`: tests/pipeline/test_dag.py runs the first step of each kind so.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.pipeline.commands import ROOT, call

HERE = Path(__file__).parent
PROGRAMS = ("crossmodal", "snakemake")


@cache
def _client() -> list[str]:
    """The command that passes a command on to the server, which is started here and ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), str(folder / "socket")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )

    def end() -> None:
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    assert server.stdout.readline() == b"ready\n"
    return [sys.executable, "-IS", str(HERE / "client.py"), str(folder / "socket")]


def variables(seen: Path | None = None) -> dict[str, str]:
    """Variables of the environment by which bash, and so each rule of Snakemake and each stage of DVC, asks the server.

    Bash runs a function that it finds in its environment instead of a program of the same name.

    Parameters
    ----------
    seen : an empty folder; the first command of each name (such as `train`) is then a process of its own, as a user's,
        and a folder of that name remains here.
    """
    quoted = " ".join(f"'{word}'" for word in _client())
    functions = {}
    for name in PROGRAMS:
        first = f'mkdir \'{seen}\'/"$1" 2> /dev/null && {{ command {name} "$@"; return; }}; ' if seen else ""
        functions[f"BASH_FUNC_{name}%%"] = f'() {{ {first}{quoted} {name} "$@"; }}'
    return {**functions, "SHELL": shutil.which("bash") or "bash"}


def command(folder: Path, program: str, *words: str, **further: str) -> tuple[int, str]:
    """Exit code and everything printed by one of the `PROGRAMS`.

    A `PYTHONPATH` among the variables must begin with this project's `src`, which has been imported.
    """
    return call(folder, *_client(), program, *words, **variables(), **further)


def snakemake(folder: Path, *words: str, **further: str) -> tuple[int, str]:
    """The same of Snakemake with two cores; each of its steps is one of the server's processes, too."""
    return command(folder, "snakemake", "--cores", "2", *words, **further)
