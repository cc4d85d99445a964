"""Figures stand in the page if they are wanted and drawn, by section, in their order and the page's colours."""

from __future__ import annotations

import logging
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from crossmodal import experiments
from crossmodal.experiments import Plan
from crossmodal.reporting.figures import base
from crossmodal.reporting.figures.canvas import INK
from crossmodal.reporting.page import sections
from crossmodal.reporting.results.metrics import TYPES
from tests.reporting.drawn import ROOT

SVG = '<?xml version="1.0"?><svg width="9pt" height="9pt" viewBox="0 0 9 9"><path stroke="%s"/></svg>'


@pytest.fixture
def scope(plan: Plan, tmp_path: Path) -> base.Scope:
    """Three papers, and nothing but the head of a table of numbers."""
    (tmp_path / "figures").mkdir()
    pd.DataFrame(columns=list(TYPES)).astype(TYPES).to_parquet(tmp_path / "metrics.parquet")
    params = plan.params.model_copy(update={"papers": ["mfsr", "a3vse", "cvs"]})
    whole = experiments.plan(params, ROOT / "papers")
    return base.Scope(whole, whole.jobs, str(tmp_path))


def test_only_what_is_wanted_and_drawn_is_shown(scope: base.Scope) -> None:
    assert sections.drawn(scope) == []
    names = ("time_per_iteration", "embeddings", "losses_by_stage", "learning_curves", "crossovers", "of_another_kind")
    for name in names:
        (scope.target / "figures" / f"{name}.svg").write_text(SVG % INK)
    shown = sections.drawn(scope)
    assert [section["id"] for section in shown] == ["embeddings", "spaces"]  # no curves meet: no crossovers
    assert [part["title"] for part in shown[1]["parts"]] == ["Losses", "Time"]
    svg = shown[0]["parts"][0]["svg"]
    assert svg.startswith("<svg")
    assert 'aria-label="Embeddings"' in svg
    assert "var(--ink)" in svg
    assert INK not in svg


def test_a_figure_of_another_plan_is_not_shown(plan: Plan, scope: base.Scope) -> None:
    (scope.target / "figures" / "losses_by_stage.svg").write_text(SVG % INK)
    assert sections.drawn(base.Scope(plan, plan.jobs, scope.folder)) == []


def test_names_of_files_in_captions_are_code() -> None:
    assert sections.with_code("a < b, see ``x.csv`` and ``y``.") == (
        "a &lt; b, see <code>x.csv</code> and <code>y</code>."
    )


def test_a_damaged_figure_is_left_out(scope: base.Scope, caplog) -> None:
    (scope.target / "figures" / "embeddings.svg").write_bytes(b"<svg \xff\xfe")
    with caplog.at_level(logging.WARNING):
        assert sections.drawn(scope) == []
    assert "embeddings.svg" in caplog.text


def test_every_figure_has_a_caption_and_a_place(scope: base.Scope) -> None:
    figures = base.wanted(scope)
    assert len(figures) == 15
    for figure in figures:
        assert figure.caption.endswith("."), figure.name
        assert figure.section is None or figure.section.title, figure.name
        ElementTree.fromstring(f"<p>{sections.with_code(figure.caption)}</p>")
