"""Dry runs of several Snakemake commands by one process, which imports what planning needs once and forks for each.

`python planning.py FOLDER`, with a JSON list of commands (lists of words) on the standard input; a JSON list of
[exit code, output] on the standard output.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import snakemake.cli

from crossmodal.core import registry


def planned(words: list[str], log: Path) -> int:
    """The exit code of one command, run in a child of this process; its output is written to `log`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        with log.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        snakemake.cli.main(words)
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    snakemake.cli.get_argument_parser()  # imports the plugins
    for kind in registry.KINDS:
        for name in registry.names(kind):
            registry.module(kind, name)
    answers = []
    for command in json.load(sys.stdin):
        log = Path("dry-run.log")
        answers.append([planned(command, log), log.read_text(errors="replace")])
    json.dump(answers, sys.stdout)
