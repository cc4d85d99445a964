"""A paper's table in the terminal: nothing of it is cut off, however narrow the terminal is."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from crossmodal.core.errors import UserError
from crossmodal.experiments import Plan
from crossmodal.reporting.tables import terminal, views
from crossmodal.reporting.tables.views import View


@pytest.fixture(scope="module")
def shown(made: Path, plan: Plan) -> list[View]:
    return views.all_views(plan, pd.read_parquet(made / "comparison.parquet"))


def printed(view: View, width: int, **options: bool) -> str:
    stream = io.StringIO()
    terminal.show(view, Console(file=stream, width=width), **options)
    return stream.getvalue()


@pytest.mark.parametrize("width", [50, 200])
def test_every_number_is_there(shown: list[View], width: int) -> None:
    for view in shown:
        text = printed(view, width)
        for value in view.frame.published.dropna():
            assert re.search(rf"(?<![\d.]){re.escape(f'{value:.1f}')}(?![\d.])", text), (view.id, value)
        assert view.table.title in " ".join(text.split())


def test_our_rows_alone(made: Path, plan: Plan) -> None:
    """Shown though the other tables were not made."""
    comparison = pd.read_parquet(made / "comparison.parquet")
    view = views.view(plan, comparison[(comparison.paper == "mfsr") & (comparison.table == "table1")], "mfsr-table1")
    bare = next(line for line in view.lines if not line.has_system)
    assert bare.label in printed(view, 200)
    assert bare.label not in printed(view, 200, only_ours=True)
    assert "3 seeds" in printed(view, 200, only_ours=True)


def test_an_unknown_table_is_named_with_those_there_are(made: Path, plan: Plan) -> None:
    with pytest.raises(UserError, match=r"'mfsr-tabel1' is unknown; did you mean 'mfsr-table1'.*a3vse-table5"):
        views.view(plan, pd.read_parquet(made / "comparison.parquet"), "mfsr-tabel1")
