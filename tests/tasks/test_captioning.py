"""Captioning as a task: its references, its controls, and a run from its training to its numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core import limits
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, write_json
from crossmodal.corpus.opening import load
from crossmodal.datasets import items
from crossmodal.evaluation import captions
from crossmodal.experiments import Job
from crossmodal.inference.search import direction
from crossmodal.models import nic
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


def test_a_caption_without_end_is_refused(prepared, monkeypatch):
    """Its comparison with others takes the product of their lengths: hours for one of a million words."""
    corpus = load(prepared / "toy", "full", dict.fromkeys(("image", "text"), "ids"), {})
    monkeypatch.setattr(limits, "_limits", limits.Limits(caption_words=2))
    with pytest.raises(
        UserError, match=r"the caption 'i48#0' has \d words, expected at most 2 \(`limits.caption_words`"
    ):
        references.images_of(corpus, "test")


def test_a_caption_that_belongs_to_no_image(prepared):
    corpus = load(prepared / "toy", "full", dict.fromkeys(("image", "text"), "ids"), {})
    texts = corpus.inputs["text"]
    groups = texts.groups.copy()
    groups[np.isin(texts.ids, ["i50#1", "i51#0"])] = [1000, 1001]
    odd = replace(corpus, inputs={**corpus.inputs, "text": replace(texts, groups=groups)})
    with pytest.raises(UserError, match=r"caption 'i50#1' of the test partition belongs to no image .* 1 other image"):
        references.images_of(odd, "test")


class Mute(torch.nn.Module):
    """Says the words of `ids` of every image."""

    def __init__(self, *ids: int):
        super().__init__()
        self.ids, self.settings = ids, nic.Settings(beam=2)

    def generate(self, batch, beam):
        return torch.tensor([self.ids] * len(batch.inputs["image"]))


def test_generations_that_are_empty_or_outside_of_the_vocabulary(prepared):
    corpus = load(prepared / "toy", "full", {"image": "vector", "text": "tokens"}, {"image": "raw"})
    task = tasks()["captioning"]
    targets, cpu = task.targets(corpus), torch.device("cpu")
    with pytest.raises(UserError, match="says no word of any of the 12 test images, whose captions all end at once"):
        task.predict(Mute(0, 0), corpus, targets, cpu)
    size = len(corpus.vocabulary)
    with pytest.raises(UserError, match=f"has the word id {size}, and the run's vocabulary has {size} words"):
        task.predict(Mute(4, size), corpus, targets, cpu)
    said = task.predict(Mute(size - 1, 0), corpus, targets, cpu).captions
    assert said["all"] == said["greedy"] == [[corpus.vocabulary.words[-1]]] * 12


def test_a_beam_of_none(prepared, tmp_path):
    inputs = {"image": "raw"}
    job = Job(dataset="toy", split="full", model="nic", seed=0, inputs=inputs, settings={**SETTINGS, "beam": 0})
    with pytest.raises(UserError, match=r"model nic: beam: .*greater than or equal to 1") as error:
        train_job(job, tmp_path / "run", prepared)
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in str(error.value)


def test_a_run_of_another_task(tmp_path, prepared):
    job = Job(dataset="toy", split="full", model="vsepp", seed=0, inputs={"image": "raw"}, settings={})
    with pytest.raises(UserError, match=r"is not evaluated on the task 'captioning'; its tasks are instance_retrieval"):
        evaluate(job, tmp_path, prepared, "embedded", only="captioning")


def test_self_critical_and_contrastive_runs_continue_a_run(prepared, tmp_path):
    """The second run begins with the first one's weights, and is told to name one if it has none."""
    about = {"dataset": "toy", "split": "full", "model": "updown", "seed": 0, "inputs": {"image": "regions"}}
    job = Job(**about, settings={**SETTINGS, "epochs": 2, "beam": 1})
    train_job(job, tmp_path / "first", prepared)
    history = pd.read_parquet(tmp_path / "first" / "history.parquet")
    for objective in ("self-critical", "contrastive"):
        settings = {**SETTINGS, "epochs": 1, "lr": 1e-4, "objective": objective, "samples": 2, "longest": 12, "beam": 1}
        told = {"after": "toy/full/updown", "origin": "0", "variant": objective, "settings": settings}
        later = Job(**{**about, **told})
        folder = tmp_path / objective
        train_job(later, folder, prepared, before=tmp_path / "first")
        evaluate(later, folder, prepared, "embedded")
        after = pd.read_parquet(folder / "history.parquet")
        assert after.val_cider.iloc[0] == pytest.approx(history.val_cider.max(), rel=0.5)
        if objective == "self-critical":
            assert 0 < after.reward.iloc[0] < 10
        with pytest.raises(UserError, match="name that experiment as `after`"):
            train_job(later, tmp_path / "alone", prepared)
        assert not (tmp_path / "alone").exists()


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


def test_objects_that_are_not_there(prepared, tmp_path):
    """Three of the toy's words as objects, of which `worda` is annotated by another name."""
    from shutil import copytree

    folder = copytree(prepared / "toy", tmp_path / "toy")
    frame = items.read(folder)
    texts = frame[frame.modality == "text"].groupby("group_id").source.first()
    called = {"worda": "wordz", "wordb": "wordb", "wordc": "wordc"}
    regions = {
        f"{group}.jpg": [{"box": [0, 0, 1, 1], "class": name} for word, name in called.items() if word in text.split()]
        for group, text in texts.items()
    }
    del regions["i48.jpg"]
    write_json(folder / "regions.json", regions)
    items.write(frame, folder, {"root": ".", "regions": {"file": "regions.json", "synonyms": {"wordz": ["worda"]}}})
    corpus = load(folder, "full", dict.fromkeys(("image", "text"), "ids"), {})
    numbers = tasks()["captioning"].control("chance", corpus, [1], 0, tmp_path)
    found = {n["metric"]: n["value"] for n in numbers}
    examples = pd.read_parquet(tmp_path / "examples.parquet").set_index("query_id")
    assert examples.annotated.to_dict() == {f"i{i}": float(i != 48) for i in range(48, 60)}
    said = {id_: {"wordb", "wordc", "worda"} & {*caption.split()} for id_, caption in examples.caption.items()}
    absent = {id_: len(words - {*texts[id_].split()}) for id_, words in said.items() if id_ != "i48"}
    assert examples.absent.drop("i48").to_dict() == absent
    counted = sum(len(words) for id_, words in said.items() if id_ != "i48")
    assert found["chair_i"] == pytest.approx(100 * sum(absent.values()) / counted)
    assert found["chair_s"] == pytest.approx(100 * np.mean([n > 0 for n in absent.values()]))


@pytest.mark.parametrize("model", ["nic", "updown"])  # one that reads vectors, one that reads regions
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
