"""Concepts of images and of sentences, in a corpus and from outside of it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_json, write_json
from crossmodal.corpus.opening import load
from crossmodal.experiments import Job
from crossmodal.inference.encoding import inputs_of, partition_of
from crossmodal.inference.run import open_run
from crossmodal.runs.train import train_job

READS = {"image": "concepts", "text": "concepts"}
NAMES = ["box", "car", "kite", "red"]  # all classes and attributes of the regions, by the alphabet


def named(concepts, row=0):
    ids, scores = concepts
    return {NAMES[i]: round(s, 4) for i, s in zip(ids[row].tolist(), scores[row].tolist(), strict=True) if s}


def test_concepts_of_items(tiny):
    corpus = load(tiny, "full", READS, {"image": "regions"}, expansion="own")
    images = corpus.inputs["image"].gather(torch.tensor([0, 1, 2]))
    assert (images.ids.dtype, images.scores.dtype) == (torch.int64, torch.float32)
    assert [named(images, n) for n in range(3)] == [
        {"kite": 0.25, "red": 0.25, "box": 0.75},
        {"car": 0.5, "red": 0.5},
        {"box": 0.4, "red": 0.2},
    ]
    texts = corpus.inputs["text"].gather(torch.tensor([1, 3, 0]))
    assert [named(texts, n) for n in range(3)] == [{"car": 1}, {"box": 1, "kite": 1}, {"kite": 1, "red": 1}]
    assert corpus.context.n_concepts == 4
    assert corpus.context.shapes == {}
    assert len(corpus.vocabulary) == 4  # special words alone: concepts have none
    assert set(corpus.fingerprint) == {
        "items", "split", "image.regions", "image.regions.index", "image", "text"
    }  # fmt: skip


def test_the_fingerprint_tells_whose_words_denote_concepts(tiny, tmp_path):
    """The data set's own synonyms stand in `items.json`, so that items and vocabulary are the same without them."""
    other = shutil.copytree(tiny, tmp_path / "tiny")
    manifest = read_json(other / "items.json")
    manifest["regions"]["synonyms"] = {}
    write_json(other / "items.json", manifest)
    one, two = (load(of, "full", READS, {"image": "regions"}, expansion="own").fingerprint for of in (tiny, other))
    assert {key for key in one if one[key] != two[key]} == {"text"}
    assert "items.json" in registry.form("concepts", "text")["files"]  # so that a change of it is noticed


def test_concepts_beside_vectors(tiny):
    """As the second form of images, in batches too; their extractor is that of the regions."""
    reads, second = {"image": "vector", "text": "tokens"}, {"image": ("concepts", "regions")}
    corpus = load(tiny, "full", reads, {"image": "vectors"}, second_form=second, expansion="own", min_count=1)
    assert corpus.context.n_concepts == 4
    assert corpus.context.shapes == {"image": (2,)}
    batch = corpus.batch(torch.tensor([2, 0]))
    assert batch.inputs["image"].tolist() == [[3, 6], [1, 2]]
    assert "second_form.image" in corpus.fingerprint  # and not under the name of what is read beside it
    assert [named(batch.second_form["image"], n) for n in range(2)] == [
        {"car": 0.5, "red": 0.5},
        {"kite": 0.25, "red": 0.25, "box": 0.75},
    ]


def test_a_search_by_concepts(tiny, tmp_path, monkeypatch):
    """What the names are is known from the data set's regions, also where sentences alone are asked for or searched."""
    monkeypatch.chdir(tmp_path)
    settings = {"expansion": "own"}
    job = Job(dataset="tiny", split="full", model="sg", seed=0, inputs={"image": "regions"}, settings=settings)
    train_job(job, tmp_path / "run", tiny.parent)
    run = open_run(tmp_path / "run")
    assert named(*inputs_of(run, tiny, "text", ["Two crates"])) == {"box": 1}
    assert named(*inputs_of(run, tiny, "image", ["b.jpg"], "b")) == {"car": 0.5, "red": 0.5}
    with pytest.raises(UserError, match="'zebra': corresponds to none of the 4 concepts"):
        [*inputs_of(run, tiny, "text", ["zebra"])]
    ids, encodings = partition_of(run, tiny, "text", "image", "test")
    assert ids.tolist() == ["c#0"]
    assert encodings.tolist() == [[1, 0, 1, 0]]
    ids, encodings = partition_of(run, tiny, "image", "text", "train")
    assert ids.tolist() == ["a", "b"]
    np.testing.assert_allclose(encodings, [[0.75, 0, 0.25, 0.25], [0, 0.5, 0, 0.5]])


def test_an_image_from_outside(tiny):
    corpus = load(tiny, "full", READS, {"image": "regions"}, expansion="own")
    form = corpus.inputs["image"].form
    columns = {"class": [["kite", "car"]], "attribute": [["", "red"]], "confidence": [[0.5, 0.75]], "count": [2]}
    source = type("Source", (), {"once": lambda self, name, make: tuple(NAMES)})()
    found = form.of_features(source, np.zeros((1, 2, 2), np.float32), columns)
    assert named(found) == {"kite": 0.5, "car": 0.75, "red": 0.75}


def test_without_regions_there_are_no_concepts(tiny):
    with pytest.raises(UserError, match="tiny: concepts are names of regions, of which the model reads no features"):
        load(tiny, "full", {"text": "concepts"}, {}, expansion="own")
