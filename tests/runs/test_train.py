"""What a training leaves in a run's folder, and what it says of the data that it has read."""

from __future__ import annotations

import os
import re
import shutil
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from crossmodal.core import cores
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, sha256_file, write_json, write_parquet
from crossmodal.experiments import Job, job_in
from crossmodal.features.engine import store
from crossmodal.models import base
from crossmodal.runs import train as running
from crossmodal.runs.evaluate import evaluate, gather_job, shard_job
from crossmodal.runs.manifest import sizes_of
from crossmodal.runs.train import train_job
from crossmodal.training import loop

SMALL = {"dim": 16, "word_dim": 8, "epochs": 3, "batch_size": 36, "min_count": 1}


def job(**changes):
    about = {"dataset": "toy", "split": "full", "model": "vsepp", "seed": 0, "inputs": {"image": "raw"}}
    return Job(**{**about, "settings": SMALL, "scale": "full", **changes})


def test_the_files_of_a_run(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    for task in ("category_retrieval", "instance_retrieval"):  # the former is none of a data set of captions
        (folder / task).mkdir(parents=True)
        (folder / task / "examples.parquet").write_text("of an earlier run")
    before = datetime.now(UTC).replace(microsecond=0)
    train_job(job(), folder, prepared)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".finished.json", "config.yaml", "history.parquet", "instance_retrieval", "manifest.json",
        "model.safetensors", "vocabulary.json",
    ]  # fmt: skip
    manifest = read_json(folder / "manifest.json")
    words = 15 + 4  # the coordinates' names, and padding, start, end and unknown
    # An affine map of 15 numbers to 16; vectors of the words; a GRU with three gates and two biases.
    parameters = (15 + 1) * 16 + words * 8 + 3 * 16 * (8 + 16 + 2)
    expected = {
        "job": "toy/full/vsepp/seed0", "hash": job().hash, "fallbacks": [], "scale": "full", "pairs": 108,
        "words": words, "parameters": parameters, "device": "cpu", "resumed_after_epoch": 0,
        "weights_sha256": sha256_file(folder / "model.safetensors"),
    }  # fmt: skip
    assert {key: manifest[key] for key in expected} == expected
    assert sum(value.numel() for value in load_file(folder / "model.safetensors").values()) == parameters
    assert before <= datetime.fromisoformat(manifest["finished"]) <= datetime.now(UTC)
    assert 0 < manifest["seconds"] < 600
    assert 50 < manifest["peak_memory_mib"] < 50_000
    assert manifest["hardware"]["cores"] == os.cpu_count()
    assert set(manifest["versions"]) == {"python", "crossmodal", "torch", "lightning-fabric", "numpy", "pandas"}
    assert manifest["context"]["shapes"] == {"image": [15]}
    assert {"items", "split", "vocabulary", "image.raw", "image.raw.index", "text"} == set(manifest["data"])
    assert {"source", "commit", "energy_joules", "best_epoch"} <= set(manifest)
    history = pd.read_parquet(folder / "history.parquet")
    assert manifest["best_epoch"] == int(history.epoch[history.val_recall_sum.idxmax()])
    read = job_in(folder)
    assert read.settings["dim"] == 16
    assert read.settings["margin"] == 0.2  # of the defaults too
    assert read.model_copy(update={"settings": SMALL}) == job()
    evaluate(job(), folder, prepared, "embedded")
    metrics = read_json(folder / "instance_retrieval" / "metrics.json")
    about = {"dataset": "toy", "split": "full", "model": "vsepp", "variant": "", "seed": 0}
    assert (metrics["job"], metrics["task"], metrics["scale"]) == (about, "instance_retrieval", "embedded")
    assert metrics["weights_sha256"] == manifest["weights_sha256"]


def test_controls_are_evaluated_without_a_training(prepared, tmp_path):
    """On the modalities of the data set's items, whatever models read, or on those that the job names."""
    for settings in ({}, {"modalities": ["text", "image"]}):
        control = job(model="oracle", settings=settings, inputs={}, folds=[1, 2], seed=3, variant="x")
        evaluate(control, tmp_path, prepared, "full", "instance_retrieval")
        metrics = read_json(tmp_path / "instance_retrieval" / "metrics.json")
        assert metrics["job"] == {"dataset": "toy", "split": "full", "model": "oracle", "variant": "x", "seed": 3}
        assert "weights_sha256" not in metrics
        sums = {n["protocol"]: n["value"] for n in metrics["numbers"] if n["metric"] == "recall_sum"}
        assert sums == {"all": 600.0, "fold2": 600.0}
        sizes = {n["aspect"]: n["n_gallery"] for n in metrics["numbers"] if n["protocol"] == "all"}
        assert (sizes["image-to-text"], sizes["text-to-image"]) == (36, 12)
    with pytest.raises(UserError, match="is not evaluated on the task 'category_retrieval'; its tasks are instance_"):
        evaluate(control, tmp_path, prepared, "full", "category_retrieval")


def test_a_training_goes_on_from_its_checkpoint_unless_it_is_to_begin_anew(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    epoch = loop._epoch

    def cut_off(*args):
        if args[6] == 2:
            raise KeyboardInterrupt
        return epoch(*args)

    resumed = []
    for fresh in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "_epoch", cut_off)
            with pytest.raises(KeyboardInterrupt):
                train_job(job(), tmp_path / "run", prepared)
        train_job(job(), tmp_path / "run", prepared, fresh=fresh)
        resumed.append(read_json(tmp_path / "run" / "manifest.json")["resumed_after_epoch"])
    assert resumed == [2, 0]
    assert not [*(tmp_path / ".checkpoints").glob("*.pt")]


@pytest.mark.parametrize("changed", ["nothing", "features", "second form", "index", "captions", "program", "weights"])
def test_a_training_goes_on_only_with_what_it_began_with(prepared, tmp_path, monkeypatch, caplog, changed):
    """The job is the same each time: data, program and the weights that it begins from are known by their content."""
    monkeypatch.chdir(tmp_path)
    data, first = shutil.copytree(prepared, tmp_path / "data"), tmp_path / "first"
    train_job(job(), first, data)
    made = job(variant="later", after="toy/full/vsepp", origin="one")
    if changed == "second form":
        small = {"dim": 12, "layers": 1, "image_size": 8, "channels": 2, "word_embedding": "seeded"}
        made, first = job(model="mfsr", settings=SMALL | small, second_inputs={"image": "pixels"}), None
    epoch = loop._epoch

    def cut_off(*args):
        if args[6] == 2:
            raise KeyboardInterrupt
        return epoch(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_epoch", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train_job(made, tmp_path / "run", data, before=first)
    if changed in ("features", "second form"):
        name = {"features": "raw", "second form": "pixels"}[changed]
        array = np.load(data / f"toy/features/image.{name}.npy")
        array[0] = array[1]
        np.save(data / f"toy/features/image.{name}.npy", array)
        ids = pd.read_parquet(data / f"toy/features/image.{name}.parquet").item_id
        store.save(data / f"toy/features/image.{name}", ids, {"extractor": "made by hand"})
    if changed == "index":  # the rows of two items are exchanged
        ids = pd.read_parquet(data / "toy/features/image.raw.parquet").item_id.to_list()
        store.save(data / "toy/features/image.raw", [ids[1], ids[0], *ids[2:]], {"extractor": "made by hand"})
    if changed == "captions":  # no other words, and as often
        tokens = pd.read_parquet(data / "toy/tokens.parquet")
        tokens["tokens"] = tokens.tokens.iloc[[1, 0, *range(2, len(tokens))]].to_numpy()
        tokens.to_parquet(data / "toy/tokens.parquet")
    if changed == "program":
        monkeypatch.setattr(running, "source_of_training", lambda *_: "another")
    if changed == "weights":
        train_job(job(seed=1), first, data)
    caplog.set_level("INFO")
    train_job(made, tmp_path / "run", data, before=first)
    assert ("belongs to other data, settings or code; training begins anew" in caplog.text) == (changed != "nothing")
    resumed = read_json(tmp_path / "run" / "manifest.json")["resumed_after_epoch"]
    assert resumed == (2 if changed == "nothing" else 0)


def test_a_control_is_not_trained(prepared, tmp_path):
    with pytest.raises(UserError, match=r"toy/full/chance/seed0: is a control, .*crossmodal evaluate"):
        train_job(job(model="chance", settings={}, inputs={}), tmp_path / "run", prepared)


@pytest.mark.parametrize("pairs", [0, 1])
def test_one_pair_has_no_negative(prepared, tmp_path, monkeypatch, pairs):
    monkeypatch.chdir(tmp_path)
    path = prepared / "toy" / "splits" / "1pct-1cap.parquet"
    full = pd.read_parquet(prepared / "toy" / "splits" / "full.parquet")
    write_parquet(path, full.iloc[:pairs])
    words = "pair" if pairs == 1 else "pairs"
    try:
        with pytest.raises(UserError, match=rf"1pct-1cap\.parquet: has {pairs} training {words}, .*at least 2"):
            train_job(job(split="1pct-1cap"), tmp_path / "run", prepared)
    finally:
        path.unlink()
    assert not (tmp_path / "run").exists()


def test_what_data_sets_and_features_warn_of(tmp_path):
    """Of the source of a transfer too, and of a second form; what has no manifest says nothing."""
    for name in ("toy", "other"):
        (tmp_path / name / "features").mkdir(parents=True)
        write_json(tmp_path / name / "items.json", {"warnings": [f"{name} is odd", "and small"]})
    made = job(source="other", source_inputs={"text": "bag"}, beside={"image": "small"})
    write_json(tmp_path / "toy/features/image.raw.json", {"fallback": "seeded; drawn", "shape": [5, 2], "skipped": []})
    skipped = [{"item_id": "a"}, {"item_id": "b"}]
    write_json(tmp_path / "toy/features/image.small.json", {"shape": [5, 3, 8, 8], "skipped": skipped})
    write_json(tmp_path / "other/features/text.bag.json", {"shape": [7, 2]})
    assert running._fallbacks(made, tmp_path) == [
        "items of toy: toy is odd",
        "items of toy: and small",
        "items of other: other is odd",
        "items of other: and small",
        "image features of raw: seeded, drawn",
        "image features of small: 2 of 7 items cannot be read and are left out with the items of their groups",
    ]
    assert running._fallbacks(job(dataset="nowhere"), tmp_path) == []


def test_sums_of_cublas_have_the_same_bits():
    """NVIDIA's libraries sum in a fixed order only with one of these work spaces."""
    assert re.fullmatch(r":4096:8|:16:8", os.environ["CUBLAS_WORKSPACE_CONFIG"])


def test_a_model_that_no_task_can_choose_an_epoch_of(monkeypatch):
    monkeypatch.setattr(running, "chooser_of", lambda *_: None)
    with pytest.raises(UserError, match="toy/full/vsepp/seed0: model 'vsepp' is trained epoch by epoch, but no task"):
        running.selection_of(job())
    task = SimpleNamespace(criterion="recall_sum", selection="crossmodal.tasks.ranked.selection")
    monkeypatch.setattr(running, "chooser_of", lambda *_: task)
    assert running.selection_of(job()).criterion == "recall_sum"


def test_an_epoch_cannot_be_chosen_without_validation_items(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = shutil.copytree(prepared, tmp_path / "data")
    items = pd.read_parquet(data / "toy/items.parquet")
    write_parquet(data / "toy/items.parquet", items[~((items.partition == "val") & (items.modality == "image"))])
    with pytest.raises(UserError, match=r"items\.parquet: no image item of the partition val"):
        train_job(job(), tmp_path / "run", data)
    assert not (tmp_path / "run").exists()


def test_a_fresh_training_needs_no_checkpoint(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_job(job(settings=SMALL | {"epochs": 1}), tmp_path / "run", prepared, fresh=True)
    assert (tmp_path / "run" / "manifest.json").exists()


def test_every_step_of_a_test_computes_with_the_threads_of_its_job(tmp_path, monkeypatch):
    class ToldError(Exception):
        pass

    def told(threads):
        raise ToldError(threads)

    monkeypatch.setattr(cores, "compute_in", told)
    steps = {
        "whole": lambda one: evaluate(one, tmp_path, tmp_path, "full"),
        "shard": lambda one: shard_job(one, tmp_path, "instance_retrieval", 0, 2),
        "gather": lambda one: gather_job(one, tmp_path, tmp_path, "full", "instance_retrieval", 2),
    }
    for step in steps.values():
        with pytest.raises(ToldError, match="3"):
            step(job(model="chance", settings={}, threads=3))


def test_a_model_is_tested_on_the_device_of_its_slot(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_job(job(settings=SMALL | {"epochs": 1}), tmp_path / "run", prepared)
    moved = []
    monkeypatch.setattr(base.Model, "to", lambda model, device: moved.append(device) or model)
    evaluate(job(settings=SMALL | {"epochs": 1}), tmp_path / "run", prepared, "embedded")
    assert moved == [torch.device("cpu")]


def test_a_manifest_describes_at_most_a_hundred_modalities(tmp_path):
    sizes = dict.fromkeys(("vocabulary_size", "n_classes", "n_groups", "n_concepts"), 1) | {
        "trained": [],
        "source": None,
    }
    for count in (100, 101):
        shapes = {f"m{n}": [2] for n in range(count)}
        write_json(tmp_path / "manifest.json", {"context": {"shapes": shapes, **sizes}})
        if count == 100:
            assert len(sizes_of(tmp_path).shapes) == 100
    with pytest.raises(UserError, match=r"manifest\.json: context\.shapes"):
        sizes_of(tmp_path)
