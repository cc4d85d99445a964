"""A process that imports what commands need, and forks for each: `python server.py SOCKET`.

It prints `ready` when it listens, and ends with its standard input.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import select
import signal
import socket
import sys
from collections.abc import Callable

PROGRAMS = {"crossmodal": ("crossmodal.cli", "main"), "snakemake": ("snakemake.cli", "main")}
IMPORTED = (
    *("crossmodal.dag", "crossmodal.features.engine.driver", "crossmodal.runs.sweep", "crossmodal.runs.train"),
    *("crossmodal.runs.evaluate", "crossmodal.reporting.page.report", "crossmodal.reporting.results.claims"),
    *("crossmodal.reporting.results.collect", "crossmodal.reporting.results.quality_control"),
    *("crossmodal.reporting.tables.terminal", "crossmodal.reporting.tables.writers", "matplotlib.figure"),
)
PACKAGES = ("corpus.forms", "datasets", "features", "models", "reporting.figures", "tasks")
"""Packages whose modules are found by name, so that no import statement leads to them."""


def prepare() -> dict[str, Callable[[], None]]:
    """Import what commands need; returns their entry points. Nothing is computed, as no thread may be left."""
    for package in PACKAGES:
        folder = importlib.import_module(f"crossmodal.{package}").__path__
        for module in pkgutil.iter_modules(folder, f"crossmodal.{package}."):
            importlib.import_module(module.name)
    for name in IMPORTED:
        importlib.import_module(name)
    entries = {name: getattr(importlib.import_module(path), entry) for name, (path, entry) in PROGRAMS.items()}
    importlib.import_module("snakemake.cli").get_argument_parser()  # imports the plugins
    return entries


def received(connection: socket.socket) -> tuple[list[str], list[int]]:
    """The parts of a client's request, and its three streams."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    text = b"".join(iter(lambda: connection.recv(2**16), b""))
    return text.decode(errors="surrogateescape").split("\0"), streams


def run(parts: list[str], streams: list[int], entries: dict[str, Callable[[], None]]) -> int:
    """Become the process that runs the command; returns its exit code."""
    folder, count, *rest = parts
    variables, (program, *words) = rest[: int(count)], rest[int(count) :]
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    imported_from = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(variable.split("=", 1) for variable in variables)
    here = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*here, *(place for place in sys.path if place not in imported_from)]
    importlib.invalidate_caches()
    sys.argv = [program, *words]
    try:
        entries[program]()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def serve(connection: socket.socket, entries: dict[str, Callable[[], None]]) -> None:
    """Run a client's command in a child, and send its exit code, as bash would say it."""
    parts, streams = received(connection)
    child = os.fork()
    if not child:
        connection.close()
        code = 1
        try:
            code = run(parts, streams, entries)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(str(code if code >= 0 else 128 - code).encode())


def main() -> None:
    del sys.path[0]  # the folder of this file
    entries = prepare()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(sys.argv[1])
    listening.listen(64)
    print("ready", flush=True)
    children: set[int] = set()
    while True:
        ready, _, _ = select.select([listening, 0], [], [], 1.0)
        while children and (ended := os.waitpid(-1, os.WNOHANG)[0]):
            children.discard(ended)
        if 0 in ready:
            break
        if listening in ready:
            connection, _ = listening.accept()
            child = os.fork()
            if not child:
                listening.close()
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                serve(connection, entries)
                os._exit(0)
            children.add(child)
            connection.close()


if __name__ == "__main__":
    main()
