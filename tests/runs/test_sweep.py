"""Candidates of a sweep: each is trained and recorded, and the best on validation items is what is trained at last."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, write_json
from crossmodal.experiments.sweeps import CHOICE, Sweep, tried_file
from crossmodal.models.vsepp import Model as VsePP
from crossmodal.runs.sweep import choose_candidate, try_candidate
from crossmodal.runs.train import train_job
from tests.runs.test_train import SMALL, job


def swept(values, **changes):
    settings = {name: value for name, value in SMALL.items() if name not in values}
    return job(**{"settings": settings, "sweep": Sweep(values=values), **changes})


def test_a_candidate_is_recorded_with_its_best_epoch_on_validation(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, folder = swept({"lr": [1e-3, 1e-2]}), tmp_path / "sweep"
    record = try_candidate(run, "lr1e-2", folder, prepared)
    train_job(job(settings=SMALL | {"lr": 1e-2}), tmp_path / "run", prepared)  # the same settings as a run
    history = pd.read_parquet(tmp_path / "run" / "history.parquet")
    assert record["value"] == history.val_recall_sum.max()
    assert record["epoch"] == read_json(tmp_path / "run" / "manifest.json")["best_epoch"]
    assert read_json(tried_file(folder, "lr1e-2")) == record
    assert [path.name for path in folder.iterdir()] == ["tried"]  # no weights are kept


def test_the_best_candidate_is_trained(prepared, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    run, folder = swept({"lr": [1e-3, 1e-2, 1e-1]}), tmp_path / "sweep"
    with pytest.raises(UserError, match="have not been chosen yet; choose them: crossmodal sweep toy/full/vsepp"):
        train_job(run, tmp_path / "run", prepared)
    values = {"lr1e-3": 100.0, "lr1e-2": None, "lr1e-1": 120.0}
    for name, value in values.items():
        assert not (folder / CHOICE).exists()
        if name == "lr1e-1":
            with pytest.raises(UserError, match=r"lr1e-1\.json: not found; try the candidate first: .*--candidate"):
                choose_candidate(run, folder)
        record = {"settings": {}, "value": value, "epoch": 1, "seconds": None if value is None else 60.0}
        write_json(tried_file(folder, name), record)
    caplog.set_level("INFO")
    record = choose_candidate(run, folder)
    assert caplog.messages[-1] == "toy/full/vsepp/seed0: lr1e-1 is chosen of 3 candidates (2 min 0 s)"
    assert read_json(folder / CHOICE) == record
    assert record["settings"] == {"lr": 0.1}
    assert {one["name"]: one["value"] for one in record["tried"]} == values
    assert [record[key] for key in ("criterion", "label", "seed", "combinations")] == [
        "recall_sum",
        "sum of recalls",
        0,
        3,
    ]
    settings = run.settings | record["settings"]
    chosen = run.model_copy(update={"settings": settings, "sweep": run.sweep.model_copy(update={"choice": record})})
    train_job(chosen, tmp_path / "run", prepared)
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert manifest["sweep"] == record
    assert manifest["hash"] == run.hash
    train_job(job(settings=settings), tmp_path / "fixed", prepared)
    assert manifest["weights_sha256"] == read_json(tmp_path / "fixed" / "manifest.json")["weights_sha256"]


def test_a_diverged_candidate_is_recorded_without_a_value(prepared, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(VsePP, "loss", lambda *_: {"loss": torch.tensor(float("nan"), requires_grad=True)})
    record = try_candidate(swept({"lr": [1e-3, 1e3]}), "lr1000", tmp_path / "sweep", prepared)
    assert record == {"settings": {"lr": 1e3}, "value": None, "epoch": None, "seconds": None}
    assert "candidate lr1000: training diverged in epoch 1" in caplog.text


def test_a_closed_form_is_measured_on_validation_items(labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    about = {"dataset": "kinds", "model": "cca", "relevance": "label", "inputs": {"image": "raw", "text": "raw"}}
    run = swept({"components": [1, 4]}, settings={}, **about)
    values = [try_candidate(run, name, tmp_path / "sweep", labelled)["value"] for name in run.candidates]
    assert values[1] > values[0] > 0  # six classes do not lie on a line


def test_a_candidate_that_the_sweep_does_not_have(prepared, tmp_path):
    with pytest.raises(UserError, match=r"no candidate 'lr1e-5'.*'lr1e-3'"):
        try_candidate(swept({"lr": [1e-3, 1e-2]}), "lr1e-5", tmp_path / "sweep", prepared)
