"""`crossmodal new`: writes one small file of a kind (a model, a data set's reader, ...) that runs as it is."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from crossmodal.cli.base import app
from crossmodal.core.errors import UserError, suggestion

TEMPLATES = Path(__file__).parent / "templates"
RUN = "results/runs/scenes/full"


@dataclass(frozen=True)
class Kind:
    """What is written of a kind of module, and what its user does next; NAME stands for the module's name."""

    modules: str  # kind of the registry
    about: str
    settings: str  # a block of params.yaml without which it is not used; empty if it needs none
    try_: str  # one command that runs it
    page: str
    test: str = ""  # the conformance test that runs on it


KINDS = {
    "model": Kind(
        "models",
        "a system: captions as the mean of their words' vectors, images by a linear map",
        "",
        f"snakemake --cores all {RUN}/NAME/seed0/instance_retrieval/metrics.json",
        "docs/howto/model.md",
        "tests/models/test_conformance.py",
    ),
    "dataset": Kind(
        "datasets",
        "a reader of captions as lines FILE|CAPTION beside a folder of images",
        "datasets:\n  NAME: {reader: NAME, title: NAME, annotations: raw/NAME/captions.txt, images: raw/NAME/images}",
        "crossmodal prepare NAME",
        "docs/howto/dataset.md",
    ),
    "extractor": Kind(
        "features",
        "an extractor: histograms of the red, green and blue values of an image",
        "extractors:\n  NAME: {extractor: NAME}",
        "snakemake --cores all data/scenes/features/image.NAME.json",
        "docs/howto/extractor.md",
        "tests/features/test_extractor_conformance.py",
    ),
    "task": Kind(
        "tasks",
        "a task: whether a caption scores its image above another one",
        "",
        f"snakemake --cores all {RUN}/vsepp/seed0/NAME/metrics.json",
        "docs/howto/task.md",
        "tests/tasks/test_conformance.py",
    ),
    "form": Kind(
        "forms",
        "a form of input: vectors of unit length, for models with `reads = {'image': 'NAME', ...}`",
        "datasets:\n  scenes:\n    inputs: {image: {NAME: scenes}}",
        "crossmodal list forms",
        "docs/howto/form.md",
    ),
    "figure": Kind(
        "figures",
        "a figure: the number of runs of each system",
        "",
        "snakemake --cores all results/figures/NAME.svg",
        "docs/howto/figure.md",
    ),
    "paper": Kind(
        "",
        "a comparison of two systems on the drawn world, in a table",
        "",
        "snakemake --cores all all --config 'papers=[NAME]' 'seeds=[0]'",
        "docs/howto/paper.md",
    ),
}


@app.command(rich_help_panel="Tools")
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))],
    name: Annotated[str, typer.Argument(help="Small letters, digits and `_`: the file's name, and its own.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder of a package of your own; by default that of a checkout's source.")
    ] = None,
) -> None:
    """Write one small file that runs as it is: a model, data set, extractor, task, form, figure or paper.

    `crossmodal new model mine` in a checkout writes `src/crossmodal/models/mine.py`, and says what to do next.
    """
    if kind not in KINDS:
        raise UserError(f"new {kind!r}: is no kind" + suggestion(kind, KINDS))
    chosen = KINDS[kind]
    check_name(kind, name)
    folder = to or _folder(kind)
    path = write(kind, name, folder)
    typer.echo(f"{path} written: {chosen.about}".replace("NAME", name))
    for line in next_steps(kind, name, folder, registered=to is None or kind == "paper"):
        typer.echo(line)


def check_name(kind: str, name: str) -> None:
    """Check that a name may be that of a new module of a kind.

    Raises
    ------
    UserError : it is no Python name of small letters, or there is something of that name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r}: cannot be the name of a {kind}; expected small letters, digits and `_`, a letter first, and no "
            "word of Python's own"
        )
    from crossmodal.core import registry

    if kind != "paper" and name in registry.names(KINDS[kind].modules):
        where = registry.names(KINDS[kind].modules)[name]
        raise UserError(f"{name!r}: there is a {kind} of that name ({where}); choose another")


def _folder(kind: str) -> Path:
    """The folder of a checkout's source for a kind, or that of the project's papers.

    Raises
    ------
    UserError : the command is run somewhere else.
    """
    from crossmodal.core import registry

    if kind == "paper":
        folder, wanted = Path("papers"), Path("params.yaml")
    else:
        folder = Path("src", *registry.PACKAGES[KINDS[kind].modules].split("."))
        wanted = folder / "__init__.py"
    if not wanted.is_file():
        raise UserError(
            f"{wanted}: not found, so that this is no checkout of crossmodal; run the command in the first folder of "
            "one, or name a folder with --to"
        )
    return folder


def write(kind: str, name: str, folder: Path) -> Path:
    """Write the file of a kind under a name, and return its path.

    Raises
    ------
    UserError : there is a file or a folder of that name already, which is kept as it is.
    """
    template = TEMPLATES / ("paper.yaml" if kind == "paper" else f"{kind}.template")
    path = folder / f"{name}{'.yaml' if kind == 'paper' else '.py'}"
    if path.exists() or (folder / name).exists():
        there = path if path.exists() else folder / name
        raise UserError(f"{there}: is there already, and is kept as it is; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(template.read_text(encoding="utf-8").replace("NAME", name))
    return path


def next_steps(kind: str, name: str, folder: Path, *, registered: bool) -> list[str]:
    """What to do next, as lines for the terminal.

    Parameters
    ----------
    registered : whether the file is found where it lies; one in a package of one's own needs an entry point.
    """
    chosen = KINDS[kind]
    lines = []
    if not registered:
        lines += ["", "Name it in the pyproject.toml of its package, and install that again:", ""]
        lines += [
            f'    [project.entry-points."crossmodal.{chosen.modules}"]',
            f'    {name} = "{_module(folder, name)}"',
        ]
    if chosen.settings:
        lines += ["", "Add to params.yaml, in the block that is there:", ""]
        lines += [f"    {line}" for line in chosen.settings.splitlines()]
    lines += ["", "Try it:", "", f"    {chosen.try_}"]
    if chosen.test and registered:
        lines += ["", "Test it:", "", f"    python -m pytest {chosen.test} -k NAME"]
    if kind == "paper":
        lines += ["    crossmodal table NAME-table1     # once `papers` of params.yaml names it"]
    lines += ["", f"What can be changed: {chosen.page}"]
    return [line.replace("NAME", name) for line in lines]


def _module(folder: Path, name: str) -> str:
    """The dotted name of a module in a folder, as far up as the folders are packages."""
    parts = [name]
    folder = folder.resolve()
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts if len(parts) > 1 else ["PACKAGE", name])
