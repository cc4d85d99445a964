"""Annotation efficiency as a figure, of the numbers that were collected."""

from __future__ import annotations

from pathlib import Path

from crossmodal.experiments import Plan
from crossmodal.reporting.figures import base
from crossmodal.reporting.figures.efficiency import efficiency
from crossmodal.reporting.results.efficiency import read


def test_a_line_for_each_system(made: Path, plan: Plan) -> None:
    figure = base.figure("efficiency", base.Scope(plan, plan.jobs, str(made)))
    assert figure.reads() == [f"{made}/annotation_efficiency.csv"]
    assert figure.shown()
    assert figure.draw() == figure.draw()
    assert "vsepp (4 amounts)" in figure.draw()


def test_nothing_to_compare_is_not_shown(made: Path, plan: Plan, tmp_path: Path) -> None:
    frame = read(made / "annotation_efficiency.csv").iloc[:0]
    frame.to_csv(tmp_path / "annotation_efficiency.csv", index=False)
    assert not base.figure("efficiency", base.Scope(plan, plan.jobs, str(tmp_path))).shown()
    assert "nothing to compare" in efficiency(frame, {})
