"""Losses stage after stage: which runs a run grew from, and where its stages end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.experiments import Plan
from crossmodal.reporting.figures import base
from crossmodal.reporting.figures.losses_by_stage import chain, losses, losses_by_stage

NAMES = ("image", "text", "video", "audio", "mesh")
LAST = "media_world/full/mcvs.image+text+video+audio+mesh/seed1"


def test_a_chain_is_the_stages_in_their_order(thesis: Plan) -> None:
    stages = chain(thesis.jobs[LAST], thesis.jobs)
    assert [job.name for job in stages] == ["cvs.image+text", *(f"mcvs.{'+'.join(NAMES[:n])}" for n in (3, 4, 5))]
    assert {job.seed for job in stages} == {1}


def test_the_losses_are_those_of_each_stage(thesis: Plan, tmp_path: Path) -> None:
    stages = chain(thesis.jobs[LAST], thesis.jobs)[-2:]
    for job, values in zip(stages, ([3.0, 2.0], [1.0]), strict=True):
        (tmp_path / job.key).mkdir(parents=True)
        frame = pd.DataFrame({"epoch": range(1, len(values) + 1), "triplets": values})
        frame.to_parquet(tmp_path / job.key / "history.parquet")
    assert [part.tolist() for part in losses(stages, tmp_path, "triplets")] == [[3.0, 2.0], [1.0]]
    assert losses(stages, tmp_path, "classes") is None
    assert losses(chain(thesis.jobs[LAST], thesis.jobs), tmp_path, "triplets") is None  # the first stages are not run


def test_a_panel_for_each_system(thesis: Plan) -> None:
    figure = base.figure("losses_by_stage", base.Scope.of(thesis))
    assert figure.wanted()
    assert figure.draw().count("not made yet") == 3
    one = [[np.array([3.0, 2.0]), np.array([1.0])]]
    drawn = losses_by_stage({"CVS: total loss": one, "RVS: class loss": []})
    assert drawn == losses_by_stage({"CVS: total loss": one, "RVS: class loss": []})
    assert "CVS: total loss" in drawn
    assert drawn.count("not made yet") == 1


def test_what_it_reads_are_the_stages_of_the_last_experiments(thesis: Plan) -> None:
    reads = base.figure("losses_by_stage", base.Scope.of(thesis)).reads()
    runs = {path.split("/runs/")[1].removesuffix("/history.parquet") for path in reads}
    assert {job.key for job in chain(thesis.jobs[LAST], thesis.jobs)} <= runs
    assert "media_world/full/cvs.five/seed0" in runs
    assert "media_world/full/rvs.text+image+audio+video+mesh/seed0" in runs
    assert "media_world/full/cvs.image+text+video/seed0" not in runs  # not the last one
    quick = base.figure("losses_by_stage", base.Scope.of(thesis, quick=True)).reads()
    assert [path.split("/runs/")[1] for path in quick] == ["media_world/full/cvs.image+text/seed0/history.parquet"]


def test_an_experiment_that_the_paper_lacks_is_named(thesis: Plan) -> None:
    paper = thesis.papers["cvs"]
    block = {"systems": {"CVS": {"experiments": ["cvs-6"], "column": "loss", "name": "total loss"}}}
    changed = paper.model_copy(update={"figures": {"losses_by_stage": block}})
    scope = base.Scope.of(type(thesis)(thesis.params, {"cvs": changed}))
    with pytest.raises(UserError, match=r"papers/cvs\.yaml: figures: experiment 'cvs-6' is unknown; did you mean"):
        base.figure("losses_by_stage", scope).reads()
