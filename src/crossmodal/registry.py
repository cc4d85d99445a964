"""Models, data sets and extractors are found by being a file (or another package's entry point): no central list.

Names are listed without importing anything, so that a DAG is built without torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

from crossmodal.errors import UserError, suggestion

KINDS = ("models", "datasets", "features")


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
    known = names(kind)
    if name not in known:
        raise UserError(
            f"{kind[:-1] if kind != 'features' else 'extractor'} {name!r} is unknown" + suggestion(name, known)
        )
    return importlib.import_module(known[name])


def reads(model: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Modality to form (`vector`, `regions`, `tokens`) that a model reads, by its source and its settings alone.

    A model that says nothing of it reads what `models.base.Model` does. `modalities` among the settings chooses others,
    which are vectors; `image_network` has images read as such.
    """
    settings = settings or {}
    modalities = settings.get("modalities")
    found = dict.fromkeys(modalities, "vector") if modalities else _declared(model, "reads")
    return {**found, "image": "images"} if settings.get("image_network") else found


def source_reads(model: str) -> dict[str, str]:
    """The same of the data set that a model transfers knowledge from; empty for one that transfers none."""
    return _declared(model, "source_reads")


def beside(model: str) -> dict[str, str]:
    """Modality to the second form that a model reads it in, by its source alone."""
    return _declared(model, "beside")


def unannotated(model: str) -> tuple[str, ...]:
    """What a model reads of items outside of the annotated pairs, by its source alone."""
    return _declared(model, "unannotated")


@cache
def _declared(model: str, what: str) -> dict[str, str]:
    for name in (model, "base"):
        origin = util.find_spec(names("models").get(name, f"crossmodal.models.{name}")).origin
        for found in ast.parse(Path(origin).read_bytes()).body:
            for node in found.body if isinstance(found, ast.ClassDef) and found.name == "Model" else ():
                if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == what and node.value:
                    return ast.literal_eval(node.value)
    raise AssertionError(f"models.base says what `{what}` is")


@cache
def source_hash(kind: str, name: str) -> str:
    """Hash of the source that a rule runs for this model, data set or extractor, without importing it.

    Covers the module, the package's shared `parts` that it names, and for models the training loop. What it does not
    cover cannot change a result (tables, reports, the command line).
    """
    known = names(kind)
    if name not in known:
        raise UserError(f"{kind}: {name!r} is unknown" + suggestion(name, known))
    # For a model also how it is trained, and on what.
    first = [known[name], *(("crossmodal.training.loop", "crossmodal.training.data") if kind == "models" else ())]
    sources: dict[str, str] = {}
    while first:
        name = first.pop()
        if name not in sources and not f"{name}.".startswith(tuple(f"{one}." for one in _NOT_FOLLOWED)):
            sources[name], imported = _source(name)
            first += imported
    return hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:16]


# A change here reaches results through data that is hashed itself, or not at all.
_NOT_FOLLOWED = tuple(
    f"crossmodal.{name}" for name in ("errors", "files", "registry", "experiments", "features.extraction")
)


@cache
def _source(name: str) -> tuple[str, tuple[str, ...]]:
    """Hash of a module's source, and the modules of its own package that it imports."""
    path = _path(name)
    if path is None:
        return "", ()
    tree = ast.parse(path.read_bytes())
    own = ("crossmodal.", f"{name.split('.')[0]}.")  # another package's extractor may have modules of its own
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(own):
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names if alias.name.startswith(own)}
    # The tree, not the text: another comment or line break retrains nothing.
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return digest, tuple(sorted(target for target in imported if _path(target)))


def _path(name: str) -> Path | None:
    """The file of a module, by where it must lie: to ask for its spec would import the packages that it lies in."""
    top, *below = name.split(".")
    spec = util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    if spec.submodule_search_locations is None:
        return None if below else Path(spec.origin)
    for root in map(Path, spec.submodule_search_locations):
        for path in (root.joinpath(*below, "__init__.py"), root.joinpath(*below).with_suffix(".py")):
            if path.is_file():
                return path
    return None
