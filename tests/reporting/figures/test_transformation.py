"""A space before and after its training: which items, with which weights, and the figure of their places."""

from __future__ import annotations

from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.reporting.figures import base, transformation
from crossmodal.runs.build import built
from crossmodal.runs.train import train_job
from crossmodal.runs.trained import trained as reopened
from crossmodal.tasks.ranked.encodings import encode
from tests.corpus.test_by_class import ALL, corpus, job

CPU = torch.device("cpu")


def test_a_few_items_of_each_class():
    labels = np.array([0, 1, 0, 1, 2, *[0] * 20])
    found = transformation.chosen(labels, np.array([0, 2, 3, 1, 4, *range(5, 25)]), np.array([0, 1]))
    assert found.tolist() == [0, 2, 5, 6, 7, 8, 9, 10, 3, 1]


@pytest.fixture(scope="module")
def trained(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # checkpoints
        train_job(job(), folder, labelled)
    return folder


def test_first_weights_and_trained_ones(labelled, trained):
    before, after, modalities, labels = transformation.vectors(job(), trained, labelled)
    found = corpus(labelled)
    index = {m: transformation.chosen(x.labels, x.where("test"), np.arange(5)) for m, x in found.inputs.items()}
    assert set(labels.tolist()) == {0, 1, 2, 3, 4}  # of six classes with test items
    first, _ = built(job(), labelled)
    last, _ = reopened(job(), trained, labelled)
    for m, partner in (("image", "text"), ("text", "image"), ("audio", "image")):
        own = modalities == m
        assert labels[own].tolist() == found.inputs[m].labels[index[m]].tolist()
        for vectors, model in ((before, first), (after, last)):
            np.testing.assert_array_equal(vectors[own], encode(model, found, m, partner, index[m], CPU).numpy())
    assert list(dict.fromkeys(modalities)) == list(ALL)
    assert not np.allclose(before, after)


def test_a_run_that_is_not_trained_is_told(labelled, tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors: not found; train the run first"):
        transformation.vectors(job(), tmp_path, labelled)


def test_the_step_draws_the_first_run_of_classes_that_is_marked(labelled, trained, tmp_path, monkeypatch):
    one = job()
    (tmp_path / "results" / "runs" / one.key).parent.mkdir(parents=True)
    (tmp_path / "results" / "runs" / one.key).symlink_to(trained)
    paths = SimpleNamespace(results=tmp_path / "results", data=labelled)
    other = one.model_copy(update={"relevance": "group"})
    plan = SimpleNamespace(params=SimpleNamespace(paths=paths), mapped=lambda jobs: [other, one])
    base.write("transformation", base.Scope(plan, {}, str(tmp_path)))
    drawn = (tmp_path / "figures" / "transformation.svg").read_text()
    ElementTree.fromstring(drawn)
    for text in ("Before training", "After training", "image", "text", "audio", "class 1", "class 5"):
        assert text in drawn, text
    assert "class 6" not in drawn


def test_colours_are_modalities_and_shapes_are_classes():
    places = np.arange(8.0).reshape(4, 2)
    modalities, labels = np.array(["image", "image", "text", "text"]), np.array([7, 3, 7, 3])
    drawn = transformation.transformation({"a": places}, modalities, labels)
    assert drawn == transformation.transformation({"a": places}, modalities, labels)
    assert drawn.count("PathCollection") == 4  # one of each modality and class
    assert "class 2" in drawn
    assert "class 3" not in drawn
