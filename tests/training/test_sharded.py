"""The test of a run in shards: the bits of the test in one process, files that are damaged, models without vectors."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from crossmodal.errors import UserError
from crossmodal.evaluation import ranking, strips
from crossmodal.experiments import Job
from crossmodal.files import read_json
from crossmodal.models import vsepp
from crossmodal.training import job as jobs
from crossmodal.training import test as testing

SETTINGS = {"dim": 16, "word_dim": 8, "epochs": 1, "lr_drop": 1, "batch_size": 32, "lr": 0.01, "min_count": 1}


def job(model="vsepp", **settings):
    return Job(
        dataset="toy", split="full", model=model, seed=0, inputs={"image": "raw"}, settings=settings, folds=[1, 2]
    )


@pytest.fixture(scope="module")
def tested(prepared, tmp_path_factory):
    """A trained run, tested in one process."""
    folder = tmp_path_factory.mktemp("run")
    jobs.train_job(job(**SETTINGS), folder, prepared)
    jobs.test_job(job(**SETTINGS), folder, prepared, "embedded")
    return folder


def in_shards(made, folder, prepared, count):
    jobs.encode_job(made, folder, prepared)
    for number in range(count):
        jobs.shard_job(made, folder, number, count)
    jobs.gather_job(made, folder, prepared, "embedded", count)


@pytest.mark.parametrize("count", [2, 6])
def test_the_files_of_one_process(tested, prepared, tmp_path, count):
    shutil.copytree(tested, tmp_path / "run")
    for name in ("queries.parquet", "metrics.json", "embeddings.npz"):
        (tmp_path / "run" / name).unlink()
    in_shards(job(**SETTINGS), tmp_path / "run", prepared, count)
    assert read_json(tmp_path / "run" / "metrics.json") == read_json(tested / "metrics.json")
    one, whole = (pd.read_parquet(folder / "queries.parquet") for folder in (tmp_path / "run", tested))
    pd.testing.assert_frame_equal(one, whole, check_exact=True)
    with np.load(tmp_path / "run" / "embeddings.npz") as a, np.load(tested / "embeddings.npz") as b:
        assert a.files == b.files
        assert all((a[name] == b[name]).all() for name in a.files)


def test_the_control_that_draws_its_vectors(prepared, tmp_path):
    made = job("chance")
    for name in ("one", "cut"):
        jobs.train_job(made, tmp_path / name, prepared)
    jobs.test_job(made, tmp_path / "one", prepared, "embedded")
    in_shards(made, tmp_path / "cut", prepared, 3)
    assert read_json(tmp_path / "cut" / "metrics.json") == read_json(tmp_path / "one" / "metrics.json")


@pytest.mark.parametrize("few", [16, 2])
def test_three_modalities_that_answer_by_class(labelled, tmp_path, monkeypatch, few):
    """Also where a query has more relevant items than are counted one by one: they are ranked in strips."""
    monkeypatch.chdir(tmp_path)
    for module in (ranking, strips):
        monkeypatch.setattr(module, "FEW", few)
    inputs = dict.fromkeys(("image", "text", "audio"), "raw")
    settings = {"modalities": list(inputs)}
    about = {"dataset": "kinds", "split": "full", "seed": 0, "relevance": "label"}
    made = Job(**about, model="chance", inputs=inputs, settings=settings)
    for name in ("one", "cut"):
        jobs.train_job(made, tmp_path / name, labelled)
    jobs.test_job(made, tmp_path / "one", labelled, "embedded")
    in_shards(made, tmp_path / "cut", labelled, 4)
    assert read_json(tmp_path / "cut" / "encoded" / "encoded.json")["strips"] is (few == 2)
    assert read_json(tmp_path / "cut" / "metrics.json") == read_json(tmp_path / "one" / "metrics.json")
    one, whole = (pd.read_parquet(tmp_path / name / "queries.parquet") for name in ("cut", "one"))
    pd.testing.assert_frame_equal(one, whole, check_exact=True)


def test_a_model_without_vectors_is_tested_whole(tested, prepared, tmp_path, monkeypatch):
    shutil.copytree(tested, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    monkeypatch.setattr(vsepp.Model, "score", lambda self, queries, gallery: queries @ gallery.T, raising=False)
    in_shards(job(**SETTINGS), tmp_path / "run", prepared, 2)
    assert not list((tmp_path / "run" / "encoded").glob("*.npy"))
    found, expected = (read_json(folder / "metrics.json")["numbers"] for folder in (tmp_path / "run", tested))
    for one, other in zip(found, expected, strict=True):
        assert one["metric"] == other["metric"]
        assert one["value"] == pytest.approx(other["value"], abs=3.0)  # its own float32 products, whose ties may differ


def test_damaged_and_missing_shards(tested, prepared, tmp_path):
    shutil.copytree(tested, tmp_path / "run")
    made = job(**SETTINGS)
    jobs.encode_job(made, tmp_path / "run", prepared)
    jobs.shard_job(made, tmp_path / "run", 0, 2)
    with pytest.raises(UserError, match=r"1\.npz: is missing or damaged"):
        jobs.gather_job(made, tmp_path / "run", prepared, "embedded", 2)
    shutil.copy(tmp_path / "run" / "shards" / "0.npz", tmp_path / "run" / "shards" / "1.npz")
    with pytest.raises(UserError, match="there twice"):
        jobs.gather_job(made, tmp_path / "run", prepared, "embedded", 2)
    with pytest.raises(UserError, match=r"cannot be cut into 997 rectangles \(evaluation.shards is 997\)"):
        jobs.shard_job(made, tmp_path / "run", 0, 997)


def test_a_large_matrix_of_scores_lies_on_the_disk(monkeypatch):
    import torch

    model = type("Stub", (), {"score": lambda self, a, b: a @ b.T})()
    left, right = torch.eye(3), torch.arange(6.0).reshape(2, 3)
    small = testing.scored(model, left, right)
    monkeypatch.setattr(testing, "IN_MEMORY", 0)
    large = testing.scored(model, left, right)
    assert isinstance(large, np.memmap)
    assert (small == large).all()
