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


def functions(path: Path) -> set[str]:
    """The public functions of a module."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}


def alike(a: str, b: str) -> bool:
    """Whether two names differ in one letter, or in the plural of their words alone."""
    first, second = sorted((a, b), key=len)
    place = next((i for i, (x, y) in enumerate(zip(first, second, strict=False)) if x != y), len(first))
    letter = first[place + 1 :] == second[place + 1 :] if len(a) == len(b) else first[place:] == second[place + 1 :]
    return letter or [word.rstrip("s") for word in a.split("_")] == [word.rstrip("s") for word in b.split("_")]


def test_names_one_letter_apart_are_told_from_each_other() -> None:
    assert alike("rank_both_ways", "ranks_both_ways")
    assert alike("name_of", "names_of")
    assert not alike("retrieval_ranks", "retrieval_ranks_both_ways")


def test_no_function_is_named_one_letter_away_from_another_of_its_place() -> None:
    """Of the modules in one folder; in `core`, whose modules have little in common, of one module.

    Names of commands and of drawn things are words of their own.
    """
    places: dict[Path, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        if path.parent.name not in ("cli", "drawing"):
            place = path if path.parent.name == "core" else path.parent
            places.setdefault(place, set()).update(functions(path))
    places[SOURCE / "evaluation"] |= places[SOURCE / "evaluation" / "ranking"]
    near = {(a, b) for names in places.values() for a in names for b in names if a < b and alike(a, b)}
    assert near == set()
