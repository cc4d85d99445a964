"""One rehearsed job: what it says of steps and seconds, and of what would have failed."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossmodal.datasets import items, karpathy
from crossmodal.experiments import Job
from crossmodal.features import store
from crossmodal.files import write_parquet
from crossmodal.rehearsal import run, times, trial
from crossmodal.rehearsal.layouts import LAYOUTS
from crossmodal.splits import make
from crossmodal.text import token_table

ABOUT = {"dataset": "small", "split": "full", "seed": 0, "inputs": {"image": "raw"}}
ROOM = 2.0**40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """60 images, 40 of them to train on, with five captions and random vectors each."""
    folder = tmp_path_factory.mktemp("place")
    data = folder / "data" / "small"
    told = LAYOUTS["karpathy"](folder / "raw", {}, images=60, held=10)
    karpathy.make(karpathy.Settings(**told), data, title="Small")
    frame = items.read(data)
    write_parquet(data / "tokens.parquet", token_table(frame))
    write_parquet(data / "splits/full.parquet", make(frame, "full", 0))
    (data / "features").mkdir()
    np.save(data / "features/image.raw.npy", np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32))
    store.save(data / "features/image.raw", frame.item_id[frame.modality == "image"].to_list(), {})
    return folder


def job(**over):
    settings = {"dim": 8, "word_dim": 8, "min_count": 1, "batch_size": 50, "epochs": 7} | over.pop("settings", {})
    return Job(**ABOUT | {"model": "vsepp"} | over, settings=settings)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_steps_and_seconds_of_the_whole_run(place, monkeypatch):
    monkeypatch.setattr(times, "STEP", 600.0)  # however slow the machine is
    found = trial.rehearse(job(), place, {"train": 30.0, "val": 2.0, "test": 3.0}, ROOM)
    assert (found.failed, found.missing, found.reckoned) == ("", [], False)
    (stage,) = found.stages
    assert (stage["epochs"], stage["steps"]) == (7, 4 * 30)  # 200 captions of the small set are four batches of 50
    assert stage["step_seconds"] > 0
    epochs = 7 * (120 * stage["step_seconds"] + found.validation + found.closing)
    assert found.seconds == pytest.approx(found.build + found.once + epochs + found.test)
    assert min(found.build, found.once, found.validation, found.closing, found.test) > 0
    assert found.memory > 2**24
    weights = (place / "runs" / job().key / "model.safetensors").stat().st_size
    assert found.disk > weights


def test_steps_that_are_asked_for_are_no_more_with_more_data(place):
    found = trial.rehearse(job(settings={"epoch_steps": 11}), place, {"train": 30.0}, ROOM)
    assert [stage["steps"] for stage in found.stages] == [11]


def test_only_two_steps_and_no_times_where_none_are_wanted(place, monkeypatch):
    monkeypatch.setattr(trial, "_plan", lambda *_: pytest.fail("times were taken"))
    found = trial.rehearse(job(variant="quick"), place, {}, 0.0)
    assert (found.failed, found.stages) == ("", [])


def test_a_test_that_would_have_failed_after_the_training(place):
    found = trial.rehearse(job(folds=[1, 7]), place, {}, ROOM)
    assert found.failed.startswith("test: params.yaml: datasets.*.folds: ")
    assert found.stages == []


def test_an_error_of_the_program_is_one_line_with_its_place(place, monkeypatch):
    monkeypatch.setattr("crossmodal.models.vsepp.Model.loss", lambda *_: {}["nothing"])
    found = trial.rehearse(job(), place, {}, ROOM)
    assert found.failed.startswith("training: KeyError: 'nothing' (test_trial.py, line ")
    assert "\n" not in found.failed


def test_files_that_are_missing_are_done_without_and_named(place):
    settings = {"word_embedding": "raw/glove/none.txt", "widths": [8, 8, 8], "inner": [8, 8, 8], "blocks": [1, 1, 1]}
    settings |= {"length": 16, "max_words": 14, "batch_size": 8}
    found = trial.rehearse(job(model="dpc", settings=settings), place, {}, 0.0)
    assert found.failed == ""
    assert len(found.missing) == 1
    assert found.missing[0].startswith("raw/glove/none.txt: ")


def test_large_batches_are_reckoned_from_smaller_ones(place, monkeypatch):
    """Batches of 8 and 32 whose steps take 1 and 4 seconds: one of 128 takes 16, and is not tried."""
    tried = []

    def train(model, corpus, seed, device, limit):
        tried.append(limit.batch_size)
        history = pd.DataFrame({"step_seconds": [limit.batch_size / 8]})
        return type("Result", (), {"history": history})

    monkeypatch.setattr(times, "train", train)
    monkeypatch.setattr(times, "SLOW", 600.0)
    monkeypatch.setattr(times, "STEP", 10.0)
    found = trial.rehearse(job(settings={"batch_size": 128}), place, {}, ROOM)
    assert tried[-2:] == [8, 32]
    assert found.reckoned
    assert found.stages[0]["step_seconds"] == pytest.approx(16.0)


def _dies(pipe, *_):
    os._exit(9)


def test_a_process_that_dies_is_its_own_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_sent", _dies)
    memory = run.Memory(2.0**33)
    found = run._apart(multiprocessing.get_context("fork"), memory, job(), Path(tmp_path), {}, ROOM, True)
    assert found.failed == "its process ended with 9; more memory may be needed"
