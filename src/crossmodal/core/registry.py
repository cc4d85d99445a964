"""The registry of models, data sets, extractors, tasks, forms of input and figures: files of a package or entry points.

Names are listed without importing anything, so that the DAG is built without torch. The declarations of the class of a
model or form are read by an import once per version of its source, and cached in the user's cache folder.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import pkgutil
import sys
import tokenize
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any

from crossmodal.core.errors import UserError, suggestion
from crossmodal.core.files import read_json, sha256_file, write_json

PACKAGES = {
    "models": "crossmodal.models",
    "datasets": "crossmodal.datasets",
    "features": "crossmodal.features",
    "forms": "crossmodal.corpus.forms",
    "tasks": "crossmodal.tasks",
    "figures": "crossmodal.reporting.figures",
}
"""{kind: the package with its modules}; other packages add entry points of the group `crossmodal.KIND`."""
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
def _entry_points(path: tuple[str, ...]) -> metadata.EntryPoints:
    """All entry points of the packages on `sys.path`: reading those of one group would take as long."""
    return metadata.entry_points()


@cache
def names(kind: str) -> dict[str, str]:
    """{name: module path} of all modules of a kind: the files of its package and the entry points."""
    package = importlib.import_module(PACKAGES[kind])
    helpers = set(getattr(package, "HELPERS", ()))
    modules = {
        module.name: f"{PACKAGES[kind]}.{module.name}"
        for module in pkgutil.iter_modules(package.__path__)
        if not module.ispkg and not module.name.startswith("_") and module.name not in helpers
    }
    for entry in _entry_points(tuple(sys.path)).select(group=f"crossmodal.{kind}"):
        modules.setdefault(entry.name, entry.value.split(":")[0])
    return modules


def module(kind: str, name: str) -> ModuleType:
    """The module of a model, data set, extractor, form of input, task or figure.

    Raises
    ------
    UserError : nothing has that name; the message suggests the nearest known one.
    """
    return importlib.import_module(_path_of(kind, name))


def about(kind: str, name: str) -> str:
    """The first line of a module's docstring, without importing the module; empty where it has none.

    Raises
    ------
    UserError : nothing has that name.
    """
    file = _file(_path_of(kind, name))
    if file is None:
        return ""
    quiet = (tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)
    with file.open("rb") as stream, suppress(tokenize.TokenError, SyntaxError, ValueError):
        first = next(token for token in tokenize.tokenize(stream.readline) if token.type not in quiet)
        text = ast.literal_eval(first.string) if first.type == tokenize.STRING else ""
        return next(iter(text.strip().splitlines()), "") if isinstance(text, str) else ""
    return ""


def _path_of(kind: str, name: str) -> str:
    """The module path of the name of a model, data set and so on."""
    listed = names(kind)
    if name not in listed:
        raise UserError(f"{CALLED[kind]} {name!r} is unknown" + suggestion(name, listed))
    return listed[name]


# -- what a model's class declares ------------------------------------------------------------------------------------


def reads(model: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """{modality: form} (`vector`, `regions`, `tokens`) that a model reads, with these settings over its defaults.

    The setting `modalities` replaces the modalities that the class declares, by vectors; with `image_network` the model
    reads images. The result is `reads` of the built model.
    """
    declared = _declared(model)
    settings = {**declared["defaults"], **(settings or {})}
    modalities = settings.get("modalities")
    forms = dict.fromkeys(modalities, "vector") if modalities else dict(declared["reads"])
    return {**forms, "image": "images"} if settings.get("image_network") else forms


def chooses_modalities(model: str) -> bool:
    """Whether a setting of the model chooses the modalities that it reads, as vectors."""
    return "modalities" in _declared(model)["defaults"]


def source_reads(model: str) -> dict[str, str]:
    """{modality: form} for the data set that a model transfers knowledge from; empty for a model without transfer."""
    return dict(_declared(model)["source_reads"])


def second_forms(model: str) -> dict[str, str]:
    """{modality: the second form that a model reads it in}."""
    return dict(_declared(model)["second_form"])


def methods(model: str) -> frozenset[str]:
    """The names of the public methods that a model has beyond those of every model, without those on request."""
    return frozenset(_declared(model)["methods"]) - on_request(model)


def on_request(model: str) -> frozenset[str]:
    """The methods of tasks that a model is asked only where an experiment names the task (`Model.on_request`)."""
    return frozenset(_declared(model)["on_request"])


def unannotated(model: str) -> tuple[str, ...]:
    """The kinds of inputs that a model reads of items outside of the annotated pairs."""
    return tuple(_declared(model)["unannotated"])


def further(model: str) -> dict[str, tuple[str, str]]:
    """{name of an input that is not ranked: (modality of its items, form)}."""
    return {name: (modality, form) for name, (modality, form) in _declared(model)["further"]}


def forms_of(model: str) -> tuple[str, ...]:
    """The names of all forms that a model may read, whatever its settings."""
    declared = _declared(model)
    read = [*dict(declared["reads"]).values(), *source_reads(model).values(), *second_forms(model).values()]
    read += [form for _, form in further(model).values()]
    read += ["vector"] if "modalities" in declared["defaults"] else []
    read += ["images"] if "image_network" in declared["defaults"] else []
    return tuple(sorted(set(read)))


@cache
def form(name: str, modality: str) -> dict[str, Any]:
    """The declarations of a form of input for the items of a modality, without torch where they are cached.

    Returns
    -------
    `array`: the form whose extractors compute its array, or None; `files`: further files of `data/DATASET` that it
    reads; `axes` and `outside` of `crossmodal.corpus.forms.base.Form`.

    Raises
    ------
    UserError : no form has that name (the message suggests the nearest one), or its module is no form.
    """
    path = _path_of("forms", name)

    def ask() -> dict[str, Any]:
        try:
            opened = module("forms", name).Form(name)
            declared = {"array": opened.array(modality), "files": [*opened.files(modality)]}
            return {**declared, "axes": opened.axes, "outside": opened.outside}
        except (ImportError, SyntaxError, AttributeError, TypeError) as error:
            raise UserError(
                f"form of input {name!r} ({path}): {error}; its module must be importable and have a class `Form`, of "
                f"crossmodal.corpus.forms.base.Form"
            ) from error

    return _remembered(f"declared by {_file(path)} of {modality}", source_hash_of((path,)), ask)


@cache
def _declared(model: str) -> dict[str, Any]:
    """The declarations of a model's class, inherited ones included, without torch where they are cached."""
    path = _path_of("models", model)
    return _remembered(f"declared by {_file(path)}", source_hash_of((path,)), lambda: _inspected(model))


def _inspected(model: str) -> dict[str, Any]:
    path = _path_of("models", model)
    try:
        loaded = module("models", model)
        _check_model(model, loaded)
        fields = loaded.Settings.model_fields
        defaults = {key: fields[key].get_default() for key in ("modalities", "image_network") if key in fields}
        # Pairs keep the order of the modalities, which a model's scores need and JSON with sorted keys would lose.
        declared = {what: [*getattr(loaded.Model, what).items()] for what in ("reads", "source_reads", "second_form")}
        declared["unannotated"] = [*loaded.Model.unannotated]
        declared["on_request"] = [*loaded.Model.on_request]
        declared["further"] = [[key, [*value]] for key, value in loaded.Model.further.items()]
        shared = dir(importlib.import_module("crossmodal.models.base").Model)
        declared["methods"] = sorted(name for name in {*dir(loaded.Model)} - {*shared} if not name.startswith("_"))
    except (ImportError, SyntaxError, AttributeError) as error:
        raise UserError(
            f"model {model!r} ({path}): {error}; its module must be importable and have the classes `Model`, of "
            f"crossmodal.models.base.Model, and `Settings`"
        ) from error
    return {**declared, "defaults": defaults}


def _check_model(model: str, found: ModuleType) -> None:
    """Check that a module has what every model needs.

    Raises
    ------
    AttributeError : it has no class `Model` or `Settings`.
    UserError : one of these is of another kind, or what a training needs is missing.
    """
    base = importlib.import_module("crossmodal.models.base")
    where = f"model {model!r} ({found.__name__})"
    for name in ("Model", "Settings"):
        own = getattr(found, name)
        if not (isinstance(own, type) and issubclass(own, getattr(base, name))):
            raise UserError(f"{where}: its class `{name}` must derive from crossmodal.models.base.{name}")
    if not found.Model.trains:
        return
    if found.Model.loss is base.Model.loss:
        raise UserError(f"{where}: its class `Model` has no method `loss`; define it, or set `trains = False`")
    missing = [name for name in ("batch_size", "clip", "clip_by") if name not in found.Settings.model_fields]
    if missing:
        raise UserError(
            f"{where}: its class `Settings` has no {', '.join(missing)}, which training reads; derive it from "
            f"crossmodal.models.base.Schedule"
        )


def _remembered(what: str, version: str, make: Callable[[], Any]) -> Any:
    """`make()`, or its earlier result for this version of `what`, from a file of the user's cache folder.

    There is one file per `what`, so that the folder does not grow with every version. `make` is called again where the
    folder cannot be written, or the file is damaged or from another version of this module or of Python.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossmodal"
    path = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.json"
    version = f"{version} {sys.implementation.cache_tag} {_own_version()}"
    with suppress(UserError, OSError, KeyError, TypeError):
        record = read_json(path)
        if record["version"] == version:
            return record["value"]
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
    """The hash of the source that a rule runs for this model, data set, extractor, task, form of input or figure.

    It covers the module, its imports from this package and from those of entry points, the modules in `also`, and the
    data files that any of these names relative to itself; for a model also how it is built and trained, and the forms
    that it may read. All other code cannot change a result.
    """
    further = (*TRAINING, *(_path_of("forms", form) for form in forms_of(name))) if kind == "models" else ()
    return source_hash_of((_path_of(kind, name), *further, *also))


def imports(kind: str, name: str) -> tuple[str, ...]:
    """The modules of this package, and of those of entry points, that a module imports itself; it is not imported."""
    return _source(_path_of(kind, name))[1]


TRAINING = tuple(
    f"crossmodal.{name}" for name in ("training.loop", "training.closed_form", "corpus.opening", "runs.build")
)
"""The modules that trained weights depend on besides the model itself and the forms that it reads."""


def source_hash_of(modules: tuple[str, ...]) -> str:
    """The hash of the source of modules and of their imports from this package and from those of entry points."""
    first = [*modules]
    sources: dict[str, str] = {}
    while first:
        path = first.pop()
        if path not in sources and not f"{path}.".startswith(tuple(f"{prefix}." for prefix in _NOT_FOLLOWED)):
            sources[path], imported = _source(path)
            first += imported
    return hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:16]


# A change of these modules affects results only through data that are hashed themselves, or not at all.
_NOT_FOLLOWED = tuple(
    f"crossmodal.{name}"
    for name in (
        *("core.console", "core.cores", "core.errors", "core.files", "core.fingerprints", "core.isolation"),
        *("core.limits", "core.paths"),
        *("core.registry", "experiments", "features.engine.contract", "features.engine.extraction"),
    )
)


@cache
def _source(path: str) -> tuple[str, tuple[str, ...]]:
    """The hash of a module's source, and its imports from this package and from those of entry points."""
    file = _file(path)
    if file is None:
        return "", ()
    text = file.read_bytes()
    version = hashlib.sha256(text).hexdigest()
    digest, imported, files = _remembered(f"source {path} {file}", version, lambda: _parsed(text, path, file))
    if files:
        content = [_content(file.parent / name) for name in files]
        digest = hashlib.sha256(repr([digest, content]).encode()).hexdigest()
    prefixes = tuple(f"{package}." for package in _packages())
    return digest, tuple(target for target in imported if f"{target}.".startswith(prefixes) and _file(target))


def _parsed(text: bytes, path: str, file: Path) -> tuple[str, list[str], list[str]]:
    """The hash of a module's syntax tree, the sorted names among its imports that may be modules, and its data.

    The data are files and folders that it names relative to itself, such as committed weights, by
    `Path(__file__).parent / "weights" / "world.safetensors"`.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UserError(f"{file}: line {error.lineno}: is not valid Python: {error.msg}") from None
    package = path.split(".") if file.name == "__init__.py" else path.split(".")[:-1]
    imported: set[str] = set()
    named_files: set[str] = set()
    for node in _run(tree):
        named_files |= {name for name in [_named_file(node)] if name}
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []  # the package of `from . import one`
            origin = ".".join([*above, *([node.module] if node.module else [])])
            imported |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    named = sorted(name for name in named_files if not any(other.startswith(f"{name}/") for other in named_files))
    # The tree is hashed, since a change of comments, docstrings or line breaks must not retrain anything.
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), sorted(imported), named


def _named_file(node: ast.AST) -> str:
    """`A/B` for an expression `Path(__file__).parent / "A" / "B"`, else an empty text."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)):
        return ""
    if ast.unparse(node.left) == "Path(__file__).parent":
        return str(node.right.value)
    above = _named_file(node.left)
    return f"{above}/{node.right.value}" if above else ""


def _content(path: Path) -> list[tuple[str, str]]:
    """(name, hash) of a file, or of all files below a folder; empty where the path does not exist."""
    files = [member for member in (path, *sorted(path.rglob("*"))) if member.is_file()]
    return [(str(member.relative_to(path.parent)), sha256_file(member)) for member in files]


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree without blocks `if TYPE_CHECKING:`, which are never run."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _run(child)


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a bare text, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _packages() -> frozenset[str]:
    """The packages whose sources are followed: this one, and those with entry points of our groups."""
    return frozenset(path.split(".")[0] for kind in KINDS for path in names(kind).values())


@cache
def _file(path: str) -> Path | None:
    """The file of a module, derived from its name: looking up its spec would import its parent packages."""
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
