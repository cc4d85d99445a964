"""Models, data sets, extractors, tasks, forms of input and figures are found by being a file, or by an entry point.

Names are listed without importing anything, so that a DAG is built without torch. What the class of a model or a form
declares is asked of Python once for each version of its source, and remembered in the user's cache folder.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

from crossmodal.errors import UserError, suggestion
from crossmodal.files import read_json, sha256_file, write_json

PACKAGES = {
    "models": "crossmodal.models",
    "datasets": "crossmodal.datasets",
    "features": "crossmodal.features",
    "forms": "crossmodal.corpus.forms",
    "tasks": "crossmodal.tasks",
    "figures": "crossmodal.reporting.figures",
}
"""{kind: the package whose files are of it}; other packages have entry points of the group `crossmodal.KIND`."""
KINDS = tuple(PACKAGES)
CALLED = {
    "models": "model",
    "datasets": "data set",
    "features": "extractor",
    "tasks": "task",
    "forms": "form of input",
    "figures": "figure",
}


@cache
def names(kind: str) -> dict[str, str]:
    """{name: module path} of everything of one kind: the files of its package and the entry points."""
    package = importlib.import_module(PACKAGES[kind])
    helpers = set(getattr(package, "HELPERS", ()))
    found = {
        module.name: f"{PACKAGES[kind]}.{module.name}"
        for module in pkgutil.iter_modules(package.__path__)
        if not module.ispkg and not module.name.startswith("_") and module.name not in helpers
    }
    for entry in metadata.entry_points(group=f"crossmodal.{kind}"):
        found.setdefault(entry.name, entry.value.split(":")[0])
    return found


def module(kind: str, name: str) -> ModuleType:
    """The module of a model, data set, extractor, form of input, task or figure.

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


def methods(model: str) -> frozenset[str]:
    """Names of the public methods that a model has beyond those of every model: what it can be asked."""
    return frozenset(_declared(model)["methods"])


def unannotated(model: str) -> tuple[str, ...]:
    """What a model reads of items outside of the annotated pairs."""
    return tuple(_declared(model)["unannotated"])


def further(model: str) -> dict[str, tuple[str, str]]:
    """Name of an input that is not ranked, to the modality whose items it is of and its form."""
    return {name: (modality, form) for name, (modality, form) in _declared(model)["further"]}


def forms_of(model: str) -> tuple[str, ...]:
    """The names of all forms that a model may read, whatever its settings."""
    declared = _declared(model)
    read = [*dict(declared["reads"]).values(), *source_reads(model).values(), *beside(model).values()]
    read += [form for _, form in further(model).values()]
    read += ["vector"] if "modalities" in declared["defaults"] else []
    read += ["images"] if "image_network" in declared["defaults"] else []
    return tuple(sorted(set(read)))


@cache
def form(name: str, modality: str) -> dict[str, Any]:
    """What a form of input declares for the items of a modality; without torch where it has been asked before.

    Returns
    -------
    `array`: the form whose extractors make its array, or None; `files`: further files of `data/DATASET` that it reads;
    `axes` and `outside` of `crossmodal.corpus.forms.base.Form`.

    Raises
    ------
    UserError : no form of that name, with the nearest known one; a module that is no form.
    """
    path = _path_of("forms", name)

    def ask() -> dict[str, Any]:
        try:
            one = module("forms", name).Form(name)
            asked = {"array": one.array(modality), "files": [*one.files(modality)]}
            return {**asked, "axes": one.axes, "outside": one.outside}
        except (ImportError, SyntaxError, AttributeError) as error:
            raise UserError(
                f"form of input {name!r} ({path}): {error}; its module must be importable and have a class `Form`, of "
                f"crossmodal.corpus.forms.base.Form"
            ) from error

    return _remembered(f"declared by {_file(path)} of {modality}", source_hash_of((path,)), ask)


@cache
def _declared(model: str) -> dict[str, Any]:
    """What a model's class declares or inherits, as Python says; without torch where it has been asked before."""
    path = _path_of("models", model)
    return _remembered(f"declared by {_file(path)}", source_hash_of((path,)), lambda: _asked(model))


def _asked(model: str) -> dict[str, Any]:
    path = _path_of("models", model)
    try:
        found = module("models", model)
        fields = found.Settings.model_fields
        defaults = {key: fields[key].get_default() for key in ("modalities", "image_network") if key in fields}
        # Pairs, not a mapping: a model's scores take the modalities in its order, which JSON with sorted keys loses.
        declared = {what: [*getattr(found.Model, what).items()] for what in ("reads", "source_reads", "beside")}
        declared["unannotated"] = [*found.Model.unannotated]
        declared["further"] = [[key, [*value]] for key, value in found.Model.further.items()]
        shared = dir(importlib.import_module("crossmodal.models.base").Model)
        declared["methods"] = sorted(name for name in {*dir(found.Model)} - {*shared} if not name.startswith("_"))
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
def source_hash(kind: str, name: str, also: tuple[str, ...] = ()) -> str:
    """Hash of the source that a rule runs for this model, data set, extractor, task, form of input or figure.

    Covers the module, what it imports of this package and of those of entry points, the modules in `also`, and the
    files of data that any of these names beside itself; for a model also how it is built and trained, and the forms
    that it may read. What it does not cover cannot change a result.
    """
    further = (*TRAINING, *(_path_of("forms", form) for form in forms_of(name))) if kind == "models" else ()
    return source_hash_of((_path_of(kind, name), *further, *also))


TRAINING = tuple(
    f"crossmodal.{name}" for name in ("training.loop", "training.closed_form", "corpus.opening", "runs.build")
)
"""What trained weights depend on besides the model itself and the forms that it reads."""


def source_hash_of(modules: tuple[str, ...]) -> str:
    """Hash of the source of modules and of what they import of this package and of those of entry points."""
    first = [*modules]
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
        *("features.contract", "features.extraction"),
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
    digest, imported, beside = _remembered(f"source {path} {file}", version, lambda: _parsed(text, path, file))
    if beside:
        content = [_content(file.parent / name) for name in beside]
        digest = hashlib.sha256(repr([digest, content]).encode()).hexdigest()
    own = tuple(f"{package}." for package in _packages())
    return digest, tuple(target for target in imported if f"{target}.".startswith(own) and _file(target))


def _parsed(text: bytes, path: str, file: Path) -> tuple[str, list[str], list[str]]:
    """Hash of a module's syntax tree, the sorted names of what may be modules among its imports, and its data.

    The data are the files and folders that it names beside itself, such as committed weights, by
    `Path(__file__).parent / "weights" / "world.safetensors"`.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UserError(f"{file}: line {error.lineno}: is not valid Python: {error.msg}") from None
    package = path.split(".") if file.name == "__init__.py" else path.split(".")[:-1]
    imported: set[str] = set()
    beside: set[str] = set()
    for node in _run(tree):
        beside |= {name for name in [_beside(node)] if name}
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []  # of `from . import one`
            origin = ".".join([*above, *([node.module] if node.module else [])])
            imported |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    named = sorted(name for name in beside if not any(other.startswith(f"{name}/") for other in beside))
    # The tree, not the text: another comment, docstring or line break retrains nothing.
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [one for one in node.body if not _is_text(one)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), sorted(imported), named


def _beside(node: ast.AST) -> str:
    """`A/B` of an expression `Path(__file__).parent / "A" / "B"`, else nothing."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)):
        return ""
    if ast.unparse(node.left) == "Path(__file__).parent":
        return str(node.right.value)
    above = _beside(node.left)
    return f"{above}/{node.right.value}" if above else ""


def _content(path: Path) -> list[tuple[str, str]]:
    """Names and hashes of a file, or of all files below a folder; of what is not there nothing."""
    files = [one for one in (path, *sorted(path.rglob("*"))) if one.is_file()]
    return [(str(one.relative_to(path.parent)), sha256_file(one)) for one in files]


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree but for blocks `if TYPE_CHECKING:`, which no program runs."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _run(child)


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is nothing but a text, which says something to a reader alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _packages() -> frozenset[str]:
    """Packages whose sources are followed: this one, and those that bring something of a kind of their own."""
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
