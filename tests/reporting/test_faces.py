"""What is imported by what only looks at results: a package's face nothing heavy, and no table torch."""

from __future__ import annotations

import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pandas as pd

from crossmodal.core.files import write_parquet

FACES = ("reporting", *(f"reporting.{room}" for room in ("results", "tables", "figures", "page", "tracking")))
LOOKING = (
    *("tables.writers", "tables.terminal", "tables.verdicts", "results.claims", "results.collect"),
    *("page.report", "tracking.record"),
)
HEAVY = "torch scipy sklearn matplotlib mlflow snakemake"


def imported(modules: tuple[str, ...], of: str, before: str = "") -> str:
    """Those of some libraries that importing modules of this package imports, or what is run with them (`before`)."""
    names = ", ".join(f"crossmodal.{name}" for name in modules)
    code = f"import sys, {names}; {before}\nprint(*[name for name in {of.split()!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_faces_import_nothing() -> None:
    assert imported(FACES, f"{HEAVY} numpy pandas pyarrow pydantic jinja2") == ""


def test_tables_are_rendered_without_pandas(tmp_path: Path) -> None:
    """It would take half of the time in which tables are written, and a third of the memory."""
    tables = tuple(f"reporting.tables.{name}" for name in ("views", "captions", "latex", "writers", "terminal"))
    path = tmp_path / "cells.parquet"
    write_parquet(path, pd.DataFrame({"row": [0, 1], "published": [1.5, None], "system": ["VSE++", None]}))
    reading = f"print(crossmodal.core.files.read_rows({str(path)!r}))"
    printed = imported(tables, f"{HEAVY} pandas pyarrow.dataset", before=reading).splitlines()
    assert literal_eval(printed[0]) == [
        {"row": 0, "published": 1.5, "system": "VSE++"},
        {"row": 1, "published": None, "system": None},
    ]
    assert len(printed) == 1


def test_what_looks_at_results_needs_no_torch() -> None:
    assert imported(tuple(f"reporting.{name}" for name in LOOKING), HEAVY) == ""


def test_a_figure_draws_with_matplotlib_when_it_is_drawn() -> None:
    figures = tuple(f"reporting.figures.{name}" for name in ("base", "canvas", "annotation", "transformation"))
    assert imported(figures, HEAVY) == ""
