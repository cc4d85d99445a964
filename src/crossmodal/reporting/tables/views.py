"""The common structure of a paper's table: published numbers, ours as mean ± s.d. over seeds, and the difference.

`View` is made from `comparison.parquet`, and every writer renders it. A missing cell gives the reason; among the
numbers that may be compared, the best and the second best are marked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crossmodal.core.display import setting
from crossmodal.core.errors import UserError, suggestion
from crossmodal.experiments import CONTROLS, Column, Paper, Plan, Table
from crossmodal.reporting.results.cells import PUBLISHED_ONLY, Cells
from crossmodal.reporting.tables.captions import NO_SYSTEM, caption_of
from crossmodal.tasks.base import label, lower_is_better

DASH = "–"
MINUS = "−"
MARKS = {"better": "↑", "worse": "↓"}


def number(value: float | None, digits: int = 1) -> str:
    """A published number with one decimal, or more where it has more; `–` for None."""
    if value is None or math.isnan(value):
        return DASH
    text = f"{value:.{digits}f}"
    if digits < 6 and not math.isclose(float(text), value, abs_tol=1e-9):
        return number(value, digits + 1)
    return text.replace("-", MINUS)


def ours(value: float | None, digits: int = 1) -> str:
    if value is None or math.isnan(value):
        return DASH
    return f"{value:.{digits}f}".replace("-", MINUS)


@dataclass(frozen=True)
class Cell:
    """A published number beside ours, with its texts for the writers."""

    published: float | None
    mean: float | None
    sd: float | None
    difference: float | None
    significant: bool
    n_seeds: int
    n_expected: int
    status: str
    low: float | None = None
    high: float | None = None
    against: str = ""
    published_place: int = 0  # 1: the best of the numbers that it may be compared with, 2: the second best, 0: neither
    place: int = 0  # the same for our number

    @property
    def published_text(self) -> str:
        return number(self.published)

    @property
    def mean_text(self) -> str:
        return ours(self.mean)

    @property
    def sd_text(self) -> str:
        return "" if self.sd is None else f"{self.sd:.1f}"

    @property
    def ours_text(self) -> str:
        return f"{self.mean_text} ± {self.sd_text}{self.mark}" if self.sd_text else f"{self.mean_text}{self.mark}"

    @property
    def mark(self) -> str:
        """An arrow where our number differs significantly, over queries and seeds, from that of its reference."""
        return MARKS.get(self.against, "")

    @property
    def interval_text(self) -> str:
        return "" if self.low is None or self.high is None else f"95 % interval {ours(self.low)} to {ours(self.high)}"

    @property
    def difference_text(self) -> str:
        if self.difference is None:
            return DASH
        sign = "+" if self.difference > 0 else MINUS if self.difference < 0 else "±"
        return f"{sign}{abs(self.difference):.1f}{'*' if self.significant else ''}"

    @property
    def missing(self) -> bool:
        return self.status.startswith("missing")


@dataclass(frozen=True)
class Line:
    """A row of the published table."""

    label: str
    group: str | None
    extra: dict[str, Any]
    cells: list[Cell]
    marks: str = ""
    own_extra: dict[str, Any] = field(default_factory=dict)
    """The values of our runs for the columns of `extra`."""

    @property
    def has_system(self) -> bool:
        return any(cell.status != PUBLISHED_ONLY for cell in self.cells)

    @property
    def published(self) -> bool:
        """Whether the row has published numbers; our own additions have none."""
        return any(cell.published is not None for cell in self.cells)

    @property
    def done(self) -> bool:
        return any(cell.status == "done" for cell in self.cells)

    @property
    def differs(self) -> bool:
        return any(cell.difference is not None for cell in self.cells)

    @property
    def remark(self) -> str:
        """The remark after our numbers: how many seeds they are of, or why there are none."""
        if not self.has_system:
            return NO_SYSTEM
        done = [cell for cell in self.cells if cell.status == "done"]
        reasons = dict.fromkeys(cell.status for cell in self.cells if cell.missing)
        if not done:
            return "; ".join(reasons)
        n, expected = min(c.n_seeds for c in done), max(c.n_expected for c in done)
        seeds = f"{n} of {expected} seeds" if n < expected else f"{n} seed{'s' if n > 1 else ''}"
        return "; ".join([seeds, *reasons])


@dataclass(frozen=True)
class View:
    """A table in the structure that all writers render."""

    paper: Paper
    table: Table
    columns: list[Column]
    extras: list[str]
    lines: list[Line]
    caption: list[tuple[str, str]]
    notes: list[tuple[str, str]]
    """(mark, sentence) for each note below the table; the mark is '' for a note on several rows."""
    cells: Cells = field(repr=False)
    """The rows of `comparison.parquet` that the table is made of, by row and column."""

    @property
    def id(self) -> str:
        return f"{self.paper.name}-{self.table.id}"

    @property
    def has_system(self) -> bool:
        """Whether any row of the table can be run."""
        return any(line.has_system for line in self.lines)

    @property
    def heads(self) -> list[list[tuple[str, int]]]:
        """Header rows above the numbers (systems, directions, metrics), each a list of (text, columns spanned)."""
        levels = [[title(c.aspect) for c in self.columns], [label(c.metric) for c in self.columns]]
        spans = [[(c.system, c.aspect) for c in self.columns], list(range(len(self.columns)))]
        if any(c.system for c in self.columns):
            levels.insert(0, [c.system or "" for c in self.columns])
            spans.insert(0, [c.system for c in self.columns])
        return [_spans(texts, keys) for texts, keys in zip(levels, spans, strict=True)]

    @property
    def qc(self) -> str:
        return self.cells[0]["qc"] if self.cells else "not run"


def _spans(texts: list[str], keys: list[Any]) -> list[tuple[str, int]]:
    spans: list[list[Any]] = []
    for text, key in zip(texts, keys, strict=True):
        if spans and spans[-1][2] == key:
            spans[-1][1] += 1
        else:
            spans.append([text, 1, key])
    return [(text, n) for text, n, _ in spans]


def title(text: str) -> str:
    """A key in words, or a sentence, with a capital first; names with an underscore in a sentence stay as they are."""
    first, *others = text.split(" ")
    if others:
        return text if "_" in first else text[:1].upper() + text[1:]
    return text[:1].upper() + text[1:].replace("_", " ")


def all_views(plan: Plan, comparison: Cells) -> list[View]:
    """The views of every table of every paper, from the rows of `comparison.parquet`.

    Raises
    ------
    UserError : the comparison was made from other papers than the plan's.
    """
    cells_of: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in comparison:
        cells_of.setdefault((cell["paper"], cell["table"]), []).append(cell)
    return [
        _view(plan, paper, table, cells_of.get((paper.name, table.id), [])) for paper, table in plan.tables.values()
    ]


def view(plan: Plan, comparison: Cells, name: str) -> View:
    """The view of the table `PAPER-TABLE`; other tables need not be in the comparison.

    Raises
    ------
    UserError : there is no such table, or the comparison was made from another version of it.
    """
    if name not in plan.tables:
        for path in sorted(Path("papers").glob("*.yaml")):
            if path.stem not in plan.papers and name.startswith(f"{path.stem}-"):
                raise UserError(
                    f"table {name!r}: would be in {path}, which `papers` in params.yaml does not name; add "
                    f"{path.stem} to it and run `crossmodal collect` again"
                )
        raise UserError(f"table {name!r} is unknown{suggestion(name, plan.tables)}")
    paper, table = plan.tables[name]
    of_table = [cell for cell in comparison if (cell["paper"], cell["table"]) == (paper.name, table.id)]
    return _view(plan, paper, table, of_table)


def _view(plan: Plan, paper: Paper, table: Table, cells: Cells) -> View:
    cells = sorted(cells, key=lambda cell: (cell["row"], cell["column"]))
    width = len(table.columns)
    if len(cells) != width * len(table.rows):
        raise UserError(
            f"comparison.parquet: {paper.name} {table.id} has {len(cells)} cells, expected {width * len(table.rows)}; "
            "it was made from another papers/ or params.yaml: run `crossmodal collect` again, or read that of the "
            "demonstration with --quick"
        )
    marks: dict[str, str] = {}
    places = _places(table, cells)
    lines = []
    for index, row in enumerate(table.rows):
        part = cells[index * width : (index + 1) * width]
        remarks = [text for text in (row.note, row.differs and _differs(paper, table, row.differs)) if text]
        mark = ", ".join(marks.setdefault(text, letters(len(marks))) for text in remarks)
        of_line = [replace(_cell(cell), **places[index, column]) for column, cell in enumerate(part)]
        lines.append(Line(row.label, row.group, row.extra, of_line, mark, _own_extra(part)))
    notes = [(mark, text) for text, mark in marks.items()]
    notes += [("", text) for text in _settings(table, cells, _compared_with(paper, table))]
    notes += [("", text) for text in _sweeps(cells)]
    placed = any(place["place"] for place in places.values())
    caption = caption_of(plan, paper, table, cells, placed)
    return View(paper, table, table.columns, table.extra_keys, lines, caption, notes, cells)


def _own(paper: Paper, table: Table) -> bool:
    """Whether a table is of one's own: nothing in it is published, and its paper refers to no publication."""
    return not table.has_published and not paper.reference


def _differs(paper: Paper, table: Table, text: str) -> str:
    """The note on a row whose run is not what was published; where nothing is, the sentence as it stands."""
    return title(text) if _own(paper, table) else f"Differs: {text}"


def _compared_with(paper: Paper, table: Table) -> str:
    """The settings that ours are compared with in the notes."""
    return "the defaults" if _own(paper, table) else "those of the paper, or our default where it gives none"


def letters(number: int) -> str:
    """The mark of the note of a number from 0: `a` to `z`, then `aa`, `ab`, ..."""
    before, last = divmod(number, 26)
    return (letters(before - 1) if before else "") + chr(ord("a") + last)


def _own_extra(cells: Cells) -> dict[str, Any]:
    """The values of a row's runs for the columns before the numbers; each value once where systems differ."""
    values: dict[str, list[Any]] = {}
    for text in dict.fromkeys(cell["ours_extra"] for cell in cells if cell["ours_extra"] is not None):
        for key, value in json.loads(text).items():
            if value not in values.setdefault(key, []):
                values[key].append(value)
    return {key: listed[0] if len(listed) == 1 else ", ".join(map(extra, listed)) for key, listed in values.items()}


def _settings(table: Table, cells: Cells, others: str) -> list[str]:
    """One sentence per system, or several alike, whose settings are not the published ones, or defaults (`others`).

    A setting that is not the same in all rows of a system is told with the rows of each value.
    """
    of_system: dict[str, dict[str, dict[str, dict[int, None]]]] = {}
    rows_of: dict[str, set[int]] = {}
    for cell in cells:
        if cell["ours_settings"] is None:
            continue
        system = cell["system"] if cell["column_system"] is None else cell["column_system"]
        rows_of.setdefault(system, set()).add(cell["row"])
        settings_of = of_system.setdefault(system, {})
        for name, (ours, published) in json.loads(cell["ours_settings"]).items():
            told = f"{setting(ours)} ({setting(published)})"
            settings_of.setdefault(name, {}).setdefault(told, {})[cell["row"]] = None
    systems: dict[str, list[str]] = {}
    for system, settings_of in of_system.items():
        listed = ", ".join(
            f"{name} {_by_rows(table, values, len(rows_of[system]))}" for name, values in settings_of.items()
        )
        systems.setdefault(listed, []).append(system)
    return [
        f"Settings here of {', '.join(named)}, in brackets {others}: {listed}." for listed, named in systems.items()
    ]


def _by_rows(table: Table, values: Mapping[str, Mapping[int, None]], every: int) -> str:
    """A value of all `every` rows as it is; others with the groups of their rows, or more where these do not tell."""
    if len(values) == 1 and len(next(iter(values.values()))) == every:
        return next(iter(values))
    for keys in (("group",), ("label",), ("group", "label")):
        named: dict[str, list[str]] = {}
        for told, rows in values.items():
            parts = [[getattr(table.rows[row], key) for key in keys] for row in rows]
            named[told] = list(dict.fromkeys(": ".join(filter(None, part)) for part in parts))
        names = [name for listed in named.values() for name in listed]
        if all(names) and len(set(names)) == len(names):
            break
    quoted = {told: ", ".join(f'"{name}"' for name in listed) for told, listed in named.items()}  # names have commas
    return " or ".join(f"{told} in {listed}" for told, listed in quoted.items())


def _sweeps(cells: Cells) -> list[str]:
    """One sentence per system, or several alike, whose settings were chosen by a sweep."""
    systems: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell["ours_sweep"] is not None:
            system = cell["system"] if cell["column_system"] is None else cell["column_system"]
            systems.setdefault(cell["ours_sweep"], {})[system] = None
    return [f"Swept settings of {', '.join(named)}: {text}." for text, named in systems.items()]


def _cell(record: Mapping[str, Any]) -> Cell:
    return Cell(
        published=record["published"],
        mean=record["ours_mean"],
        sd=record["ours_sd"],
        difference=record["difference"],
        significant=bool(record["significant"]),
        n_seeds=record["n_seeds"],
        n_expected=record["n_expected"],
        status=record["status"],
        low=record["ours_low"],
        high=record["ours_high"],
        against=record["against"] or "",
    )


def _places(table: Table, records: Cells) -> dict[tuple[int, int], dict[str, int]]:
    """{(row, column): `Cell.place` and `Cell.published_place`} of each cell.

    Numbers of one data set, split, test and metric are compared. Those that look the same share a place; controls have
    none, nor has a number without others to compare it with.
    """
    places = {(cell["row"], cell["column"]): {"place": 0, "published_place": 0} for cell in records}
    for value, dataset, split, key, digits in (
        ("published", "dataset", "split", "published_place", 6),
        ("ours_mean", "ours_dataset", "ours_split", "place", 1),
    ):
        comparable: dict[tuple, list[tuple[tuple[int, int], float]]] = {}
        for cell in records:
            place = (cell["row"], cell["column"])
            if cell[value] is None or (key == "place" and cell["ours_model"] in CONTROLS):
                continue
            test = table.columns[place[1]].protocol or table.rows[place[0]].protocol
            group = (cell[dataset], cell[split], test, cell["aspect"], cell["metric"])
            comparable.setdefault(group, []).append((place, round(cell[value], digits)))
        for (*_, metric), numbers in comparable.items():
            best = sorted({number for _, number in numbers}, reverse=not lower_is_better(metric))[:2]
            if len(best) > 1:
                for place, number in numbers:
                    places[place][key] = best.index(number) + 1 if number in best else 0
    return places


@dataclass(frozen=True)
class Text:
    """The text of one cell of a rendered table; `place` as in `Cell.place`."""

    text: str
    place: int = 0


def grid(view: View) -> list[list[Text] | str]:
    """Rows of plain text: method, extras, whose numbers, the numbers, and a remark; a bare string opens a group."""
    rows: list[list[Text] | str] = []
    group = None
    for line in view.lines:
        if line.group != group:
            group = line.group
            rows.append(group or "")
        label = f"{line.label} ({line.marks})" if line.marks else line.label
        extras = [extra(line.own_extra.get(key)) for key in view.extras]
        blank = ["" for _ in [label, *extras]]
        if line.published:
            remark = "" if line.has_system else NO_SYSTEM
            published = [(c.published_text, c.published_place) for c in line.cells]
            head = [label, *(extra(line.extra.get(key)) for key in view.extras), "published"]
            rows.append(_texts(head, published, remark))
            label = ""
        if line.has_system or not line.published:
            rows.append(_texts([label, *extras, "here"], [(c.ours_text, c.place) for c in line.cells], line.remark))
        if line.differs:
            rows.append(_texts([*blank, "difference"], [(c.difference_text, 0) for c in line.cells], ""))
    return rows


def _texts(head: list[str], numbers: list[tuple[str, int]], remark: str) -> list[Text]:
    return [*map(Text, head), *(Text(text, place) for text, place in numbers), Text(remark)]


def noted(mark: str, text: str) -> str:
    """A note that is preceded by its mark."""
    return f"({mark}) {text}" if mark else text


def extra(value: Any) -> str:
    """The text of a cell in the columns before the numbers."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def flat_heads(view: View) -> list[str]:
    """One heading per column, for formats with a single header row."""
    return [" ".join(parts) for parts in parted_heads(view)]


def parted_heads(view: View) -> list[list[str]]:
    """The parts of each column's heading: a system, where columns name any, a direction and a metric."""
    heads = [[column.system, _arrow(column.aspect), label(column.metric)] for column in view.columns]
    return [[part for part in parts if part] for parts in heads]


def _arrow(aspect: str) -> str:
    return aspect.replace("-to-", "→")
