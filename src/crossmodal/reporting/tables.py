"""The papers' tables as csv, Markdown, LaTeX and HTML: published, ours, the difference, and the protocol of each."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crossmodal.experiments import Paper, Plan, Table
from crossmodal.files import read_parquet, write_text
from crossmodal.reporting.collect import controls, title_of

ARROWS = {"image-to-text": "image → text", "text-to-image": "text → image"}
NAMES = {"recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10"}


@dataclass(frozen=True)
class Cell:
    published: float
    ours: float
    sd: float
    status: str

    @property
    def difference(self) -> float:
        return self.ours - self.published


@dataclass(frozen=True)
class Line:
    label: str
    group: str | None
    split: str
    extra: str
    cells: list[Cell]

    @property
    def note(self) -> str:
        """Why there is no number of ours; empty where there is one."""
        statuses = {cell.status for cell in self.cells}
        if statuses == {"published only"}:
            return "no system yet"
        return "; ".join(sorted(s.removeprefix("missing: ") for s in statuses if s.startswith("missing")))


@dataclass(frozen=True)
class Grid:
    """A table made ready for any format."""

    name: str
    title: str
    caption: str
    heads: list[str]
    lines: list[Line]


def number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def ours(cell: Cell) -> str:
    return number(cell.ours) + ("" if math.isnan(cell.sd) else f" ± {number(cell.sd)}")


def signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1f}"


def grid(plan: Plan, paper: Paper, table: Table, comparison: pd.DataFrame, faults: list[str]) -> Grid:
    rows = comparison[(comparison.paper == paper.name) & (comparison.table == table.id)]
    lines = []
    for place, row in enumerate(table.rows):
        cells = [
            Cell(float("nan") if pd.isna(c.published) else c.published, c.ours_mean, c.ours_sd, c.status)
            for c in rows[rows.row == place].sort_values("column").itertuples()
        ]
        extra = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in row.extra.items())
        lines.append(Line(row.label, row.group, row.split or table.split, extra, cells))
    heads = [
        " ".join(filter(None, (c.system, ARROWS.get(c.direction, c.direction), NAMES.get(c.metric, c.metric))))
        for c in table.columns
    ]
    done = rows[rows.status == "done"]
    caption = (
        f"{paper.title} ({paper.venue} {paper.year}), {table.source}: {table.title}. Published on {table.protocol}. "
    )
    if len(done):
        first = done[done.n_queries > 0].iloc[0]
        folds = "" if first.protocol == "all" else f", mean of {first.protocol[4:]} folds"
        images = done.n_gallery.min()
        seeds = f"mean ± s.d. over {int(done.n_seeds.max())} seed(s)"
        caption += f"Ours: {title_of(plan, table)}, {images} test images{folds}, {seeds}; scale {plan.params.scale}. "
        if plan.scale.stand_in:
            caption += "A stand-in plays the published data set: differences to published numbers mean nothing. "
    caption += (
        "Ranks are 1-based, ties count against the model; R@K: per cent of queries with a match among the first K."
    )
    if faults:
        caption += " CONTROLS ARE OFF, do not use: " + "; ".join(faults)
    return Grid(f"{paper.name}-{table.id}", table.title, caption, heads, lines)


def to_csv(made: Grid) -> str:
    """One row a cell: nothing is rounded or merged."""
    rows = [
        {
            "group": line.group,
            "system": line.label,
            "split": line.split,
            "extra": line.extra,
            "column": head,
            "published": cell.published,
            "ours_mean": cell.ours,
            "ours_sd": cell.sd,
            "difference": cell.difference,
            "status": cell.status,
        }
        for line in made.lines
        for head, cell in zip(made.heads, line.cells, strict=True)
    ]
    return pd.DataFrame(rows).to_csv(index=False)


def to_markdown(made: Grid) -> str:
    head = ["System", "Split", *made.heads]
    body = []
    for line in made.lines:
        # A caption is long enough: the row says briefly why it has no number of ours.
        cells = [
            f"{number(c.published)} / {ours(c)} ({signed(c.difference)})"
            if c.status == "done"
            else f"{number(c.published)} / –"
            for c in line.cells
        ]
        label = line.label + (f" *({line.note})*" if line.note else "")
        body.append([label, line.split, *cells])
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|").ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    text = [f"### {made.title}", "", made.caption, "", "Each cell: published / ours (difference).", ""]
    return "\n".join([*text, row(head), rule, *(row(cells) for cells in body)]) + "\n"


_TEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "→": r"$\rightarrow$",
        "–": "--",
    }
)


def tex(text: str) -> str:
    return text.translate(_TEX)


def to_latex(made: Grid) -> str:
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering\\small",
        f"\\caption{{{tex(made.caption)}}}",
        f"\\label{{tab:{made.name}}}",
        f"\\begin{{tabular}}{{ll{'r' * len(made.heads)}}}",
        "\\toprule",
        " & ".join(["System", "", *(tex(head) for head in made.heads)]) + r" \\",
        "\\midrule",
    ]
    group = None
    for line in made.lines:
        if line.group != group and line.group:
            lines.append(f"\\multicolumn{{{2 + len(made.heads)}}}{{l}}{{\\emph{{{tex(line.group)}}}}} \\\\")
        group = line.group
        lines.append(
            " & ".join([tex(line.label), "published", *(tex(number(c.published)) for c in line.cells)]) + r" \\"
        )
        if any(c.status == "done" for c in line.cells):
            lines.append(" & ".join(["", "ours", *(tex(ours(c)) for c in line.cells)]) + r" \\")
            lines.append(" & ".join(["", "difference", *(tex(signed(c.difference)) for c in line.cells)]) + r" \\")
        else:
            lines.append(f" & ours & \\multicolumn{{{len(made.heads)}}}{{l}}{{{tex(line.note)}}} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def to_html(made: Grid) -> str:
    e = html.escape
    out = [f'<figure class="table" id="{made.name}"><figcaption><b>{e(made.title)}</b> {e(made.caption)}</figcaption>']
    out.append(
        '<div class="scroll"><table><thead><tr><th>System</th>' + "".join(f"<th>{e(h)}</th>" for h in made.heads)
    )
    out.append("</tr></thead><tbody>")
    group = None
    for line in made.lines:
        if line.group != group and line.group:
            out.append(f'<tr class="group"><th colspan="{1 + len(made.heads)}">{e(line.group)}</th></tr>')
        group = line.group
        done = any(c.status == "done" for c in line.cells)
        note = f'<span class="note" title="{e(line.note)}">{e(line.note)}</span>' if line.note else ""
        extra = f'<span class="extra">{e(line.extra)}</span>' if line.extra else ""
        out.append(f'<tr class="{"done" if done else "open"}"><th>{e(line.label)}{extra}{note}</th>')
        for cell in line.cells:
            published = f'<span class="published">{number(cell.published)}</span>'
            mine = ""
            if cell.status == "done":
                mine = f'<span class="ours">{ours(cell)}</span>'
                mine += (
                    "" if math.isnan(cell.difference) else f'<span class="difference">{signed(cell.difference)}</span>'
                )
            out.append(f"<td>{published}{mine}</td>")
        out.append("</tr>")
    return "".join([*out, "</tbody></table></div></figure>\n"])


FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "html": to_html}


def grids(plan: Plan, target: Path) -> list[Grid]:
    comparison = read_parquet(target / "comparison.parquet")
    faults = controls(read_parquet(target / "metrics.parquet"))
    return [grid(plan, paper, table, comparison, faults) for paper in plan.papers.values() for table in paper.tables]


def write(plan: Plan, target: Path) -> None:
    """`tables/PAPER-TABLE.{csv,md,tex,html}`."""
    for made in grids(plan, target):
        for kind, render in FORMATS.items():
            write_text(target / "tables" / f"{made.name}.{kind}", render(made))
