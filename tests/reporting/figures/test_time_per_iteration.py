"""Times of an iteration, by hand."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from crossmodal.experiments import Plan
from crossmodal.reporting.figures import base, time_per_iteration

LAST = "media_world/full/mcvs.image+text+video+audio+mesh/seed1"


@pytest.fixture
def scope(thesis: Plan, tmp_path: Path) -> base.Scope:
    paths = thesis.params.paths.model_copy(update={"results": str(tmp_path)})
    return base.Scope.of(Plan(thesis.params.model_copy(update={"paths": paths}), thesis.papers))


def test_times_by_hand(scope: base.Scope) -> None:
    for key, seconds in (("media_world/full/cvs.five/seed0", [1.0, 2.0]), (LAST, [0.5, 0.7])):
        (scope.runs / key).mkdir(parents=True)
        frame = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0], "seconds": seconds, "steps": [10, 20]})
        frame.to_parquet(scope.runs / key / "history.parquet")
    figure = base.figure("time_per_iteration", scope)
    measured = figure.measured.set_index("system")
    assert measured.milliseconds.to_dict() == pytest.approx({"CVS": 100.0, "M-CVS": 40.0})
    assert measured.modalities.to_dict() == {"CVS": 5, "M-CVS": 5}
    assert list(pd.read_csv(StringIO(figure.numbers()))) == list(time_per_iteration.COLUMNS)
    assert all(f">{title}<" in figure.draw() for title in ("CVS", "M-CVS", "RVS"))


def test_runs_with_parts_of_the_attention_are_left_out(scope: base.Scope) -> None:
    reads = "".join(base.figure("time_per_iteration", scope).reads())
    assert "/cvs.five/" in reads
    assert "plain" not in reads
    assert "without" not in reads
    assert "adversarial" not in reads


def test_before_any_run(scope: base.Scope) -> None:
    assert "No run has been trained yet" in base.figure("time_per_iteration", scope).draw()
