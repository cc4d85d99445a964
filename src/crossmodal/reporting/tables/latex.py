"""A table for a LaTeX document in the style of booktabs; it needs `\\usepackage{booktabs}` alone to compile.

The columns of a table wider than a page are put into panels below each other; a longer one continues in another float.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

from crossmodal.reporting.tables.views import Text, View, grid, noted, title

_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "→": r"$\to$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "“": "``",
        "”": "''",
        "×": r"$\times$",
    }
)


def tex(text: str) -> str:
    """`text` with all characters escaped that LaTeX would read as commands."""
    text = re.sub(r"[\r\n]+\s*", " ", text)  # a blank line would end the paragraph that a caption is
    return text.translate(_TEX)


LONG = 14  # characters of a remark that stays in its row; longer ones go below the table
WIDTH, HEIGHT = 345.0, 535.0  # points of a page's text, as the class `article` has it


ENDS = (r"    \bottomrule", r"  \end{tabular}")


class Type(NamedTuple):
    """How a table is typeset; lengths are in points."""

    command: str
    size: float
    gap: float  # on either side of a column
    line: float


PLAIN = Type(r"\small", 9.0, 6.0, 11.0)
CLOSE = Type(r"\scriptsize\setlength{\tabcolsep}{2.5pt}", 7.0, 2.5, 8.0)
# Widths in ems of characters that differ from a digit, rather too wide than too narrow.
_WIDE = dict.fromkeys("ABCDEFGHKLMNOPQRSTUVWXYZmw%&@+−", 0.82) | dict.fromkeys("↑↓→±×", 1.05)
_NARROW = dict.fromkeys(".,:;'il|!()[] ", 0.36) | dict.fromkeys("abcdefghjknopqrstuvxyz-", 0.54)
SMALLER = 0.86  # size of a standard deviation relative to its number


def _ems(text: str) -> float:
    return sum(_WIDE.get(c, _NARROW.get(c, 0.57)) for c in text)


def _extent(cell: Text, type_: Type) -> float:
    """The width of a cell in points, without the gaps beside it."""
    number, _, deviation = cell.text.partition(" ± ")
    ems = _ems(number) + (SMALLER * _ems(f"±{deviation}") if deviation else 0.0)
    return ems * type_.size * (1.19 if cell.place == 1 else 1.02)


def _cell(cell: Text) -> str:
    number, _, deviation = cell.text.partition(" ± ")
    text = tex(number)
    if deviation:
        bare = deviation.rstrip("↑↓")
        text += f"{{\\tiny$\\pm${tex(bare)}}}{tex(deviation.removeprefix(bare))}"
    return {1: f"\\textbf{{{text}}}", 2: f"\\underline{{{text}}}"}.get(cell.place, text)


class Unit(NamedTuple):
    """The rows of one method, which stay together on a page."""

    group: str
    opens: bool
    """Whether it is the first of its group."""
    rows: list[list[Text]]


def _units(rows: list[list[Text] | str]) -> list[Unit]:
    units: list[Unit] = []
    group, opens = "", False
    for row in rows:
        if isinstance(row, str):
            group, opens = row, bool(row)
        elif row[0].text or not units:
            units.append(Unit(group, opens, [row]))
            opens = False
        else:
            units[-1].rows.append(row)
    return units


def _left(view: View) -> list[str]:
    return ["Method", *map(title, view.extras), ""]


def _panels(view: View, units: list[Unit], type_: Type) -> list[range]:
    """The columns of numbers, split into panels that fit a page, where possible at the beginning of a direction."""
    n_left = 2 + len(view.extras)
    extents = [[_extent(cell, type_) for cell in row] for unit in units for row in unit.rows]
    left = [_extent(Text(text), type_) for text in _left(view)]
    for spans in view.heads:
        extents.append([*left, *(_extent(Text(text), type_) / n for text, n in spans for _ in range(n)), 0.0])
    widths = [max(column) + 2 * type_.gap for column in zip(*extents, strict=True)]
    widths[-2] += widths[-1]  # the remark stands beside the last column
    fixed = widths[0] + widths[n_left - 1]  # the method, and whether a number is published or ours
    directions = groupby(range(len(view.columns)), key=lambda i: (view.columns[i].system, view.columns[i].aspect))
    panels: list[list[int]] = [[]]
    room = WIDTH - sum(widths[:n_left])

    def place(columns: list[int]) -> None:
        nonlocal room
        needed = sum(widths[n_left + i] for i in columns)
        if needed > room and panels[-1]:
            panels.append([])
            room = WIDTH - fixed
        panels[-1] += columns
        room -= needed

    for _, members in directions:
        columns = list(members)
        whole = sum(widths[n_left + i] for i in columns) <= WIDTH - fixed
        for part in [columns] if whole else [[i] for i in columns]:
            place(part)
    return [range(part[0], part[-1] + 1) for part in panels]


class _Tabular:
    """The columns of one panel."""

    def __init__(self, view: View, panel: range):
        self.view, self.panel = view, panel
        self.n_left = 2 + len(view.extras)
        self.first, self.last = panel.start == 0, panel.stop == len(view.columns)

    def cut(self, row: list[Text]) -> list[Text]:
        """The cells of a row of the whole table that belong to this panel."""
        numbers = row[self.n_left : -1]
        left = row[: self.n_left] if self.first else [row[0], row[self.n_left - 1]]
        return [*left, *numbers[self.panel.start : self.panel.stop], *row[-1:][: self.last]]

    def head(self) -> list[str]:
        view, panel = self.view, self.panel
        left = self.cut([Text(text) for text in [*_left(view), *[""] * len(view.columns), ""]])
        left = [cell.text for cell in left[: len(left) - len(panel) - self.last]]
        form = "l" * len(left) + "r" * len(panel) + "l" * self.last
        lines = [f"  \\begin{{tabular}}{{{form}}}", r"    \toprule"]
        for level, spans in enumerate(view.heads):
            each = [(number, text) for number, (text, n) in enumerate(spans) for _ in range(n)]
            parts = [(text, len([*members])) for (_, text), members in groupby(each[i] for i in panel)]
            last = level == len(view.heads) - 1
            cells = [tex(text) if n == 1 else f"\\multicolumn{{{n}}}{{c}}{{{tex(text)}}}" for text, n in parts]
            cells = [*(tex(text) if last else "" for text in left), *cells, *[""] * self.last]
            lines.append("    " + " & ".join(cells).rstrip() + r" \\")
            if not last:
                start, rules = len(left) + 1, []
                for _, n in parts:
                    rules.append(f"\\cmidrule(lr){{{start}-{start + n - 1}}}")
                    start += n
                lines.append("    " + " ".join(rules))
        return [*lines, r"    \midrule"]

    def unit(self, unit: Unit, *, first: bool, named: bool) -> list[str]:
        lines = []
        if named:
            width = len(self.cut(unit.rows[0]))
            lines = [] if first else [r"    \addlinespace"]
            lines.append(f"    \\multicolumn{{{width}}}{{l}}{{\\emph{{{tex(unit.group)}}}}} \\\\")
        return [*lines, *("    " + " & ".join(map(_cell, self.cut(row))).rstrip() + r" \\" for row in unit.rows)]


def _height(text: str) -> float:
    """The height of a caption in points, in the document's own type size, with the space around it."""
    return 12.0 * (len(text) // 66 + 2)


def _note_height(text: str) -> float:
    """The height of a note in points, which is set smaller."""
    return 9.5 * (len(text) // 78 + 1) + 3.0


class _Floats:
    """Floats that are filled one after another."""

    def __init__(self, view: View, type_: Type):
        self.view, self.type = view, type_
        caption = " ".join([f"{view.table.title}.", *(text for _, text in view.caption)])
        self.lines = ["% Needs \\usepackage{booktabs}."]
        self._begin([f"  \\caption{{{tex(caption)}}}", f"  \\label{{tab:{view.id}}}"])
        # Points below the caption of a continued float, and those that are left in this one.
        self.fresh = HEIGHT - _height(view.table.title)
        self.room = HEIGHT - _height(caption)

    def _begin(self, caption: list[str]) -> None:
        self.lines += [r"\begin{table}", r"  \centering", f"  {self.type.command}", *caption]

    def _go_on(self) -> None:
        """Close the float and begin another one with the same table number."""
        self.lines.append(r"\end{table}")
        self._begin([r"  \addtocounter{table}{-1}", f"  \\caption{{{tex(self.view.table.title)}, continued.}}"])
        self.room = self.fresh

    def put(self, tabular: _Tabular, units: list[Unit]) -> None:
        """Add a panel with all its rows, on a new page where that keeps it in one piece."""
        line = self.type.line
        above = len(self.view.heads) * (line + 3) + 12
        heights = [len(unit.rows) * line + 1 + (line + 6) * unit.opens for unit in units]
        if tabular.panel.start:
            if self.room < above + sum(heights[:1]) or self.room < above + sum(heights) <= self.fresh:
                self._go_on()
            else:
                self.lines.append(r"  \par\medskip")
        self.lines += tabular.head()
        self.room -= above
        first = True
        for unit, height in zip(units, heights, strict=True):
            if height > self.room and not first:
                self.lines += ENDS
                self._go_on()
                self.lines += tabular.head()
                self.room -= above
                first = True
            self.lines += tabular.unit(unit, first=first, named=bool(unit.group) and (first or unit.opens))
            self.room -= height
            first = False
        self.lines += ENDS

    def notes(self, texts: list[str]) -> None:
        """Add notes below the last panel, one paragraph per note; a full page continues on the next one."""
        for number, text in enumerate(texts):
            if self.room < _note_height(text):
                self._go_on()
            elif number == 0:
                self.lines.append(r"  \par\smallskip")
            self.lines.append("  {\\footnotesize\\raggedright " + tex(text) + "\\par}")
            self.room -= _note_height(text)

    def text(self) -> str:
        return "\n".join([*self.lines, r"\end{table}"]) + "\n"


def to_tex(view: View) -> str:
    """The table as LaTeX, which needs `\\usepackage{booktabs}` alone."""
    remarks: dict[str, str] = {}
    rows: list[list[Text] | str] = []
    for row in grid(view):
        if not isinstance(row, str) and len(row[-1].text) > LONG:
            row = [*row[:-1], Text(f"[{remarks.setdefault(row[-1].text, str(len(remarks) + 1))}]")]
        rows.append(row)
    units = _units(rows)
    type_, panels = PLAIN, _panels(view, units, PLAIN)
    if len(panels) > 1:
        type_, panels = CLOSE, _panels(view, units, CLOSE)
    floats = _Floats(view, type_)
    for panel in panels:
        floats.put(_Tabular(view, panel), units)
    floats.notes([*(noted(*note) for note in view.notes), *(f"[{n}] {text}" for text, n in remarks.items())])
    return floats.text()
