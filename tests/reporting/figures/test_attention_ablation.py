"""Bars of a system with and without parts of its attention, and heat maps of directions, from numbers by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from crossmodal.experiments import Plan
from crossmodal.reporting.figures import base
from crossmodal.reporting.results.metrics import TYPES

NAMES = ("image", "text", "video", "audio", "mesh")


@pytest.fixture
def scope(thesis: Plan, tmp_path: Path) -> base.Scope:
    """Numbers of one run of five modalities, and of one of its seeds without attention."""
    about = {"paper": "cvs", "dataset": "media_world", "split": "full", "model": "cvs", "variant": "five", "seed": 0}
    rows = [
        about | {"aspect": f"{a}-to-{b}", "metric": "map@50", "protocol": "all", "value": 37.0 + i + 5 * j}
        for i, a in enumerate(NAMES)
        for j, b in enumerate(NAMES)
        if a != b
    ]
    mean = about | {"aspect": "average", "metric": "map@50", "protocol": "all"}
    rows += [mean | {"value": 49.0}, mean | {"variant": "five-plain", "value": 30.5}]
    rows += [mean | {"variant": "image+text", "value": 88.5}]
    pd.DataFrame(rows).assign(n_queries=10, n_gallery=10).to_parquet(tmp_path / "metrics.parquet")
    return base.Scope(thesis, thesis.jobs, str(tmp_path))


def test_bars_are_of_the_same_modalities(scope: base.Scope) -> None:
    figure = base.figure("attention_ablation", scope)
    assert {label: job.variant for label, job in figure.bars().items()} == {
        "all three": "five",
        "without W_i": "five-without-wi",
        "without W_is": "five-without-wis",
        "without W_s": "five-without-ws",
        "none": "five-plain",
        "none, unit length": "five-unit",
    }
    drawn = figure.draw()
    assert ">49.0<" in drawn
    assert ">30.5<" in drawn
    assert "88.5" not in drawn
    assert "without" not in drawn  # not run yet


def test_the_quick_part_has_bars_of_its_own(scope: base.Scope, thesis: Plan) -> None:
    quick = base.Scope(thesis, base.Scope.of(thesis, quick=True).jobs, scope.folder)
    figure = base.figure("attention_ablation", quick)
    assert {label: job.variant for label, job in figure.bars().items()} == {
        "all three": "image+text",
        "none": "image+text-plain",
    }
    assert ">88.5<" in figure.draw()


def test_without_numbers(thesis: Plan, tmp_path: Path) -> None:
    pd.DataFrame(columns=list(TYPES)).astype(TYPES).to_parquet(tmp_path / "metrics.parquet")
    scope = base.Scope(thesis, thesis.jobs, str(tmp_path))
    assert "No run with and without parts" in base.figure("attention_ablation", scope).draw()
    assert "No run of more than two modalities" in base.figure("directions", scope).draw()


def test_directions_are_a_heat_map(scope: base.Scope, plan: Plan) -> None:
    figure = base.figure("directions", scope)
    assert ">42<" in figure.draw()  # image to text: 37 + 5
    assert figure.draw() == figure.draw()
    assert figure.wanted()
    assert not base.figure("directions", base.Scope.of(plan)).wanted()  # a world of two modalities
