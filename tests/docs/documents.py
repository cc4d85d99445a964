"""What the README and the documentation hold: their files, fenced blocks and code within sentences."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOOKS = ROOT / "docs" / "hooks"
FILES = sorted([*ROOT.glob("*.md"), ROOT / "results" / "README.md", *(ROOT / "docs").rglob("*.md")])

sys.path.insert(0, str(HOOKS))  # the tests import the hooks as modules


@dataclass(frozen=True)
class Block:
    path: Path
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """Every fenced block of a language, in all documents."""
    found = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r'^```(\w+)(?: title="([^"\n]*)")?\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(path, line, match[1], match[2] or "", match[3]))
    return [block for block in found if block.language == language]


def spans(path: Path) -> list[str]:
    """What stands between single backticks, outside of fenced blocks."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
