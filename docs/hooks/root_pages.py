"""Pages of the files that lie at the repository's root: contributing, changes, security."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=from_root((ROOT / name).read_text("utf-8"))))
    return files


def from_root(text: str) -> str:
    """A text whose links begin at the repository's root, as one of the documentation's root.

    >>> from_root("[speed](docs/speed.md), [safe](SECURITY.md), [far](https://a.org)")
    '[speed](speed.md), [safe](security.md), [far](https://a.org)'
    """
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\(([A-Z]+\.md)", lambda link: f"]({PAGES[link[1]]}", text)
