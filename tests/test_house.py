"""How the package is laid out: no two files import each other, and no room imports one that stands above it."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from crossmodal.core import registry

SOURCE = Path(registry.__file__).parents[1]
ROOMS = (  # from the ground up
    *("core", "modalities", "language", "released", "downloads", "datasets", "features", "models", "corpus"),
    *("training", "evaluation", "tasks", "experiments", "runs", "inference", "rehearsal", "reporting"),
)
TOP = ("", "__main__", "cli", "dag", "library")


def imports() -> dict[str, set[str]]:
    """Module to the modules of the package that it imports, wherever in the file; not those for type checkers."""
    paths = {".".join(p.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): p
             for p in SOURCE.rglob("*.py")}  # fmt: skip
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        found[name] = set()
        for node in registry._run(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                named = {f"{node.module}.{alias.name}" for alias in node.names} & paths.keys()
                found[name] |= named or ({node.module} & paths.keys())
    return found


def test_no_two_files_import_each_other() -> None:
    graph = imports()
    assert len(graph) > 200
    order = [*TopologicalSorter(graph).static_order()]  # raises CycleError and names the files
    assert order.index("crossmodal.core.errors") < order.index("crossmodal.cli")


def test_imports_go_down_only() -> None:
    upward = []
    for name, targets in imports().items():
        room = name.split(".")[1] if "." in name else ""
        for target in targets:
            other = target.split(".")[1]
            above = other in ROOMS and (ROOMS.index(other) > ROOMS.index(room) if room in ROOMS else room not in TOP)
            if above:
                upward.append(f"{name} -> {target}")
    assert upward == []
