"""Models, data sets and extractors are found by being a file (or another package's entry point): no central list.

Names are listed without importing anything, so that a DAG is built without torch. What a model's class declares is
asked of Python once for each version of its source, and remembered in the user's cache folder.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

from crossmodal.errors import UserError, suggestion
from crossmodal.files import read_json, write_json

KINDS = ("models", "datasets", "features")
CALLED = {"models": "model", "datasets": "data set", "features": "extractor"}


@cache
def names(kind: str) -> dict[str, str]:
    """{name: module path} of everything of one kind: the files of `crossmodal.KIND` and the entry points."""
    package = importlib.import_module(f"crossmodal.{kind}")
    helpers = set(getattr(package, "HELPERS", ()))
    found = {
        module.name: f"crossmodal.{kind}.{module.name}"
        for module in pkgutil.iter_modules(package.__path__)
        if not module.ispkg and not module.name.startswith("_") and module.name not in helpers
    }
    for entry in metadata.entry_points(group=f"crossmodal.{kind}"):
        found.setdefault(entry.name, entry.value.split(":")[0])
    return found


def module(kind: str, name: str) -> ModuleType:
    """The module of a model, data set or extractor.

    Raises
    ------
    UserError : nothing of that name, with the nearest known one.
    """
    return importlib.import_module(_path_of(kind, name))


def _path_of(kind: str, name: str) -> str:
    """The module path of a name."""
    known = names(kind)
    if name not in known:
        raise UserError(f"{CALLED[kind]} {name!r} is unknown" + suggestion(name, known))
    return known[name]


# -- what a model's class declares ------------------------------------------------------------------------------------


def reads(model: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Modality to form (`vector`, `regions`, `tokens`) that a model reads with these settings over its defaults.

    `modalities` among them chooses others than the class declares, which are vectors; `image_network` has images read
    as such: `reads` of the model when it is built.
    """
    declared = _declared(model)
    settings = {**declared["defaults"], **(settings or {})}
    modalities = settings.get("modalities")
    found = dict.fromkeys(modalities, "vector") if modalities else dict(declared["reads"])
    return {**found, "image": "images"} if settings.get("image_network") else found


def source_reads(model: str) -> dict[str, str]:
    """The same of the data set that a model transfers knowledge from; empty for one that transfers none."""
    return dict(_declared(model)["source_reads"])


def beside(model: str) -> dict[str, str]:
    """Modality to the second form that a model reads it in."""
    return dict(_declared(model)["beside"])


def unannotated(model: str) -> tuple[str, ...]:
    """What a model reads of items outside of the annotated pairs."""
    return tuple(_declared(model)["unannotated"])


@cache
def _declared(model: str) -> dict[str, Any]:
    """What a model's class declares or inherits, as Python says; without torch where it has been asked before."""
    file = _file(_path_of("models", model))
    return _remembered(f"declared by {file}", source_hash("models", model), lambda: _asked(model))


def _asked(model: str) -> dict[str, Any]:
    path = _path_of("models", model)
    try:
        found = module("models", model)
        fields = found.Settings.model_fields
        defaults = {key: fields[key].get_default() for key in ("modalities", "image_network") if key in fields}
        # Pairs, not a mapping: a model's scores take the modalities in its order, which JSON with sorted keys loses.
        declared = {what: [*getattr(found.Model, what).items()] for what in ("reads", "source_reads", "beside")}
        declared["unannotated"] = [*found.Model.unannotated]
    except (ImportError, SyntaxError, AttributeError) as error:
        raise UserError(
            f"model {model!r} ({path}): {error}; its module must be importable and have the classes `Model`, of "
            f"crossmodal.models.base.Model, and `Settings`"
        ) from error
    return {**declared, "defaults": defaults}


def _remembered(what: str, version: str, make: Callable[[], Any]) -> Any:
    """`make()`, or what it gave for this version of `what` before, from a file of the user's cache folder.

    One file for each `what`, so that the folder does not grow with every version. Where the folder cannot be written or
    a file of it is damaged, or another version of this module or of Python wrote it, `make` is called again.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossmodal"
    path = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.json"
    version = f"{version} {sys.implementation.cache_tag} {_own_version()}"
    with suppress(UserError, OSError, KeyError, TypeError):
        known = read_json(path)
        if known["version"] == version:
            return known["value"]
    value = make()
    with suppress(UserError, OSError):
        write_json(path, {"what": what, "version": version, "value": value})
    return value


@cache
def _own_version() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


# -- the source that a rule runs --------------------------------------------------------------------------------------


@cache
def source_hash(kind: str, name: str) -> str:
    """Hash of the source that a rule runs for this model, data set or extractor, without importing it.

    Covers the module and what it imports of this package and of those of entry points; for a model also how it is
    trained, and on what. What it does not cover cannot change a result (tables, reports, the command line).
    """
    first = [_path_of(kind, name)]
    first += ["crossmodal.training.loop", "crossmodal.training.data"] if kind == "models" else []
    sources: dict[str, str] = {}
    while first:
        path = first.pop()
        if path not in sources and not f"{path}.".startswith(tuple(f"{one}." for one in _NOT_FOLLOWED)):
            sources[path], imported = _source(path)
            first += imported
    return hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:16]


# A change here reaches results through data that is hashed itself, or not at all.
_NOT_FOLLOWED = tuple(
    f"crossmodal.{name}"
    for name in (
        *("errors", "files", "fingerprints", "isolation", "limits", "paths", "registry", "experiments"),
        "features.extraction",
    )
)


@cache
def _source(path: str) -> tuple[str, tuple[str, ...]]:
    """Hash of a module's source, and the modules that it imports of this package and of those of entry points."""
    file = _file(path)
    if file is None:
        return "", ()
    text = file.read_bytes()
    version = hashlib.sha256(text).hexdigest()
    digest, imported = _remembered(f"source {path} {file}", version, lambda: _parsed(text, path, file))
    own = tuple(f"{package}." for package in _packages())
    return digest, tuple(target for target in imported if f"{target}.".startswith(own) and _file(target))


def _parsed(text: bytes, path: str, file: Path) -> tuple[str, list[str]]:
    """Hash of a module's syntax tree, and the sorted names of what may be modules among its imports."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UserError(f"{file}: line {error.lineno}: is not valid Python: {error.msg}") from None
    package = path.split(".") if file.name == "__init__.py" else path.split(".")[:-1]
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []  # of `from . import one`
            origin = ".".join([*above, *([node.module] if node.module else [])])
            imported |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    # The tree, not the text: another comment or line break retrains nothing.
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), sorted(imported)


def _packages() -> frozenset[str]:
    """Packages whose sources are followed: this one, and those that bring models, data sets or extractors."""
    return frozenset(path.split(".")[0] for kind in KINDS for path in names(kind).values())


@cache
def _file(path: str) -> Path | None:
    """The file of a module, by where it must lie: to ask for its spec would import the packages that it lies in."""
    top, *below = path.split(".")
    spec = util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    if spec.submodule_search_locations is None:
        return None if below else Path(spec.origin)
    for root in map(Path, spec.submodule_search_locations):
        for file in (root.joinpath(*below, "__init__.py"), root.joinpath(*below).with_suffix(".py")):
            if file.is_file():
                return file
    return None
