"""The numbers of a run, which may be someone else's."""

import json
import logging
from types import SimpleNamespace

import pytest

from crossmodal.core.errors import UserError
from crossmodal.inference import export
from crossmodal.reporting.results import runs
from crossmodal.tasks.base import read_numbers

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
