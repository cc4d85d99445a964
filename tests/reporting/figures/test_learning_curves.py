"""Learning curves: the loss's axis where losses differ much, and titles that leave each other room."""

import re

import pandas as pd
import pytest

from crossmodal.reporting.figures.learning_curves import learning_curves

TITLES = {"media_world": "embedded five-modality world"}


def histories(*losses: list[float]) -> pd.DataFrame:
    """Runs of three epochs each, with the given losses."""
    rows = [
        {"dataset": "media_world", "name": f"cvs{run}", "split": "full", "seed": 0, "epoch": epoch + 1, "loss": loss}
        for run, values in enumerate(losses)
        for epoch, loss in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(**{"val_map@50_sum": 100.0})


@pytest.mark.parametrize(
    ("losses", "logarithmic"),
    [
        (([4.0, 3.0, 2.0], [2.5, 1.0, 0.5]), False),
        (([2000.0, 150.0, 60.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]), True),
        (([2000.0, 150.0, 60.0], [3.0, 2.0, 0.0], [3.0, 2.0, 1.0]), True),  # a zero is off the axis
        (([2000.0, 1.0, -1.0], [3.0, 2.0, 1.0]), False),  # a logarithm of a negative loss does not exist
    ],
)
def test_losses_of_other_sizes_are_drawn_on_a_logarithmic_axis(losses: tuple[list[float], ...], logarithmic: bool):
    powers = "<tspan"  # of ten, as the ticks of a logarithmic axis are set
    assert (powers in learning_curves(histories(*losses), TITLES)) is logarithmic


def test_a_long_title_of_a_data_set_does_not_run_into_the_neighbouring_title() -> None:
    drawn = learning_curves(histories([3.0, 2.0, 1.0]), TITLES)
    heights = {text: float(y) for y, text in re.findall(r'translate\([\d.]+ ([\d.]+)\)">([^<]+)<', drawn)}
    assert heights["sum of mAP@50, validation"] == heights["Training loss"]
    assert heights["embedded five-modality world"] < heights["Training loss"] - 10  # a line above it
