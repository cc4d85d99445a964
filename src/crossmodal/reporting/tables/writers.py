"""A paper's tables as CSV, Markdown, LaTeX and HTML, each from its `View`."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from crossmodal.core.errors import printable
from crossmodal.core.files import read_rows, write_text
from crossmodal.experiments import Plan
from crossmodal.reporting.results.cells import TYPES, Cells
from crossmodal.reporting.tables.latex import to_tex
from crossmodal.reporting.tables.views import NO_SYSTEM, Line, View, all_views, extra, flat_heads, grid, noted, title

TEMPLATES = Path(__file__).parents[1] / "templates"
FORMULA = re.compile(r"[=+@\t\r\n\uff1d\uff0b\uff20\uff0d]|-(?!\d*\.?\d*(?:[eE][+-]?\d{1,3})?$)(?=[^\s])")  # not -0.5
MARKDOWN = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}  # by `Text.place`


def to_csv(view: View) -> str:
    """The table as CSV, one line per cell with all columns of `comparison.parquet`: machine-readable and lossless."""
    return csv_of([*TYPES], view.cells)


def csv_of(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """A table as CSV, whose texts come from files of others, such as papers, and become no formulas."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([no_formula(record[name]) for name in columns] for record in records)
    return stream.getvalue()


def no_formula(value: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would take for a formula; any other value stays as it is."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def to_md(view: View) -> str:
    """The table in Markdown with aligned columns, its caption above and its notes below."""

    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")

    head = ["Method", *(title(key) for key in view.extras), "", *flat_heads(view), ""]
    body = []
    for row in grid(view):
        if isinstance(row, str):
            body.append([f"**{escape(row)}**", *[""] * (len(head) - 1)])
        else:
            body.append([MARKDOWN[cell.place].format(escape(cell.text)) for cell in row])
    texts = [[escape(cell) for cell in head], *body]
    widths = [max(3, *(len(row[i]) for row in texts)) for i in range(len(head))]
    first = 2 + len(view.extras)
    right = [first <= i < first + len(view.columns) for i in range(len(head))]

    def line(cells: list[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "| " + " | ".join("-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + " |"
    caption = "\n".join(f"{escape(text)}  " for _, text in view.caption).rstrip()
    notes = "".join(f"\n{escape(noted(*note))}  " for note in view.notes)
    table = "\n".join([line(texts[0]), rule, *(line(row) for row in body)])
    return f"### {escape(view.table.title)}\n\n{caption}\n\n{table}\n{notes.rstrip()}".rstrip() + "\n"


@cache
def environment() -> jinja2.Environment:
    """The templates of pages and tables; every value is escaped unless it is marked safe."""
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_without_commands,
    )
    jinja.globals["policy"] = policy
    jinja.filters |= {"extra": extra, "title_": title, "groupby_order": _groups, "n": "{:,}".format}
    return jinja


def _without_commands(value: Any) -> Any:
    """A text of others without characters that command a terminal or turn what follows; its lines and tabs stay."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in value.split("\n"))


def policy(script: str = "") -> Markup:
    """A page's Content-Security-Policy: nothing is fetched or sent, and only the given script runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    rules = f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    content = f"{rules}; base-uri 'none'; form-action 'none'"
    return Markup(f'<meta http-equiv="Content-Security-Policy" content="{content}">')


def _groups(lines: list[Line]) -> list[tuple[str | None, list[Line]]]:
    """Lines under their groups, in the paper's order."""
    return [(group, list(members)) for group, members in groupby(lines, key=lambda line: line.group)]


def to_html(view: View) -> str:
    """The table as a `<figure>` with classes and no style of its own."""
    return (
        environment()
        .get_template("table.html.j2")
        .render(view=view, no_system=NO_SYSTEM, places=("", " best", " second"))
    )


def to_page(view: View) -> str:
    """The table as a page of its own."""
    return environment().get_template("alone.html.j2").render(title=view.table.title, body=Markup(to_html(view)))


WRITERS = {"csv": to_csv, "md": to_md, "tex": to_tex, "html": to_page}


def render(plan: Plan, comparison: Cells, folder: Path) -> list[Path]:
    """Write `PAPER-TABLE.{csv,md,tex,html}` of every table into `folder`; returns the paths."""
    written = []
    for view in all_views(plan, comparison):
        for kind, writer in WRITERS.items():
            path = Path(folder) / f"{view.id}.{kind}"
            write_text(path, writer(view))
            written.append(path)
    return written


def write(plan: Plan, target: Path) -> None:
    """The step of the DAG: write the tables of `target/comparison.parquet` to `target/tables/`."""
    render(plan, read_rows(target / "comparison.parquet"), target / "tables")
