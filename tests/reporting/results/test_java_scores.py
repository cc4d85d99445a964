"""METEOR and SPICE of a run: of the captions that its evaluation has kept, against the references of its images."""

from __future__ import annotations

import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import write_parquet
from crossmodal.experiments import Job
from crossmodal.reporting.results import java_scores
from tests.prepared import prepared

__all__ = ["prepared"]


def test_the_captions_of_a_run_against_its_references(prepared, tmp_path, monkeypatch):
    calls = []

    def measured(name, generated, references):
        calls.append((name, generated, references))
        return 50.0, None

    monkeypatch.setattr(java_scores, "measured", measured)
    facts = {"dataset": "toy", "split": "full", "seed": 0, "inputs": {}, "settings": {}}
    job = Job(model="nic", **facts)
    with pytest.raises(UserError, match="not found; evaluate the run first"):
        java_scores.measure(tmp_path, job, prepared, ["meteor"])
    table = {"aspect": "image-to-caption", "query_id": ["i48", "i59"] * 2, "caption": ["worda wordb", "wordc"] * 2}
    frame = pd.DataFrame({"protocol": ["all"] * 2 + ["human"] * 2, **table})
    write_parquet(tmp_path / "captioning" / "examples.parquet", frame)
    rows = java_scores.measure(tmp_path, job, prepared, ["meteor"])
    assert [(row["protocol"], row["value"], row["n_queries"]) for row in rows] == [("all", 50, 2), ("human", 50, 2)]
    assert calls[0][1] == [["worda", "wordb"], ["wordc"]]
    assert [len(others) for others in calls[0][2]] == [3, 3]
    assert calls[1][2] == [others[1:] for others in calls[0][2]]
    with pytest.raises(UserError, match="'recall@5': is not measured together with meteor, spice"):
        java_scores.measure(tmp_path, job, prepared, ["meteor", "recall@5"])
    with pytest.raises(UserError, match="is evaluated on instance_retrieval, and says no captions"):
        java_scores.measure(tmp_path, Job(model="vsepp", **facts), prepared, ["meteor"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query_id": ["i48", "zzz"]}, r"examples.parquet: query_id 'zzz' is no test image with captions; evaluate"),
        ({"query_id": [0, 1]}, "query_id 0 is no test image"),
        ({"caption": ["worda", None]}, "caption: expected text, found None; evaluate the run again"),
        ({"protocol": [None, "all"]}, "protocol: expected text, found None"),
        ({"protocol": [], "aspect": [], "query_id": [], "caption": []}, "holds no caption; evaluate the run again"),
    ],
)
def test_kept_captions_that_do_not_fit_the_data(prepared, tmp_path, changed, message):
    job = Job(model="nic", dataset="toy", split="full", seed=0, inputs={}, settings={})
    table = {"protocol": ["all"] * 2, "aspect": ["image-to-caption"] * 2, "query_id": ["i48", "i59"]}
    frame = pd.DataFrame(table | {"caption": ["worda", "wordb"]} | changed)
    write_parquet(tmp_path / "captioning" / "examples.parquet", frame)
    with pytest.raises(UserError, match=message):
        java_scores.measure(tmp_path, job, prepared, ["meteor"])
