"""The four renderings of a table say the same, and nothing is lost or left unescaped."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_rows, records_of
from crossmodal.experiments import Plan
from crossmodal.reporting.results import comparison as comparing
from crossmodal.reporting.results.collect import collect
from crossmodal.reporting.tables import latex, writers
from crossmodal.reporting.tables.latex import tex
from crossmodal.reporting.tables.views import Cell, Text, grid, number


@pytest.fixture(scope="module")
def views(made: Path, plan: Plan) -> dict[str, writers.View]:
    return {view.id: view for view in writers.all_views(plan, read_rows(made / "comparison.parquet"))}


def test_every_table_in_every_format(made: Path, plan: Plan, tmp_path: Path) -> None:
    paths = writers.render(plan, read_rows(made / "comparison.parquet"), tmp_path)
    assert len(paths) == 8 * 4
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in paths}
    assert (tmp_path / "mfsr-table1.csv").exists()


def test_csv_round_trip(views: dict[str, writers.View]) -> None:
    for view in views.values():
        back = pd.read_csv(io.StringIO(writers.to_csv(view))).astype(comparing.TYPES)
        pd.testing.assert_frame_equal(back, pd.DataFrame(view.cells).astype(comparing.TYPES))


@pytest.mark.parametrize("kind", ["md", "tex", "html"])
def test_no_published_number_is_lost(views: dict[str, writers.View], kind: str) -> None:
    for view in views.values():
        text = writers.WRITERS[kind](view)
        for value in filter(None, (cell["published"] for cell in view.cells)):
            assert re.search(rf"(?<![\d.]){re.escape(f'{value:.1f}')}(?![\d.])", text), (view.id, value)


def test_numbers() -> None:
    assert number(90.0) == "90.0"
    assert number(0.512) == "0.512"
    assert number(None) == "–"
    cell = Cell(64.6, 61.0, 1.25, -3.6, True, 3, 3, "done")
    assert (cell.ours_text, cell.difference_text) == ("61.0 ± 1.2", "−3.6*")
    alone = Cell(64.6, 70.04, None, 5.44, False, 1, 3, "done")
    assert (alone.ours_text, alone.difference_text) == ("70.0", "+5.4")


def test_markdown_is_a_table_of_equal_columns(views: dict[str, writers.View]) -> None:
    for view in views.values():
        rows = [line for line in writers.to_md(view).splitlines() if line.startswith("|")]
        assert len({len(row) for row in rows}) == 1  # aligned
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    text = writers.to_md(views["mfsr-table1"])
    assert "no system yet (published only)" in text
    assert re.search(r"\| here +\|.* ± .*\| 3 seeds", text)
    assert "| difference |" not in text  # the data set is played by a stand-in
    assert "ranks are 1-based and ties count against the model" in text
    assert "played by the stand-in “embedded world” (40 images and 200 captions to test on)" in text


def test_tex_holds_together(views: dict[str, writers.View]) -> None:
    for view in views.values():
        text = writers.to_tex(view)
        assert text.isascii() or not re.search("[±−–→“”]", text)
        bare = text.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}")
        for name in ("table", "tabular"):
            assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") >= 1
        for panel in text.split(r"\begin{tabular}")[1:]:
            width = len(re.match(r"\{([lr]+)\}", panel)[1])
            body = panel.split(r"\toprule")[1].split(r"\bottomrule")[0]
            for line in (line for line in body.splitlines() if line.endswith(r"\\")):
                spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(n - 1 for n in spans) == width, line
        assert not re.search(r"(?<!\\)[%#_](?!.*Needs)", text.split("\n", 1)[1].replace(view.id, ""))
    assert r"VSE++ \& mo \& sp" in writers.to_tex(views["mfsr-table3"])
    assert r"10\% images" in writers.to_tex(views["a3vse-table1"])
    assert r"s\_g baseline" in writers.to_tex(views["a3vse-table2"])
    assert tex("50 % of $x_{1}^2$ & ~\\ ± –") == (
        r"50 \% of \$x\_\{1\}\textasciicircum{}2\$ \& \textasciitilde{}\textbackslash{} $\pm$ --"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_tex_compiles_as_it_is(views: dict[str, writers.View], tmp_path: Path) -> None:
    found = "\n\\clearpage\n".join(writers.to_tex(view) for view in views.values())
    text = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{found}\n\\end{{document}}\n"
    (tmp_path / "all.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    assert "too wide" not in done.stdout, "a table is wider than its page"
    assert "Float too large" not in done.stdout


def test_tex_parts_what_is_wider_or_longer_than_a_page(
    views: dict[str, writers.View], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each column once, each panel with all methods, further floats under the first one's number."""
    view = views["a3vse-table1"]
    text = writers.to_tex(view)
    panels = text.split(r"\begin{tabular}")[1:]
    assert len(panels) > 1
    assert text.count(r"\begin{table}") == 1
    assert sum(len(re.findall(r"R@\d+", panel.split(r"\midrule")[0])) for panel in panels) == len(view.columns) == 12
    for line in view.lines:
        assert all(tex(line.label) in panel for panel in panels)
        assert all(tex(cell.published_text) in text for cell in line.cells)
    monkeypatch.setattr(latex, "HEIGHT", 300.0)
    low = writers.to_tex(view)
    assert low.count(r"\addtocounter{table}{-1}") == low.count(r"\begin{table}") - 1 > 0
    assert low.count(r"\label") == 1
    assert set(text.splitlines()) - {r"  \par\medskip"} <= set(low.splitlines())


def test_best_and_second_are_marked(made: Path, plan: Plan) -> None:
    comparison = pd.read_parquet(made / "comparison.parquet")
    cells = (comparison.paper == "mfsr") & (comparison.table == "table3") & (comparison.column == 0)
    comparison.loc[cells, "published"] = [50.0, 60.0, 60.0, 55.0, 40.0, 59.9, 10.0, 5.0][: cells.sum()]
    done = cells & (comparison.status == "done")
    comparison.loc[done, "ours_mean"] = [20.04 - i for i in range(done.sum())]
    view = next(v for v in writers.all_views(plan, records_of(comparison)) if v.id == "mfsr-table3")
    places = [line.cells[0].published_place for line in view.lines]
    assert places[: cells.sum()] == [0, 1, 1, 0, 0, 2, 0, 0][: cells.sum()]
    first = next(line.cells[0] for line in view.lines if line.cells[0].status == "done")
    assert first.place == (1 if done.sum() > 1 else 0)
    assert r"\textbf{60.0}" in writers.to_tex(view)
    assert r"\underline{59.9}" in writers.to_tex(view)
    assert "**60.0**" in writers.to_md(view)
    assert '<td class="number best"' in writers.to_html(view)


def test_numbers_of_other_test_sets_are_not_compared(made: Path, plan: Plan) -> None:
    """Such as those of the first stage's classes and of all (thesis, table 13)."""
    comparison = pd.read_parquet(made / "comparison.parquet")
    paper, table = plan.tables["mfsr-table3"]
    rows = [row.model_copy(update={"protocol": "first" if n % 2 else None}) for n, row in enumerate(table.rows)]
    parted = table.model_copy(update={"rows": rows})
    cells = (comparison.paper == "mfsr") & (comparison.table == "table3") & (comparison.column == 0)
    comparison.loc[cells, "published"] = [90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0]
    tables_of = [parted if one is table else one for one in paper.tables]
    papers = {**plan.papers, "mfsr": paper.model_copy(update={"tables": tables_of})}
    for which, expected in ((Plan(plan.params, papers), [1, 1, 2, 2]), (plan, [1, 2, 0, 0])):
        view = next(v for v in writers.all_views(which, records_of(comparison)) if v.id == "mfsr-table3")
        assert [line.cells[0].published_place for line in view.lines] == [*expected, 0, 0, 0, 0]


def test_numbers_of_other_annotation_are_not_compared(views: dict[str, writers.View]) -> None:
    view = views["a3vse-table1"]  # a row a degree of annotation, its systems in columns
    for row, part in pd.DataFrame(view.cells).groupby("row"):
        for (_, _), same in part.groupby(["aspect", "metric"]):
            places = [view.lines[row].cells[column].published_place for column in same.column]
            assert sorted(places) in ([1, 2], [1, 1])
            assert same.published.iloc[places.index(1)] == same.published.max()


def test_every_rendering_has_the_grid(views: dict[str, writers.View]) -> None:
    rows = grid(views["mfsr-table1"])
    assert all(isinstance(cell, Text) for row in rows if not isinstance(row, str) for cell in row)
    assert len({len(row) for row in rows if not isinstance(row, str)}) == 1


class _Rows(HTMLParser):
    """Cells of each row, their spans counted."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[tuple[int, int]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in ("input", "img", "br", "meta", "link"):
            self.open.append(tag)
        found = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append((int(found.get("colspan", 1)), int(found.get("rowspan", 1))))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_rectangular(views: dict[str, writers.View]) -> None:
    for view in views.values():
        parser = _Rows()
        parser.feed(writers.to_html(view))
        assert not parser.open
        pending: list[tuple[int, int]] = []  # (rows left, columns) that reach down from rows above
        widths = set()
        for row in parser.rows:
            widths.add(sum(c for c, _ in row) + sum(c for _, c in pending))
            pending = [(n - 1, c) for n, c in pending if n > 1] + [(r - 1, c) for c, r in row if r > 1]
        assert len(widths) == 1, view.id


def test_html_escapes_and_marks(views: dict[str, writers.View]) -> None:
    assert "VSE++ &amp; mo" in writers.to_html(views["mfsr-table3"])
    html = writers.to_html(views["mfsr-table1"])
    assert 'class="ours"' in html
    assert 'class="published bare"' in html
    assert "says nothing about either system" in html
    assert "no system yet" in writers.to_html(views["a3vse-table1"])


def test_missing_cells_say_why(made: Path, plan: Plan) -> None:
    quick = {key: job for key, job in plan.jobs.items() if job.quick}
    metrics = collect(plan, made / "runs", {k: j for k, j in quick.items() if j.model != "vse0"})
    view = writers.all_views(plan, records_of(comparing.compare(plan, metrics, quick)))[0]
    for writer in (writers.to_md, writers.to_tex, writers.to_html):
        text = writer(view)
        assert "missing: not part of quick; run `snakemake all`" in text
        assert "missing: run vse0 on world/full not made yet" in text
        assert "1 seed" in text


def test_failed_controls_are_said_in_every_rendering(made: Path, plan: Plan) -> None:
    metrics = pd.read_parquet(made / "metrics.parquet")
    metrics.loc[metrics.model == "oracle", "value"] = 50.0
    view = writers.all_views(plan, records_of(comparing.compare(plan, metrics)))[0]
    assert view.qc.startswith("off: oracle")
    for writer in (writers.to_md, writers.to_tex, writers.to_html):
        assert "Quality control failed" in writer(view)


def test_a_comparison_of_other_papers_is_an_error(made: Path, plan: Plan) -> None:
    comparison = pd.read_parquet(made / "comparison.parquet")
    with pytest.raises(UserError, match="mfsr table1 has 161 cells, expected 162"):
        writers.all_views(plan, records_of(comparison.drop(index=0)))


def test_tex_notes_that_a_page_has_no_room_for_go_on_on_the_next(
    views: dict[str, writers.View], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stands once, after the table, and none makes a float higher than a page."""
    view = views["mfsr-table3"]
    short = writers.to_tex(view)
    long = replace(view, notes=[(f"n{i}", f"note {i} " + "and so on " * 60) for i in range(12)])
    text = writers.to_tex(long)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") > short.count(r"\begin{table}")
    assert text.count(r"\begin{table}") - 1 == text.count("continued.}")
    assert [f"(n{i}) note {i} and" in text for i in range(12)] == [True] * 12
    places = [text.index(f"(n{i}) note {i} and") for i in range(12)]
    assert places == sorted(places)
    assert places[0] > text.rindex(r"\end{tabular}")
    for page in text.split(r"\begin{table}")[2:]:  # of notes alone
        assert (
            sum(latex._note_height(line) for line in page.splitlines() if line.startswith("  {\\foot")) < latex.HEIGHT
        )
