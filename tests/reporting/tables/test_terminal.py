"""A paper's table in the terminal: nothing of it is cut off, however narrow the terminal is."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_rows
from crossmodal.experiments import Plan
from crossmodal.reporting.tables import terminal, views
from crossmodal.reporting.tables.views import Line, View


@pytest.fixture(scope="module")
def shown(made: Path, plan: Plan) -> list[View]:
    return views.all_views(plan, read_rows(made / "comparison.parquet"))


def cells_of_table1(made: Path) -> list[dict]:
    cells = read_rows(made / "comparison.parquet")
    return [cell for cell in cells if (cell["paper"], cell["table"]) == ("mfsr", "table1")]


def printed(view: View, width: int, **options: str) -> str:
    stream = io.StringIO()
    terminal.show(view, Console(file=stream, width=width), **options)
    return stream.getvalue()


@pytest.mark.parametrize("width", [50, 200])
def test_every_number_is_there(shown: list[View], width: int) -> None:
    for view in shown:
        text = printed(view, width, rows="all")
        for value in filter(None, (cell["published"] for cell in view.cells)):
            assert re.search(rf"(?<![\d.]){re.escape(f'{value:.1f}')}(?![\d.])", text), (view.id, value)
        assert view.table.title in " ".join(text.split())


def test_our_rows_alone(made: Path, plan: Plan) -> None:
    """Shown though the other tables were not made."""
    cells = [
        cell for cell in read_rows(made / "comparison.parquet") if (cell["paper"], cell["table"]) == ("mfsr", "table1")
    ]
    view = views.view(plan, cells, "mfsr-table1")
    bare = next(line for line in view.lines if not line.has_system)
    assert bare.label in printed(view, 200, rows="all")
    assert bare.label not in printed(view, 200, rows="ours")
    assert "3 seeds" in printed(view, 200, rows="ours")


def test_an_unknown_table_is_named_with_those_there_are(made: Path, plan: Plan) -> None:
    with pytest.raises(UserError, match=r"'mfsr-tabel1' is unknown; did you mean 'mfsr-table1'.*a3vse-table5"):
        views.view(plan, read_rows(made / "comparison.parquet"), "mfsr-tabel1")


def test_rows_that_nothing_of_ours_fills_are_counted(made: Path, plan: Plan) -> None:
    """Table 1 of mFSR, as if the two systems of its batch size of 24 had not run."""
    cells = [
        cell for cell in read_rows(made / "comparison.parquet") if (cell["paper"], cell["table"]) == ("mfsr", "table1")
    ]
    view = views.view(plan, cells, "mfsr-table1")
    lines = [_not_run(line) if line.label in ("VSE++", "mFSR") else line for line in view.lines]
    view = replace(view, lines=lines)
    bare = [line.label for line in lines if not line.has_system]
    assert len(bare) == 20
    text = printed(view, 200)
    assert not any(label in text for label in bare)
    assert not re.search(r"^(VSE\+\+|mFSR) \(k\)|^\([a-k]\) ", text, re.MULTILINE)
    assert re.search(r"^VSE0 \(sum of hinges\)", text, re.MULTILINE)
    last = "Left out: 2 rows whose system has not run (--ours) and 20 rows with published numbers only (--all)."
    assert " ".join(text.split()).endswith(last)
    text = printed(view, 200, rows="ours")
    assert re.search(r"^(VSE\+\+|mFSR) \(k\)", text, re.MULTILINE)
    assert re.findall(r"^\((\w+)\) ", text, re.MULTILINE) == ["k"]
    assert text.rstrip().endswith("Left out: 20 rows with published numbers only (--all).")
    assert "Left out" not in printed(view, 200, rows="all")


def _not_run(line: Line) -> Line:
    missing = {"status": "missing: not part of quick", "mean": None, "sd": None}
    return replace(line, cells=[replace(cell, **missing) for cell in line.cells])


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(shown: list[View], width: int) -> None:
    """The columns that do not fit follow in further panels, each with the methods again."""
    for view in shown:
        if any(line.done for line in view.lines):
            text = printed(view, width)
            lines = text.splitlines()
            assert max(map(len, lines)) <= width, view.id
            heads = sum(line.startswith("Method") for line in lines)
            assert heads == 1 if width >= len(view.columns) * 20 + 80 else heads >= 1


def test_a_wide_table_has_all_its_numbers_in_panels(shown: list[View]) -> None:
    view = max(shown, key=lambda view: len(view.columns) * any(line.done for line in view.lines))
    text = printed(view, 80)
    assert text.count("Method") > 1
    for line in (line for line in view.lines if line.done):
        for cell in (cell for cell in line.cells if cell.mean is not None):
            assert cell.mean_text in text


def test_a_table_that_no_run_fills_says_so(made: Path, plan: Plan) -> None:
    view = next(view for view in views.all_views(plan, read_rows(made / "comparison.parquet")) if not view.has_system)
    text = printed(view, 200)
    assert "Method" not in text
    assert text.rstrip().endswith(f"Left out: {len(view.lines)} rows with published numbers only (--all).")


def test_a_table_of_a_paper_that_is_not_chosen_is_explained(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers/other.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"'other-table1': would be in papers/other.yaml, which `papers` .* not name"):
        views.view(plan, [], "other-table1")
