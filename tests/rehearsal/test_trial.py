"""One rehearsed job: what it says of steps and seconds, and of what would have failed."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.core.files import write_parquet
from crossmodal.corpus.splits import make
from crossmodal.datasets import items, karpathy
from crossmodal.experiments import Job
from crossmodal.features.engine import store
from crossmodal.language.tokens import token_table
from crossmodal.rehearsal import run, times, trial
from crossmodal.rehearsal.layouts import LAYOUTS
from crossmodal.training.loop import Limit

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


def test_a_captioner_ranks_nothing_and_is_timed_all_the_same(place):
    found = trial.rehearse(job(model="nic"), place, {"test": 3.0}, ROOM)
    assert found.failed == ""
    assert min(found.validation, found.test, found.stages[0]["step_seconds"]) > 0


def test_only_two_steps_and_no_times_where_none_are_wanted(place, monkeypatch):
    monkeypatch.setattr(trial, "_plan", lambda *_: pytest.fail("times were taken"))
    found = trial.rehearse(job(variant="quick"), place, {}, 0.0)
    assert (found.failed, found.stages) == ("", [])


def test_a_test_that_would_have_failed_after_the_training(place):
    """The 10 test images cannot be cut into 7 folds."""
    found = trial.rehearse(job(folds=[1, 7]), place, {}, ROOM)
    assert found.failed.startswith("test: params.yaml: datasets.*.folds: ")
    assert "10 groups" in found.failed
    assert found.stages == []


def test_items_that_are_ranked_can_be_cut_into_folds(place, monkeypatch):
    """Of 9 items none can be left out for 2 folds; 10 are the next number that can be cut."""
    monkeypatch.setattr(trial, "ITEMS", 9)
    assert trial.rehearse(job(folds=[1, 2]), place, {}, 0.0).failed == ""


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

    def train(model, corpus, seed, device, selection, limit):
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


def test_runs_that_differ_in_nothing_but_factors_have_the_same_work():
    """Other learning rates, weights, epochs, seeds and splits; not another batch, data set, or a loss left out."""
    first = job(model="mfsr", settings={"batch_size": 24, "modal": 1.0, "lr": 0.1})
    alike = job(model="mfsr", seed=3, split="10pct-1cap", settings={"modal": 0.5, "lr": 0.2, "epochs": 9, "lr_drop": 2})
    assert trial.work_of(first.model_copy(update={"settings": {**first.settings, "epochs": 1}})) == trial.work_of(first)
    alike = alike.model_copy(update={"settings": {**alike.settings, "batch_size": 24}})
    assert trial.work_of(alike) == trial.work_of(first)
    for settings in ({"modal": 0}, {"batch_size": 25}, {"correlation": "absolute"}, {"layers": 1}, {"clip": 2.0}):
        other = first.model_copy(update={"settings": {**first.settings, **settings}})
        assert trial.work_of(other) != trial.work_of(first), settings
    for about in ({"dataset": "other"}, {"folds": [1, 5]}, {"relevance": "label"}, {"inputs": {"image": "other"}}):
        assert trial.work_of(first.model_copy(update=about)) != trial.work_of(first), about


def test_a_run_takes_the_times_of_another_one_for_its_own_steps():
    measured = trial.Trial("one", stages=[{"epochs": 3, "steps": 10, "step_seconds": 2.0}], validation=5.0, closing=1.0)
    measured.test, measured.memory = 7.0, 9.0
    other = trial.Trial("other", stages=[{"epochs": 2, "steps": 4, "step_seconds": 90.0}], build=0.5, once=0.25)
    other.take_times(measured)
    assert other.measured_by == "one"
    assert other.seconds == 0.5 + 0.25 + 2 * (4 * 2.0 + 5.0 + 1.0) + 7.0
    assert other.memory == 9.0


@pytest.mark.parametrize(
    ("items", "share", "first", "seconds"),
    [
        (10, 20.0, 8.0, 122.0),  # what took long is not made again: 2 s as before, and the other 6 s 20 times
        (5, 3.0, 2.5, 7.5),  # made again, 5 items took 1 s and 10 took 2 s: 4 s more for 20 more; 1.5 s had been once
        (10, 3.0, 2.5, 4.5),  # 10 are all that there are, and took 1 s
    ],
)
def test_a_ranking_of_all_items_is_reckoned_from_small_ones(place, monkeypatch, items, share, first, seconds):
    """Of the 10 test images here there will be `share` times as many; 2 s of the first time are no ranking."""
    monkeypatch.setattr(times, "SECONDS", 9.0)
    ticks = iter([0.0, 1.0, 10.0, 12.0])
    limit = Limit(items=items, clock=lambda: next(ticks))
    plan = times.Plan(job(), limit, None, {"test": share}, ROOM, place)
    model, corpus = trial.built(job(), place / "data")
    found = times.ranking(model, corpus, "test", plan, torch.device("cpu"), lambda *_: None, first, 2.0)
    assert found == pytest.approx(seconds)


def test_a_large_model_ranks_fewer_items_and_writes_no_checkpoint(place, monkeypatch):
    monkeypatch.setattr(trial, "LARGE", 1000)
    monkeypatch.setattr(trial, "LARGE_ITEMS", 4)
    monkeypatch.setattr("torch.save", lambda *_: pytest.fail("a checkpoint was written"))
    found = trial.rehearse(job(), place, {"train": 30.0}, ROOM)
    assert (found.failed, found.large) == ("", True)
    queries = pd.read_parquet(place / "runs" / job().key / "instance_retrieval" / "examples.parquet")
    assert queries.aspect.value_counts().to_dict() == {"image-to-text": 4, "text-to-image": 4 * 5}


def test_weights_that_fine_tuning_begins_with_are_missed_before_it_begins(place, monkeypatch):
    """They are read only when a run goes on from another one, hours after its data have been opened."""

    class Network:
        def take_weights(self):
            raise UserError("weights.pth: is no file")

    model = type("Model", (), {"image_network": Network()})()
    monkeypatch.setattr(trial, "built", lambda *_, **__: (model, None))
    first = job(settings={"image_network": "resnet152"})
    trial._opened(first, place, trial.Trial("one"))
    with pytest.raises(UserError, match=r"weights\.pth: is no file"):
        trial._opened(first.model_copy(update={"after": "small/full/vsepp"}), place, trial.Trial("one"))


def test_only_what_is_missing_is_done_without(place, monkeypatch):
    """A model whose two files are missing: both are named, each by its own message, and nothing else is changed."""

    def opened(job, data, trial):
        for name in ("word_embedding", "image_weights"):
            if job.settings.get(name) != "seeded":
                raise UserError(f"{name}: is not there")
        return None, None, {}

    monkeypatch.setattr(trial, "_opened", opened)
    asked = job(model="mfsr", settings={"word_embedding": "a", "image_weights": "b", "margin": 0.3})
    tried = trial.Trial("one")
    found, *_ = trial._with_what_is_there(asked, place, tried)
    assert tried.missing == ["word_embedding: is not there", "image_weights: is not there"]
    assert found.settings == {**asked.settings, "word_embedding": "seeded", "image_weights": "seeded"}


def test_what_cannot_be_done_without_fails(place, monkeypatch):
    def opened(*_):
        raise UserError("items.parquet: is not there")

    monkeypatch.setattr(trial, "_opened", opened)
    tried = trial.Trial("one")
    with pytest.raises(UserError, match=r"items\.parquet: is not there"):
        trial._with_what_is_there(job(model="mfsr"), place, tried)
    assert tried.missing == []


def test_trials_take_no_more_memory_together_than_there_is():
    """Of 10 bytes one takes 6, so that another one that wants 5 waits for its end; 20 are given to one alone."""
    memory, order = run.Memory(10.0), []
    memory.take(6.0)

    def second():
        memory.take(5.0)
        order.append("second")
        memory.give(5.0)

    waiting = threading.Thread(target=second)
    waiting.start()
    waiting.join(0.2)
    order.append("first")
    assert order == ["first"]
    memory.give(6.0)
    waiting.join(10.0)
    assert order == ["first", "second"]
    memory.take(20.0)


def test_runs_of_a_model_are_spread_and_those_that_others_begin_from_come_first():
    several = [job(model="vsepp", variant=f"v{number}") for number in range(4)]
    several += [job(model="scan", variant=f"s{number}") for number in range(2)]
    several[3] = several[3].model_copy(update={"after": "small/full/vsepp.v2"})
    names = [one.variant for one in run._ordered(several)]
    assert names == ["s0", "v2", "v3", "s1", "v0", "v1"]
