"""Parts of pages in Markdown that several hooks write: cells, tables and what stands in a folded note."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from docstrings import escaped


def cell(text: str) -> str:
    """A text as one line of a table's cell, without any markup of its own."""
    return escaped(" ".join(str(text).split())).replace("|", "\\|")


def table_of(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def indented(text: str) -> str:
    """A text as the content of an admonition, such as `??? note`."""
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
