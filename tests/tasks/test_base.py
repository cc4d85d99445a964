"""The numbers of a run, which may be someone else's."""

import json
import logging
from types import SimpleNamespace

import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.inference import export
from crossmodal.reporting.results import quality_control, runs
from crossmodal.tasks.base import read_numbers, tasks

GOOD = {"aspect": "image-to-text", "metric": "recall@1", "protocol": "all"}
GOOD |= {"value": 12.5, "n_queries": 4, "n_gallery": 8}
ODD = {
    "a number of 400 digits": {"value": 10**400},
    "no number": {"value": float("nan")},
    "a text": {"value": "12"},
    "a truth": {"value": True},
    "a list as a name": {"metric": ["recall@1"]},
    "a nested name": {"aspect": {"a": {}}},
    "more queries than a table can hold": {"n_queries": 10**20},
    "half a query": {"n_queries": 0.5},
}


def test_numbers_as_they_were_written(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"job": {}, "numbers": [{**GOOD, "other": 1}]}))
    content, rows = read_numbers(tmp_path / "metrics.json")
    assert rows == [GOOD]
    assert content["job"] == {}


@pytest.mark.parametrize("name", ODD)
def test_absurd_numbers_are_left_out_of_results_and_refused_elsewhere(tmp_path, name, caplog):
    job = SimpleNamespace(dataset="toy", split="full", model="vsepp", variant="", seed=0, tasks=["instance_retrieval"])
    path = tmp_path / "instance_retrieval" / "metrics.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"job": vars(job), "numbers": [{**GOOD, **ODD[name]}]}))
    with caplog.at_level(logging.WARNING):
        assert runs.numbers(tmp_path, job) is None
    assert len(caplog.text.strip().splitlines()) == 1
    with pytest.raises(UserError, match=r"metrics\.json: .*evaluate the run again"):
        export.clip_benchmark(SimpleNamespace(folder=tmp_path, job=job), tmp_path / "recalls.json")
    assert not (tmp_path / "recalls.json").exists()
    path.write_text(json.dumps({"job": vars(job), "numbers": {"a": 1}}))
    with pytest.raises(UserError, match="expected a list `numbers`"):
        read_numbers(path)


@pytest.mark.parametrize("column", ["protocol", "aspect", "fold"])
def test_examples_without_a_column_that_others_read(tmp_path, column):
    """The task's author is told at once, and nothing is written."""
    whole = pd.DataFrame({"protocol": ["all"], "aspect": ["a"], "fold": [0], "query_id": ["i"], "right": [1.0]})

    class Task(tasks()["keywords"].__class__):
        def score(self, targets, predictions, folds):
            return whole.drop(columns=column), []

    with pytest.raises(UserError, match=f"'keywords': its examples have no column '{column}'; add it in `score`"):
        Task().written(None, None, [1], tmp_path)
    assert not (tmp_path / "examples.parquet").exists()


def test_examples_without_folds_are_a_line_of_the_check(tmp_path):
    (tmp_path / "keywords").mkdir()
    whole = pd.DataFrame({"protocol": ["all"], "aspect": ["image-to-keywords"], "query_id": ["i"], "right": [1.0]})
    number = {"aspect": "image-to-keywords", "metric": "keyword_precision", "protocol": "all", "task": "keywords"}
    whole.to_parquet(tmp_path / "keywords" / "examples.parquet")
    assert quality_control._own(tmp_path, [number | {"value": 20.0}]) == [
        "keywords/examples.parquet is missing or damaged"
    ]
    whole.assign(fold=0).to_parquet(tmp_path / "keywords" / "examples.parquet")
    assert quality_control._own(tmp_path, [number | {"value": 20.0}]) == []
    (message,) = quality_control._own(tmp_path, [number | {"value": 30.0}])
    assert "keyword_precision (all) is 30, but its examples give 20" in message
