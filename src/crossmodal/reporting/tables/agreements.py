"""The comparison with a reference set in the terminal: counts, rows that are outside, and what was not compared."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossmodal.core.display import folding
from crossmodal.core.errors import printable
from crossmodal.reporting.results.reference import About
from crossmodal.reporting.results.reproduced import (
    EQUAL,
    EXACT,
    LEVEL,
    OUTSIDE,
    ROUNDED,
    SPREAD,
    UNJUDGED,
    WITHIN,
    Agreement,
    Row,
)
from crossmodal.reporting.tables.views import MINUS
from crossmodal.tasks.base import label

LISTED = 8  # entries of a list that are named; of rows that are outside all are


def show(agreement: Agreement, about: About, console: Console | None = None) -> None:
    """Print a comparison: each row that is outside with both values, and a summary at its end."""
    console = folding(console)
    machines, torch = "; ".join(about.machines) or "unknown", about.versions.get("torch", "unknown")
    title = f"{agreement.folder}: {about.scope}, scale {about.scale}, made on {machines}, torch {torch}"
    _print(console, title, "bold")
    console.print(_counts(agreement))
    for reason, count in agreement.why_not_exact.items():
        _print(console, f"Not compared to the bit: {_counted(count, 'run')}: {reason}.")
    if any(row.by == SPREAD for row in agreement.rows):
        _print(
            console,
            "Within the spread: the means over seeds differ by no more than a t test allows at "
            f"{100 * LEVEL:g} % over all rows together (Holm), with the variance over seeds of the reference.",
        )
        _listed(console, "The spread is that of", _bases(agreement))
    outside = agreement.of(OUTSIDE)
    if outside:
        console.print(_outside(outside))
    for run, names in agreement.other_features.items():
        _print(console, f"{run}: read features that differ from those of the reference: {', '.join(names)}.")
    for run, differing in agreement.other_settings.items():
        more = f", and {len(differing) - LISTED} more" if len(differing) > LISTED else ""
        _print(console, f"Not compared, other settings: {run}: {'; '.join(differing[:LISTED])}{more}.")
    _listed(console, "Only here:", agreement.only_here)
    _listed(console, "Only there:", agreement.only_there)
    if agreement.claims:
        same = agreement.claims - len(agreement.other_verdicts)
        _print(console, f"Claims: {same} of {agreement.claims} verdicts are the same.")
        for line in agreement.other_verdicts:
            _print(console, f"  {line}")
    _print(console, _verdict(agreement), "bold red" if agreement.failed else "bold green")


def _counts(agreement: Agreement) -> Table:
    table = Table("compared", "rows", EQUAL, WITHIN, OUTSIDE, UNJUDGED, box=box.SIMPLE_HEAD, pad_edge=False)
    for by in (EXACT, ROUNDED, SPREAD):
        rows = [row for row in agreement.rows if row.by == by]
        if rows:
            numbers = [sum(row.outcome == outcome for row in rows) for outcome in (EQUAL, WITHIN, OUTSIDE, UNJUDGED)]
            table.add_row(by, *map(str, [len(rows), *numbers]))
    return table


def _outside(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for head, side in (("outside", "left"), ("number", "left"), ("seeds", "left"), ("here", "right"),
                       ("reference", "right"), ("allowed", "right")):  # fmt: skip
        table.add_column(head, justify=side, overflow="fold")
    for row in rows:
        task, aspect, metric, protocol = row.number
        number = " ".join(part for part in (aspect, label(metric), f"({task}, {protocol})") if part)
        values = [_number(row.ours), _number(row.theirs)]
        if row.by == SPREAD:
            values.append(f"±{row.bound:.3g}")
        else:  # values that differ in the last bit look alike otherwise
            values = [repr(row.ours), repr(row.theirs), "none"]
        table.add_row(*(Text(printable(text)) for text in (row.run, number, row.seeds, *values)))
    return table


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", MINUS)


def _bases(agreement: Agreement) -> dict[str, int]:
    bases: dict[str, int] = {}
    for row in agreement.rows:
        if row.basis and row.outcome != UNJUDGED:
            bases[row.basis] = bases.get(row.basis, 0) + 1
    return bases


def _listed(console: Console, what: str, counts: Mapping[str, int]) -> None:
    if counts:
        named = [f"{name} ({_counted(count, 'row')})" for name, count in [*counts.items()][:LISTED]]
        more = f", and {len(counts) - LISTED} more" if len(counts) > LISTED else ""
        _print(console, f"{what} {', '.join(named)}{more}.")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _verdict(agreement: Agreement) -> str:
    outside, unjudged = len(agreement.of(OUTSIDE)), len(agreement.of(UNJUDGED))
    if outside:
        return f"Does not agree with {agreement.folder}: {outside} of {_counted(len(agreement.rows), 'row')} outside."
    if agreement.failed:
        return f"Nothing could be compared with {agreement.folder}."
    beside = (
        f"; {_counted(unjudged, 'row')} could not be judged, since the spread of seeds is not known" if unjudged else ""
    )
    return f"Agrees with {agreement.folder}: {_counted(len(agreement.rows) - unjudged, 'row')} compared{beside}."


def _print(console: Console, text: str, style: str = "dim") -> None:
    console.print(Text(printable(text), style=style), soft_wrap=True)
