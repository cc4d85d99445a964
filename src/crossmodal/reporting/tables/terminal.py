"""A paper's table in the terminal, drawn with rich: the output of `crossmodal table PAPER-TABLE`."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from crossmodal.core.errors import printable
from crossmodal.reporting.tables.views import NO_SYSTEM, View, flat_heads, grid, noted, ours, title
from crossmodal.tasks.base import label

STYLES = {0: "", 1: "bold", 2: "underline"}  # by `Text.place`
KINDS = {"warning": "yellow", "fallback": "yellow", "qc": "bold red", "ours": "", "published": "dim"}


def rendered(view: View, *, only_ours: bool = False) -> Group:
    """The table with its caption above and its notes below.

    Parameters
    ----------
    only_ours : leave out the rows that have published numbers only.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("Method", no_wrap=False, min_width=10)
    for key in view.extras:
        table.add_column(Text(printable(title(key))), justify="right")
    table.add_column("")
    for head in flat_heads(view):
        head = printable(head)
        for metric in (" R@", " mAP", " nDCG"):
            head = head.replace(metric, f"\n{metric[1:]}")
        table.add_column(Text(head), justify="right", no_wrap=True)
    table.add_column("", style="dim", max_width=28)
    skip = False
    for row in grid(view):
        if isinstance(row, str):
            if row:
                table.add_section()
                table.add_row(Text(printable(row), style="italic"))
            continue
        what, remark = row[1 + len(view.extras)].text, row[-1].text
        if what == "published":
            skip = only_ours and remark == NO_SYSTEM
        if skip:
            continue
        style = {"here": "cyan", "difference": "dim"}.get(what, "")
        *cells, last = row
        table.add_row(
            *(Text(printable(cell.text), style=STYLES[cell.place]) for cell in cells),
            Text(printable(last.text)),
            style=style,
        )
    caption = [Text(printable(text), style=KINDS.get(kind, "dim")) for kind, text in view.caption]
    notes = [Text(printable(noted(*note)), style="dim") for note in view.notes]
    return Group(Text(printable(view.table.title), style="bold"), *caption, Text(), table, *notes)


def show(view: View, console: Console | None = None, *, only_ours: bool = False) -> None:
    """Print the table. Lines wider than the terminal are not wrapped, so that `less -S` can show them."""
    console = console or Console()
    content = rendered(view, only_ours=only_ours)
    for part in content.renderables:
        if isinstance(part, Table):
            width = console.measure(part, options=console.options.update(max_width=10_000)).maximum
            width = max(width, console.width)
            Console(file=console.file, width=width, force_terminal=console.is_terminal).print(part)
        else:
            console.print(part)


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
    (console or Console()).print(table)
