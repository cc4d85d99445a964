"""Drawings of `docs/assets/` stand within their pages, so that they take the colours of the theme."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

DRAWING = re.compile(r"!\[[^\]]*\]\((assets/(\w+)\.svg)\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The SVG in the place of the image, in a block of the class that its file is named after."""
    return DRAWING.sub(lambda found: _inline(Path(config.docs_dir) / found[1], found[2]), markdown)


def _inline(path: Path, name: str) -> str:
    return f'<div class="{name}">\n{path.read_text(encoding="utf-8")}</div>'
