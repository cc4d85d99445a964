"""What is imported by what only looks at results: a package's face nothing heavy, and no table torch."""

from __future__ import annotations

import subprocess
import sys

FACES = ("reporting", *(f"reporting.{room}" for room in ("results", "tables", "figures", "page", "tracking")))
LOOKING = ("tables.writers", "tables.terminal", "tables.verdicts", "results.claims", "page.report", "tracking.record")
HEAVY = "torch scipy sklearn matplotlib mlflow snakemake"


def imported(modules: tuple[str, ...], of: str) -> str:
    """Those of some libraries that importing modules of this package imports."""
    names = ", ".join(f"crossmodal.{name}" for name in modules)
    code = f"import sys, {names}; print(*[name for name in {of.split()!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_faces_import_nothing() -> None:
    assert imported(FACES, f"{HEAVY} numpy pandas pyarrow pydantic jinja2") == ""


def test_what_looks_at_results_needs_no_torch() -> None:
    assert imported(tuple(f"reporting.{name}" for name in LOOKING), HEAVY) == ""


def test_a_figure_draws_with_matplotlib_when_it_is_drawn() -> None:
    figures = tuple(f"reporting.figures.{name}" for name in ("base", "canvas", "annotation", "transformation"))
    assert imported(figures, HEAVY) == ""
