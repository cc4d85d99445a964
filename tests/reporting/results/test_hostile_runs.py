"""Files of a run that others have changed by hand are left out of the report, and never end it."""

import json

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.reporting.results import runs
from crossmodal.tasks.base import MOST_NUMBERS, metric, read_numbers

NUMBER = {
    "aspect": "image-to-text",
    "metric": "recall@1",
    "protocol": "all",
    "value": 1,
    "n_queries": 2,
    "n_gallery": 3,
}


def test_values_of_a_manifest_of_another_type_are_left_out(tmp_path, caplog):
    odd = {"seconds": "x", "hardware": 5, "fallbacks": [1], "commit": [1], "parameters": 10**300, "pairs": True}
    good = {"words": 12, "versions": {"torch": "2"}, "energy_joules": None, "own": [1]}
    (tmp_path / "manifest.json").write_text(json.dumps(odd | good))
    assert runs.manifest(tmp_path) == good
    for key in odd:
        assert f"manifest.json: {key}: is " in caplog.text


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"epoch": ["x", "y"]}, None),
        ({f"c{n}": [1, 2] for n in range(runs.EPOCH_COLUMNS)}, None),
        ({"loss": [[1], [2]]}, ["epoch", "stage"]),
        ({}, ["epoch", "stage", "loss"]),
    ],
    ids=["no number", "columns", "lists", "as it is"],
)
def test_a_history_of_other_values(tmp_path, changed, kept):
    frame = pd.DataFrame({"epoch": [1, 2], "stage": ["a", "a"], "loss": [1.0, 0.5]} | changed)
    frame.to_parquet(tmp_path / "history.parquet")
    assert list(runs.history(tmp_path)) == (kept or [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank": ["x"]}, "rank is of object, expected numbers"),
        ({"rank": [-5]}, "rank is -5, expected 1 and more"),
        ({"rank": [np.nan]}, "rank is nan, expected 1 and more"),
        ({"protocol": [[]]}, "protocol holds other values than texts"),
        ({"aspect": [None]}, "aspect holds other values than texts"),
    ],
)
def test_examples_of_other_values(tmp_path, caplog, changed, message):
    frame = pd.DataFrame({"protocol": ["all"], "aspect": ["image-to-text"], "fold": [0], "rank": [1]} | changed)
    frame.to_parquet(tmp_path / "examples.parquet")
    assert runs.examples(tmp_path) is None
    assert message in caplog.text
    frame.drop(columns="aspect").to_parquet(tmp_path / "examples.parquet")
    assert runs.examples(tmp_path) is None
    assert "lacks the column aspect" in caplog.text


@pytest.mark.parametrize(
    "numbers",
    [
        [NUMBER] * (MOST_NUMBERS + 1),
        [NUMBER | {"metric": "recall@" + "9" * 4000}],
        [NUMBER | {"metric": "recall@9999999999"}],
        [NUMBER | {"aspect": "a" * 201}],
    ],
    ids=["many", "long", "ten digits", "long aspect"],
)
def test_numbers_that_no_task_has(tmp_path, numbers):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"numbers": numbers}))
    with pytest.raises(UserError, match=r"metrics\.json: .*; evaluate the run again"):
        read_numbers(path)


def test_a_cut_off_has_at_most_nine_digits():
    assert metric("recall@999999999").k == 999_999_999
    assert metric("recall@1000000000") is None
