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
    which are vectors.
    """
    modalities = (settings or {}).get("modalities")
    return dict.fromkeys(modalities, "vector") if modalities else _declared(model, "reads")


def source_reads(model: str) -> dict[str, str]:
    """The same of the data set that a model transfers knowledge from; empty for one that transfers none."""
    return _declared(model, "source_reads")


def beside(model: str) -> dict[str, str]:
    """Modality to the second form that a model reads it in, by its source alone."""
    return _declared(model, "beside")


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
    digest = hashlib.sha256()
    seen: set[str] = set()
    _add_source(known[name], digest, seen)
    if kind == "models":
        for name in ("crossmodal.training.loop", "crossmodal.training.data"):  # how it is trained, and on what
            _add_source(name, digest, seen)
    return digest.hexdigest()[:16]


# A change here reaches results through data that is hashed itself, or not at all.
_NOT_FOLLOWED = ("crossmodal.errors", "crossmodal.files", "crossmodal.registry", "crossmodal.experiments")


def _add_source(name: str, digest: hashlib._Hash, seen: set[str]) -> None:
    if name in seen or f"{name}.".startswith(tuple(f"{one}." for one in _NOT_FOLLOWED)):
        return
    seen.add(name)
    spec = util.find_spec(name)
    if spec is None or spec.origin is None:
        return
    tree = ast.parse(Path(spec.origin).read_bytes())
    own = ("crossmodal.", f"{name.split('.')[0]}.")  # another package's extractor may have modules of its own
    # The tree, not the text: another comment or line break retrains nothing.
    digest.update(name.encode() + b"\0" + ast.dump(tree).encode())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(own):
            targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names if alias.name.startswith(own)]
        else:
            continue
        for target in sorted(targets):
            if _is_module(target):
                _add_source(target, digest, seen)


def _is_module(name: str) -> bool:
    try:
        return util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
