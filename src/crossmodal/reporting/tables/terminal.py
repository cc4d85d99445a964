"""A paper's table in the terminal, drawn with rich: the output of `crossmodal table PAPER-TABLE`.

A table wider than the terminal continues below in further panels, each with the columns of numbers that fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossmodal.core.display import folding
from crossmodal.core.errors import printable
from crossmodal.reporting.tables.views import Line, View, grid, noted, ours, parted_heads, title
from crossmodal.tasks.base import label

STYLES = {0: "", 1: "bold", 2: "underline"}  # by `Text.place`
KINDS = {"warning": "yellow", "fallback": "yellow", "qc": "bold red", "ours": "", "published": "dim"}

Rows = Literal["filled", "ours", "all"]
"""Rows that runs of ours fill; also those whose system is here but has not run; also those of published numbers only"""


def chosen(view: View, rows: Rows) -> list[Line]:
    """The rows of a table that are shown."""
    wanted = {"filled": lambda line: line.done, "ours": lambda line: line.has_system, "all": lambda line: True}[rows]
    return [line for line in view.lines if wanted(line)]


def left_out(view: View, rows: Rows) -> str:
    """A sentence on the rows that are not shown; empty where all are."""
    hidden = [line for line in view.lines if line not in chosen(view, rows)]
    waiting = sum(line.has_system for line in hidden)
    counts = {
        "whose system has not run (--ours)": waiting,
        "with published numbers only (--all)": len(hidden) - waiting,
    }
    parts = [f"{count} {'row' if count == 1 else 'rows'} {what}" for what, count in counts.items() if count]
    return f"Left out: {' and '.join(parts)}." if parts else ""


def panels(view: View, width: int) -> list[Table]:
    """The table as one or more tables below each other that are at most `width` characters wide, where this can be."""
    measuring = Console(width=10_000)
    n_numbers = len(view.columns)
    spans: list[tuple[int, int]] = []
    start = 0
    while start < n_numbers:
        stop = start + 1
        while stop < n_numbers and _width(_panel(view, start, stop + 1, width), measuring) <= width:
            stop += 1
        spans.append((start, stop))
        start = stop
    return [_panel(view, start, stop, width) for start, stop in spans]


def _width(table: Table, console: Console) -> int:
    return console.measure(table).maximum


def _panel(view: View, start: int, stop: int, width: int) -> Table:
    """The columns `start` to `stop` of the numbers, after the methods; the first panel has the columns before them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="dim", show_edge=False)
    table.add_column("Method", min_width=10, max_width=max(10, width // 4))
    n_left = 2 + len(view.extras)
    extras = view.extras if start == 0 else []
    for key in extras:
        table.add_column(Text(printable(title(key))), justify="right")
    table.add_column("")
    for head in parted_heads(view)[start:stop]:
        table.add_column(Text("\n".join(map(printable, head))), justify="right", no_wrap=True)
    with_remarks = stop == len(view.columns)
    if with_remarks:
        table.add_column("", style="dim", max_width=max(14, min(28, width // 5)))
    for row in grid(view):
        if isinstance(row, str):
            if row:
                table.add_section()
                table.add_row(Text(printable(row), style="italic"))
            continue
        left, numbers, remark = row[:n_left], row[n_left:-1], row[-1]
        left = left if start == 0 else [left[0], left[-1]]
        cells = [*left, *numbers[start:stop], *([remark] if with_remarks else [])]
        style = {"here": "cyan", "difference": "dim"}.get(row[n_left - 1].text, "")
        table.add_row(*(Text(printable(cell.text), style=STYLES[cell.place]) for cell in cells), style=style)
    return table


def show(view: View, console: Console | None = None, *, rows: Rows = "filled") -> None:
    """Print the table with its caption above and its notes below, no wider than the terminal.

    Parameters
    ----------
    rows : which rows are shown; a last line counts the others.
    """
    console = folding(console)
    console.print(Text(printable(view.table.title), style="bold"))
    for kind, text in view.caption:
        console.print(Text(printable(text), style=KINDS.get(kind, "dim")))
    shown = replace(view, lines=chosen(view, rows))
    if shown.lines:
        for table in panels(shown, console.width):
            console.print()
            width = max(console.width, _width(table, Console(width=10_000)))  # a single column may be wider
            Console(file=console.file, width=width, force_terminal=console.is_terminal).print(table)
        marks = {"", *(mark for line in shown.lines for mark in line.marks.split(", "))}
        for mark, text in view.notes:  # those of rows that are left out would take more lines than the table
            if mark in marks:
                console.print(Text(printable(noted(mark, text)), style="dim"))
    if sentence := left_out(view, rows):
        console.print(Text(f"\n{sentence}" if shown.lines else sentence))


def show_numbers(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print numbers of one run: one line per direction and protocol, one column per metric."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    table = Table("aspect", "protocol", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for metric in metrics:
        table.add_column(label(metric), justify="right")
    lines: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        lines.setdefault((row["aspect"], row["protocol"]), {})[row["metric"]] = row["value"]
    for key, values in lines.items():
        table.add_row(*key, *(ours(values.get(metric), 2) for metric in metrics))
    folding(console).print(table)
