"""A run that was finished and is trained again says so in one line, with the reason."""

import json
import logging

from crossmodal.core.files import read_json
from crossmodal.experiments import Job
from crossmodal.runs import finished
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job

ABOUT = {"dataset": "kinds", "split": "full", "seed": 0, "relevance": "label", "model": "cca"}
INPUTS = {"image": "raw", "text": "raw"}


def said(caplog, labelled, folder, **settings):
    """The lines on an earlier training that a training logs."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        train_job(Job(**ABOUT, inputs=INPUTS, settings=settings), folder, labelled)
    return [line for line in caplog.messages if "trained anew" in line]


def test_a_finished_run_that_is_trained_again_says_why(labelled, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    assert said(caplog, labelled, folder, components=2) == []
    when = read_json(folder / "manifest.json")["finished"][:16].replace("T", " ")
    begin = f"kinds/full/cca/seed0 was finished on {when} UTC; it is trained anew"
    assert said(caplog, labelled, folder, components=2) == [f"{begin} (nothing that its weights depend on has changed)"]
    for name in ("manifest.json", "model.safetensors"):  # as Snakemake deletes them before it runs a step again
        (folder / name).unlink()
    (line,) = said(caplog, labelled, folder, components=1)
    assert line.endswith("(changed since: its settings)")
    assert said(caplog, labelled, tmp_path / "other", components=1) == []


def test_each_thing_that_changed_is_named(tmp_path):
    now = {"hash": "a", "source": "b", "data": {"items": "c"}, "versions": {"torch": "2"}}
    finished.remember(tmp_path, {"job": "x", "finished": "2026-01-02T03:04:05+00:00", **now})
    line = "was finished on 2026-01-02 03:04 UTC; it is trained anew"
    assert finished.note(tmp_path, now) == f"{line} (nothing that its weights depend on has changed)"
    changed = {**now, "source": "z", "data": {"items": "y"}, "versions": {"torch": "3"}, "before": {"run": "w"}}
    expected = "the code, its data, the run that it begins from, versions of libraries"
    assert finished.note(tmp_path, changed) == f"{line} (changed since: {expected})"


def test_a_damaged_record_is_none(tmp_path):
    (tmp_path / finished.RECORD).write_text("{")
    assert finished.note(tmp_path, {}) == ""
    (tmp_path / finished.RECORD).write_text(json.dumps({"job": "x"}))
    assert finished.note(tmp_path, {}) == ""


def test_results_of_earlier_weights_are_named(labelled, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)

    def older(components):
        caplog.clear()
        job = Job(**ABOUT, inputs=INPUTS, settings={"components": components})
        train_job(job, tmp_path / "run", labelled)
        return job, [line for line in caplog.messages if "earlier weights" in line]

    job, lines = older(2)
    assert lines == []
    evaluate(job, tmp_path / "run", labelled, "embedded")
    assert older(2)[1] == []  # the same bits
    (line,) = older(1)[1]
    assert line.startswith("kinds/full/cca/seed0: its results in category_retrieval are those of its earlier weights")
    assert line.endswith("crossmodal evaluate kinds/full/cca/seed0")
