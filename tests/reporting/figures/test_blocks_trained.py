"""Attention blocks by the number of modalities: what the thesis says against built models."""

from __future__ import annotations

import pytest

from crossmodal.experiments import Plan
from crossmodal.models import base as models
from crossmodal.models import cvs, mcvs, rvs
from crossmodal.reporting.figures import base

NAMES = ("image", "text", "video", "audio", "mesh")


@pytest.mark.parametrize(("title", "module"), [("CVS", cvs), ("M-CVS", mcvs), ("RVS", rvs)])
def test_blocks_are_those_that_a_stage_trains(thesis: Plan, title: str, module) -> None:
    blocks = thesis.papers["cvs"].figures["blocks_trained"]["systems"][title]
    context = models.Context(dict.fromkeys(NAMES, (3,)), n_classes=2)
    for n in range(2, 6):
        model = module.Model(module.Settings(modalities=NAMES[:n], dim=4), context)
        model.begin(model.stages()[-1])
        trained = [block for block in model.blocks.values() if next(block.parameters()).requires_grad]
        assert len(trained) == blocks[n - 2]


def test_the_figure_has_a_line_for_each_system(thesis: Plan) -> None:
    figure = base.figure("blocks_trained", base.Scope.of(thesis))
    assert figure.reads() == []
    drawn = figure.draw()
    assert all(f">{title}<" in drawn for title in ("CVS", "M-CVS", "RVS"))
