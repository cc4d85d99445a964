"""The verdicts on the papers' claims, shown in the terminal and on the page, and written as CSV, Markdown and LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossmodal.core.display import folding
from crossmodal.core.files import records_of, write_text
from crossmodal.evaluation.contrasts import POWER, SEEDS
from crossmodal.experiments import Plan
from crossmodal.reporting.results.cases import LEVEL
from crossmodal.reporting.results.claims import VERDICTS
from crossmodal.reporting.tables.latex import tex
from crossmodal.reporting.tables.views import DASH, MINUS
from crossmodal.reporting.tables.writers import csv_of, environment

HEADS = ("Claim", "On", "Published", "Ours", "p", "Verdict", "")
WIDTHS = (13, 9, 9, 6, 5, 12, 8)
TYPESET = (r"p{.36\textwidth}", r"p{.12\textwidth}", "r", r"p{.13\textwidth}", "r", r"p{.14\textwidth}")  # in LaTeX
NUMBERS = (2, 3, 4)
"""The columns of numbers."""
STYLES = {"supported": "green", "contradicted": "red", "undecided": "yellow", "not run": "dim"}
CAPTION = (
    "Each paper's statements, tested on our runs: differences in the unit of the metric (for a trend the rise of a "
    "straight line from the first row to the last) with 95 % intervals over queries and seeds; for several "
    "comparisons their mean, but all of them must hold. p is one-sided, after Holm's correction within a paper and "
    f"data set. Supported or contradicted: the claim or its opposite at p < {LEVEL}. Undecided: neither, with the "
    f"seeds that it would take (power {100 * POWER:.0f} %, up to {SEEDS}) if the difference and its spread stay as "
    "they are. A published difference on another data set than ours is shown for information, not for comparison."
)


@dataclass(frozen=True)
class Line:
    """A claim on one published data set."""

    paper: str
    claim: str
    says: str
    source: str
    measure: str
    on: str
    published: str
    ours: str
    between: str
    p: str
    verdict: str
    verdict_text: str
    reason: str

    @property
    def cells(self) -> list[str]:
        """The texts of the columns `HEADS`."""
        ours = f"{self.ours} ({self.between})" if self.between else self.ours
        says = f"{self.says} ({self.source})" if self.source else self.says
        return [says, self.on, self.published, ours, self.p, self.verdict_text, self.reason]


def lines(plan: Plan, frame: pd.DataFrame, paper: str | None = None) -> list[Line]:
    """The rows of `claims.parquet` as lines, of one paper or of all."""
    titles = {name: dataset.title for name, dataset in plan.params.datasets.items()}
    frame = frame if paper is None else frame[frame.paper == paper]
    return [_line(row, titles) for row in frame.itertuples()]


def _line(row: object, titles: dict[str, str]) -> Line:
    played = titles.get(row.dataset, row.dataset)
    original = titles.get(row.published_dataset, row.published_dataset)
    verdict = row.verdict
    if row.verdict == "undecided" and pd.notna(row.seeds_needed):
        verdict = f"undecided, about {row.seeds_needed} seeds"
    return Line(
        paper=row.paper,
        claim=row.claim,
        says=row.says,
        source=row.source,
        measure=row.measure,
        on=original if row.dataset == row.published_dataset else f"{played} for {original}",
        published=signed(row.published),
        ours=signed(row.ours),
        between="" if pd.isna(row.ours_low) else f"{signed(row.ours_low)} to {signed(row.ours_high)}",
        p=DASH if pd.isna(row.p_holm) else _p(row.p_opposite_holm if row.verdict == "contradicted" else row.p_holm),
        verdict=row.verdict,
        verdict_text=verdict,
        reason=row.reason,
    )


def signed(value: float) -> str:
    """A number with its sign, such as `+2.5`; one below 0.95 has two decimals, such as `−0.07`."""
    if pd.isna(value):
        return DASH
    text = f"{value:+.1f}" if abs(value) >= 0.95 or value == 0 else f"{value:+.2f}"
    return text.replace("-", MINUS)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def columns_of(claim_lines: list[Line]) -> list[int]:
    """The places of the columns in `HEADS` that are shown: that of published numbers only where a claim has one."""
    published = any(line.published != DASH for line in claim_lines)
    return [place for place, head in enumerate(HEADS) if published or head != "Published"]


def summary(claim_lines: list[Line]) -> str:
    """The number of claims per verdict, such as `12 supported, 3 undecided`."""
    counts = {verdict: sum(line.verdict == verdict for line in claim_lines) for verdict in VERDICTS}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "no claim"


def _papers(claim_lines: list[Line]) -> list[tuple[str, list[Line]]]:
    return [(paper, list(members)) for paper, members in groupby(claim_lines, key=lambda line: line.paper)]


def show(
    plan: Plan, frame: pd.DataFrame, paper: str | None = None, console: Console | None = None, *, every: bool = False
) -> None:
    """Print the claims with their verdicts, and (`every`) those that no run tests."""
    console = folding(console)
    claim_lines = lines(plan, frame, paper)
    shown = [line for line in claim_lines if every or line.verdict != "not run"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False, collapse_padding=True)
    columns = columns_of(shown)
    for place in columns:
        side = "right" if place in NUMBERS else "left"
        table.add_column(HEADS[place], justify=side, min_width=WIDTHS[place], overflow="fold")
    for name, members in _papers(shown):
        table.add_section()
        table.add_row(Text(name, style="italic"))
        for line in members:
            styles = {"Verdict": STYLES[line.verdict], "": "dim"}
            table.add_row(*(Text(line.cells[place], style=styles.get(HEADS[place], "")) for place in columns))
    if shown:
        console.print(table)
        console.print(Text(CAPTION, style="dim"))
    if hidden := len(claim_lines) - len(shown):
        console.print(f"Left out: {hidden} {'claim' if hidden == 1 else 'claims'} that no run tests (--all).")
    console.print(summary(claim_lines))


def to_csv(frame: pd.DataFrame) -> str:
    """All columns of `claims.parquet` as CSV, machine-readable and lossless."""
    return csv_of([*frame], records_of(frame))


def to_md(claim_lines: list[Line]) -> str:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")

    columns = columns_of(claim_lines)
    rules = ["---:" if place in NUMBERS else "---" for place in columns]
    rows = [f"| {' | '.join(HEADS[place] for place in columns)} |", f"| {' | '.join(rules)} |"]
    for name, members in _papers(claim_lines):
        rows.append(f"| **{escape(name)}** |" + " |" * (len(columns) - 1))
        rows += [f"| {' | '.join(escape(line.cells[place]) for place in columns)} |" for line in members]
    return "\n".join(["### Claims", "", f"{escape(CAPTION)} Here: {summary(claim_lines)}.", "", *rows]) + "\n"


def to_tex(claim_lines: list[Line]) -> str:
    r"""The claims as a LaTeX table that may span pages; it needs `\usepackage{booktabs,longtable}`."""
    columns = columns_of(claim_lines)[:-1]
    spec = "".join(TYPESET[place] for place in columns)
    heads = " & ".join(tex(HEADS[place]) for place in columns)
    rows = [
        r"% needs \usepackage{booktabs,longtable}",
        r"{\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{longtable}}{{@{{}}{spec}@{{}}}}",
        rf"  \caption{{{tex(CAPTION)} Here: {tex(summary(claim_lines))}.}} \\",
        rf"  \toprule {heads} \\ \midrule \endhead",
    ]
    for name, members in _papers(claim_lines):
        rows.append(rf"  \multicolumn{{{len(columns)}}}{{@{{}}l}}{{\emph{{{tex(name)}}}}} \\")
        for line in members:
            rows.append(f"  {' & '.join(tex(line.cells[place]) for place in columns)} \\\\")
    return "\n".join([*rows, r"  \bottomrule", r"\end{longtable}}", ""])


def to_html(claim_lines: list[Line]) -> Markup:
    """The claims as a `<figure>` with classes and no style of its own."""
    template = environment().get_template("claims.html.j2")
    about = {
        "caption": CAPTION,
        "summary": summary(claim_lines),
        "published": len(columns_of(claim_lines)) == len(HEADS),
    }
    return Markup(template.render(papers=_papers(claim_lines), **about))


def write(plan: Plan, frame: pd.DataFrame, folder: Path) -> None:
    """Write `claims.{csv,md,tex,html}` into `folder`."""
    claim_lines = lines(plan, frame)
    page = environment().get_template("alone.html.j2").render(title="Claims", body=to_html(claim_lines))
    texts = {"csv": to_csv(frame), "md": to_md(claim_lines), "tex": to_tex(claim_lines), "html": page}
    for kind, text in texts.items():
        write_text(folder / f"claims.{kind}", text)
