"""Adversarial reconstructions: means over seeds, and factors between epochs, by hand."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from crossmodal.experiments import Plan
from crossmodal.reporting.figures import base


def test_reconstructions_by_hand(thesis: Plan, tmp_path: Path) -> None:
    """Means over seeds, and the factor between the first epoch and the last: 2 and 6 to 100 and 300 is fifty-fold."""
    paths = thesis.params.paths.model_copy(update={"results": str(tmp_path)})
    scope = base.Scope.of(Plan(thesis.params.model_copy(update={"paths": paths}), thesis.papers))
    figure = base.figure("adversarial_reconstruction", scope)
    assert "No run with an adversarial reconstruction yet" in figure.draw()
    rows = {"alone": ([[2.0, 100.0], [6.0, 300.0]], [4.0, 1.0]), "moving": ([[1.0, 0.5]] * 2, [1.0, 1.0])}
    for variant, (images, texts) in rows.items():
        for seed, image in enumerate(images):
            folder = tmp_path / f"runs/media_world/full/cvs_adversarial.{variant}/seed{seed}"
            folder.mkdir(parents=True)
            frame = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0], "image_difference": image})
            frame.assign(text_difference=texts, **{"val_map@50_sum": [10.0, 20.0]}).to_parquet(
                folder / "history.parquet"
            )
    drawn = figure.draw()
    assert drawn == figure.draw()
    ElementTree.fromstring(drawn)
    for factor in ("× 50", "× 0.25", "× 0.5", "× 1"):
        assert f">{factor}<" in drawn, factor
    assert "reconstruction alone" in drawn
    assert "reconstruction alone, its target moves too" in drawn
    assert "with class and metric losses" not in drawn  # not trained yet
    assert "Sum of mAP@50" in drawn
    assert {label: {job.variant for job in jobs} for label, jobs in figure.curves().items()} == {
        "reconstruction alone": {"alone"},
        "with class and metric losses": {"beside"},
        "reconstruction alone, its target moves too": {"moving"},
    }
