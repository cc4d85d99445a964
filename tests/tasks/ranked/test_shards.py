"""The test of a run in shards: the bits of the test in one process, files that are damaged, models without vectors."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.evaluation.ranking import ranks, strips
from crossmodal.experiments import Job
from crossmodal.models import vsepp
from crossmodal.runs.evaluate import encode_job, evaluate, gather_job, shard_job
from crossmodal.runs.train import train_job
from crossmodal.tasks.ranked import encodings

SETTINGS = {"dim": 16, "word_dim": 8, "epochs": 1, "lr_drop": 1, "batch_size": 32, "lr": 0.01, "min_count": 1}


def job(model="vsepp", **settings):
    return Job(
        dataset="toy", split="full", model=model, seed=0, inputs={"image": "raw"}, settings=settings, folds=[1, 2]
    )


TASK = "instance_retrieval"


@pytest.fixture(scope="module")
def tested(prepared, tmp_path_factory):
    """A trained run, tested in one process."""
    folder = tmp_path_factory.mktemp("run")
    train_job(job(**SETTINGS), folder, prepared)
    evaluate(job(**SETTINGS), folder, prepared, "embedded")
    return folder


def in_shards(made, folder, prepared, count, task=TASK):
    encode_job(made, folder, prepared, task)
    for number in range(count):
        shard_job(made, folder, task, number, count)
    gather_job(made, folder, prepared, "embedded", task, count)


@pytest.mark.parametrize("count", [2, 6])
def test_the_files_of_one_process(tested, prepared, tmp_path, count):
    shutil.copytree(tested, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / TASK)
    in_shards(job(**SETTINGS), tmp_path / "run", prepared, count)
    cut, whole = tmp_path / "run" / TASK, tested / TASK
    assert read_json(cut / "metrics.json") == read_json(whole / "metrics.json")
    examples = [pd.read_parquet(folder / "examples.parquet") for folder in (cut, whole)]
    pd.testing.assert_frame_equal(*examples, check_exact=True)
    with np.load(cut / "embeddings.npz") as a, np.load(whole / "embeddings.npz") as b:
        assert a.files == b.files
        assert all((a[name] == b[name]).all() for name in a.files)


@pytest.mark.parametrize("few", [16, 2])
def test_three_modalities_that_answer_by_class(labelled, tmp_path, monkeypatch, few):
    """Also where a query has more relevant items than are counted one by one: they are ranked in strips."""
    monkeypatch.chdir(tmp_path)
    for module in (ranks, strips):
        monkeypatch.setattr(module, "FEW", few)
    inputs = dict.fromkeys(("image", "text", "audio"), "raw")
    about = {"dataset": "kinds", "split": "full", "seed": 0, "relevance": "label"}
    made = Job(**about, model="cca", inputs=inputs, settings={"modalities": list(inputs), "dim": 3})
    for name in ("one", "cut"):
        train_job(made, tmp_path / name, labelled)
    evaluate(made, tmp_path / "one", labelled, "embedded")
    in_shards(made, tmp_path / "cut", labelled, 4, "category_retrieval")
    cut, one = (tmp_path / name / "category_retrieval" for name in ("cut", "one"))
    assert read_json(cut / "encoded" / "encoded.json")["strips"] is (few == 2)
    assert read_json(cut / "metrics.json") == read_json(one / "metrics.json")
    examples = [pd.read_parquet(folder / "examples.parquet") for folder in (cut, one)]
    pd.testing.assert_frame_equal(*examples, check_exact=True)


def test_a_model_without_vectors_is_tested_whole(tested, prepared, tmp_path, monkeypatch):
    shutil.copytree(tested, tmp_path / "run")
    (tmp_path / "run" / TASK / "metrics.json").unlink()
    monkeypatch.setattr(vsepp.Model, "score", lambda self, queries, gallery: queries @ gallery.T, raising=False)
    in_shards(job(**SETTINGS), tmp_path / "run", prepared, 2)
    assert not list((tmp_path / "run" / TASK / "encoded").glob("*.npy"))
    folders = (tmp_path / "run" / TASK, tested / TASK)
    found, expected = (read_json(folder / "metrics.json")["numbers"] for folder in folders)
    for one, other in zip(found, expected, strict=True):
        assert one["metric"] == other["metric"]
        assert one["value"] == pytest.approx(other["value"], abs=3.0)  # its own float32 products, whose ties may differ


def test_damaged_and_missing_shards(tested, prepared, tmp_path):
    shutil.copytree(tested, tmp_path / "run")
    made = job(**SETTINGS)
    encode_job(made, tmp_path / "run", prepared, TASK)
    shard_job(made, tmp_path / "run", TASK, 0, 2)
    with pytest.raises(UserError, match=r"1\.npz: is missing or damaged"):
        gather_job(made, tmp_path / "run", prepared, "embedded", TASK, 2)
    shutil.copy(tmp_path / "run" / TASK / "shards" / "0.npz", tmp_path / "run" / TASK / "shards" / "1.npz")
    with pytest.raises(UserError, match="occurs twice"):
        gather_job(made, tmp_path / "run", prepared, "embedded", TASK, 2)
    with pytest.raises(UserError, match=r"cannot be cut into 997 rectangles \(evaluation.shards is 997\)"):
        shard_job(made, tmp_path / "run", TASK, 0, 997)


def test_a_large_matrix_of_scores_lies_on_the_disk(monkeypatch):
    import torch

    model = type("Stub", (), {"score": lambda self, a, b: a @ b.T})()
    left, right = torch.eye(3), torch.arange(6.0).reshape(2, 3)
    small = encodings.scored(model, left, right)
    monkeypatch.setattr(encodings, "IN_MEMORY", 0)
    large = encodings.scored(model, left, right)
    assert isinstance(large, np.memmap)
    assert (small == large).all()
