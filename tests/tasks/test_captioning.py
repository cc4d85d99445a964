"""Captioning as a task: its references, its controls, and a run from its training to its numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json
from crossmodal.corpus.opening import load
from crossmodal.datasets import items
from crossmodal.evaluation import captions
from crossmodal.experiments import Job
from crossmodal.inference.search import direction
from crossmodal.reporting.results import cutoffs
from crossmodal.runs.evaluate import evaluate
from crossmodal.runs.train import train_job
from crossmodal.tasks.base import folder_of_metric, tasks, tasks_of
from crossmodal.tasks.captions import references

SETTINGS = {"dim": 48, "word_dim": 24, "dropout": 0.0, "epochs": 6, "batch_size": 16, "min_count": 1, "lr": 0.01}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Checkpoints go to the working folder."""
    monkeypatch.chdir(tmp_path)


def test_references_are_all_captions_of_each_test_image(prepared):
    corpus = load(prepared / "toy", "50pct-2cap", dict.fromkeys(("image", "text"), "ids"), {})
    images = references.images_of(corpus, "test")
    frame = items.read(prepared / "toy").set_index("item_id")
    assert images.ids.tolist() == [f"i{i}" for i in range(48, 60)]
    for id_, three in zip(images.ids, images.references, strict=True):
        assert three == [frame.source[f"{id_}#{k}"].split() for k in range(3)]


def test_without_captions_there_is_nothing_to_compare_with(prepared):
    corpus = load(prepared / "toy", "full", dict.fromkeys(("image", "text"), "ids"), {})
    with pytest.raises(UserError, match="no image of its exam partition has a caption"):
        references.images_of(corpus, "exam")


def test_who_is_asked():
    asked = {model: [task.name for task in tasks_of(model, "group")] for model in ("nic", "updown", "vsepp", "oracle")}
    assert asked["nic"] == asked["updown"] == ["captioning"]
    assert asked["vsepp"] == ["instance_retrieval"]
    assert asked["oracle"] == ["instance_retrieval", "captioning"]
    assert [task.name for task in tasks_of("oracle", "group", captioned=False)] == ["instance_retrieval"]
    assert "captioning" not in [task.name for task in tasks_of("oracle", "label")]


def test_a_person_is_compared_with_the_other_references(prepared, tmp_path):
    corpus = load(prepared / "toy", "full", dict.fromkeys(("image", "text"), "ids"), {})
    numbers = tasks()["captioning"].control("oracle", corpus, [1], 0, tmp_path)
    found = {(n["protocol"], n["metric"]): n["value"] for n in numbers}
    three = references.images_of(corpus, "test").references
    first, others = [captions_[0] for captions_ in three], [captions_[1:] for captions_ in three]
    assert found["human", "cider"] == pytest.approx(captions.cider(first, others).d.mean())
    assert found["all", "bleu1"] == pytest.approx(100)
    # Each caption of the toy has all words of its image, in another order.
    assert found["human", "bleu1"] == pytest.approx(100)
    assert found["human", "bleu4"] < 50


@pytest.mark.parametrize("model", ["nic", "updown"])
def test_a_run_from_its_training_to_its_numbers(prepared, tmp_path, model):
    run = tmp_path / "run"
    job = Job(
        dataset="toy",
        split="full",
        model=model,
        seed=0,
        inputs={"image": "raw" if model == "nic" else "regions"},
        settings={**SETTINGS, "beam": 3},
    )
    train_job(job, run, prepared)
    evaluate(job, run, prepared, "embedded")
    history = pd.read_parquet(run / "history.parquet")
    assert history.loss.iloc[-1] < history.loss.iloc[0]
    assert history.val_cider.max() > 0
    rows = read_json(run / "captioning" / "metrics.json")["numbers"]
    assert {row["protocol"] for row in rows} == {"all", "greedy"}
    examples = pd.read_parquet(run / "captioning" / "examples.parquet")
    assert len(examples) == 2 * 12
    said = [caption.split() for caption in examples[examples.protocol == "all"].caption]
    corpus = load(prepared / "toy", "full", dict.fromkeys(("image", "text"), "ids"), {})
    three = references.images_of(corpus, "test").references
    value = {row["metric"]: row["value"] for row in rows if row["protocol"] == "all"}
    assert value["cider"] == pytest.approx(captions.cider(said, three).d.mean())
    assert value["bleu2"] == pytest.approx(captions.bleu(captions.bleu_sums(said, three).sum(0))[1])
    assert value["length"] == pytest.approx(np.mean([len(words) for words in said]))
    assert value["vocabulary"] == len({word for words in said for word in words})
    assert not {"<unk>", "<start>", "<end>", "<pad>"} & {word for words in said for word in words}
    # What only a ranking has is one clear error, and the numbers' intervals come from this task's own examples.
    with pytest.raises(UserError, match="is evaluated on captioning and has no encodings"):
        direction(job, "image")
    with pytest.raises(UserError, match="is evaluated on captioning, which ranks nothing"):
        cutoffs.measure(run, job, prepared, ["recall@5"])
    assert folder_of_metric(run, "cider") == run / "captioning"
    assert folder_of_metric(run, "recall@5") is None
