"""Search by a trained run: its answers are those that the run's own test ranks first."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from crossmodal import experiments
from crossmodal.cli import app
from crossmodal.errors import UserError
from crossmodal.experiments import Job
from crossmodal.files import read_parquet
from crossmodal.models import base
from crossmodal.training import job as jobs
from crossmodal.training import trained
from crossmodal.training.search import Query, search

SETTINGS = {"dim": 16, "word_dim": 8, "epochs": 2, "lr": 0.01, "lr_drop": 4, "batch_size": 16, "min_count": 1}


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """A trained and tested run of the toy data, and a plan that knows it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        job = Job(dataset="toy", split="full", model="vsepp", seed=0, inputs={"image": "raw"}, settings=SETTINGS)
        folder = prepared.parent / "results" / "runs" / job.key
        jobs.train_job(job, folder, prepared)
        jobs.test_job(job, folder, prepared, "embedded")
    params = {
        "papers": [],
        "seeds": [0],
        "paths": {"data": str(prepared), "results": str(prepared.parent / "results")},
        "datasets": {"toy": {"reader": "karpathy", "title": "Toy"}},
        "extractors": {"raw": {"extractor": "image", "network": "shufflenet_v2_x0_5", "weights": "seeded"}},
        "scales": {"embedded": {"inputs": {"image": "raw"}}},
    }
    path = prepared.parent / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return folder, experiments.plan(experiments.load(path), prepared), path


@pytest.fixture(scope="module")
def queries(run):
    frame = read_parquet(run[0] / "queries.parquet")
    return frame[frame.protocol == "all"].set_index("query_id")


def test_an_item_has_the_answers_of_the_test(run, queries):
    for item in ("i50", "i55#1"):
        found = search(run[1], run[0], Query("", "", item))
        assert [answer.item_id for answer in found.answers] == list(queries.top[item])
        np.testing.assert_allclose([a.score for a in found.answers], queries.top_scores[item], rtol=1e-5)


def test_a_sentence_has_the_answers_of_its_own_words(run, queries, prepared):
    items = read_parquet(prepared / "toy" / "items.parquet").set_index("item_id")
    found = search(run[1], run[0], Query("text", items.source["i50#0"]), k=4)
    assert [answer.item_id for answer in found.answers] == list(queries.top["i50#0"])[:4]
    assert (found.to, found.gallery) == ("image", 12)
    assert found.answers[0].source.endswith(items.source[found.answers[0].item_id])


def test_other_items_are_encoded(run):
    """All of them, and the test items where the evaluation's embeddings are gone."""
    every = search(run[1], run[0], Query("", "", "i50#0"), partition="all", k=60)
    assert len(every.answers) == every.gallery == 60
    kept = search(run[1], run[0], Query("", "", "i50#0"), k=12)
    among = [answer.item_id for answer in every.answers if int(answer.item_id[1:]) >= 48]
    assert among == [answer.item_id for answer in kept.answers]
    held = run[0] / "embeddings.npz"
    held.rename(held.with_suffix(".away"))
    try:
        again = search(run[1], run[0], Query("", "", "i50#0"), k=12)
    finally:
        held.with_suffix(".away").rename(held)
    assert [answer.item_id for answer in again.answers] == among


def test_scores_without_vectors_keep_the_models_order(run, monkeypatch):
    """A score that is not the same both ways: images are its first argument, whichever of them asks."""
    weight = torch.linspace(-1, 1, 16)

    def score(self, first, second):
        return (first * weight) @ second.roll(1, 1).T

    opened = trained.open_run(run[0])
    monkeypatch.setattr(type(opened.model), "score", score)
    monkeypatch.setattr("crossmodal.training.search.open_run", lambda folder: opened)
    with np.load(run[0] / "embeddings.npz") as kept:
        images, texts = (torch.from_numpy(kept[name]) for name in ("image", "text"))
        ids = {name: kept[f"{name}_ids"] for name in ("image", "text")}
    matrix = score(None, images, texts).numpy()
    row, column = list(ids["image"]).index("i50"), list(ids["text"]).index("i50#0")
    found = search(run[1], run[0], Query("", "", "i50"), k=3)
    assert [a.item_id for a in found.answers] == list(ids["text"][np.argsort(-matrix[row])[:3]])
    found = search(run[1], run[0], Query("", "", "i50#0"), k=3)
    assert [a.item_id for a in found.answers] == list(ids["image"][np.argsort(-matrix[:, column])[:3]])
    assert type(opened.model).score is not base.Model.score


@pytest.mark.parametrize(
    ("query", "words", "told"),
    [
        (Query("mesh", "a.off"), {}, "reads image and text, not mesh"),
        (Query("text", "xyzzy"), {}, "has none of the"),
        (Query("", "", "i99"), {}, "holds no item 'i99'"),
        (Query("", "", "i50"), {"to": "texts"}, "did you mean 'text'"),
        (Query("image", "missing.jpg"), {}, "missing.jpg"),
    ],
)
def test_what_cannot_be_answered_is_told(run, query, words, told):
    with pytest.raises(UserError, match=told):
        search(run[1], run[0], query, **words)


def test_a_run_of_an_earlier_version_is_told(run, tmp_path):
    for name in ("config.yaml", "model.safetensors", "vocabulary.json"):
        (tmp_path / name).write_bytes((run[0] / name).read_bytes())
    manifest = json.loads((run[0] / "manifest.json").read_text())
    del manifest["context"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="train it again"):
        trained.open_run(tmp_path)


def test_the_command(run, queries, tmp_path):
    from typer.testing import CliRunner

    def call(*words):
        return CliRunner().invoke(app, ["--params", str(run[2]), "search", str(run[0]), *words])

    page = tmp_path / "found.html"
    said = call("--item", "i50", "-k", "2", "--html", str(page))
    assert [line.split("\t")[2] for line in said.stdout.splitlines()] == list(queries.top["i50"])[:2]
    told = json.loads(call("--item", "i50#0", "--json", "-k", "1").stdout)
    assert told["answers"][0]["item_id"] == queries.top["i50#0"][0]
    captions = pd.Series(list(queries.top["i50"])[:2])
    for caption in captions:
        assert caption in page.read_text()
    assert isinstance(call("a", "--item", "i50").exception, UserError)
