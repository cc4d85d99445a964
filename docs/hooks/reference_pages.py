"""The reference: a page per module of `src/crossmodal`, found by walking the packages, so that a moved module is found.

A package's page holds its docstring and a table of its modules, each with the first sentence of its docstring. The
source is parsed, never imported.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

SOURCE = Path(__file__).parents[2] / "src"
PACKAGE = "crossmodal"


def on_config(config: MkDocsConfig) -> None:
    """Put the packages into the navigation, the modules of each below it."""
    (entry,) = (entry for entry in config.nav if "Reference" in entry)
    entry["Reference"] = ["reference/index.md", *_navigation(SOURCE / PACKAGE)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for folder in [SOURCE / PACKAGE, *_packages(SOURCE / PACKAGE)]:
        files.append(File.generated(config, page_of(folder), content=_package_page(folder)))
        for module in _modules(folder):
            files.append(File.generated(config, page_of(module), content=_module_page(module)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The table of top-level packages in the place of a comment that asks for it."""
    return re.sub(r"<!-- packages:.*?-->", lambda found: _contents(SOURCE / PACKAGE, "reference/"), markdown)


def page_of(path: Path) -> str:
    """The page of a module's file or a package's folder, below the documentation's root.

    >>> page_of(SOURCE / "crossmodal" / "models"), page_of(SOURCE / "crossmodal" / "models" / "scan.py")
    ('reference/models/index.md', 'reference/models/scan.md')
    """
    parts = path.with_suffix("").relative_to(SOURCE / PACKAGE).parts
    return "/".join(["reference", *parts]) + ("" if path.suffix else "/index") + ".md"


def _packages(folder: Path) -> list[Path]:
    """The packages below a folder, at any depth."""
    return sorted(path.parent for path in folder.rglob("__init__.py") if path.parent != folder)


def _children(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/__init__.py"))


def _modules(folder: Path) -> list[Path]:
    """The public modules that lie in a package's folder."""
    return sorted(path for path in folder.glob("*.py") if not path.stem.startswith("_"))


def _navigation(folder: Path) -> list[dict]:
    packages = [{path.name: [page_of(path), *_navigation(path)]} for path in _children(folder)]
    return [*packages, *({path.stem: page_of(path)} for path in _modules(folder))]


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring, on one line, fit for a cell of a table."""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`(])", paragraph)[0].replace("|", "\\|")


def _identifier(path: Path) -> str:
    return ".".join(path.with_suffix("").relative_to(SOURCE).parts)


def _module_page(path: Path) -> str:
    return f"# `{_identifier(path)}`\n\n::: {_identifier(path)}\n"


def _package_page(folder: Path) -> str:
    depth = len(folder.relative_to(SOURCE / PACKAGE).parts)
    top = "# Reference\n\n" if depth == 0 else f"# `{_identifier(folder)}`\n\n"
    docstring = _docstring(folder / "__init__.py")
    return f"{top}{docstring}\n\n{_contents(folder, '')}\n"


def _contents(folder: Path, before: str) -> str:
    """A table of a folder's packages and modules with the first sentence of each."""
    rows = ["| module | |", "|---|---|"]
    for path in [*_children(folder), *_modules(folder)]:
        page, source = (path.stem, path) if path.suffix else (f"{path.stem}/index", path / "__init__.py")
        rows.append(f"| [`{path.stem}`]({before}{page}.md) | {first_sentence(_docstring(source))} |")
    return "\n".join(rows)
