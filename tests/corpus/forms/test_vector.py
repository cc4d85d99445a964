"""Vectors are opened in the order of the items and handed on as float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.forms import form
from crossmodal.corpus.opening import load


def test_vectors_of_items(tiny):
    corpus = load(tiny, "full", {"image": "vector"}, {"image": "vectors"})
    found = corpus.inputs["image"].gather(torch.tensor([2, 0]))
    assert found.dtype == torch.float32
    assert found.tolist() == [[5, 7], [1, 2]]
    assert corpus.inputs["image"].ids.tolist() == ["a", "b", "c"]
    assert corpus.context.shapes == {"image": (2,)}
    assert set(corpus.fingerprint) == {"items", "split", "image.vectors", "image.vectors.index"}


def test_moments_are_those_of_training_items(labelled):
    corpus = load(labelled / "kinds", "full", {"image": "vector"}, {"image": "raw"}, relevance="label")
    one = corpus.inputs["image"]
    train = one.gather(torch.from_numpy(one.where("train"))).double()
    mean, deviation = corpus.context.moments["image"]
    torch.testing.assert_close(mean, train.mean(0).float())
    torch.testing.assert_close(deviation, train.std(0, correction=0).float())


def test_a_vector_from_outside():
    assert form("vector").of_features(None, np.array([[1, 2]], np.float16), {}).tolist() == [[1, 2]]
    assert form("vector").outside == "numbers"


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("vector", "regions", r"image\.regions\.npy: has shape \(3, 2, 2\); the model reads one vector per item"),
        ("regions", "vectors", r"has shape \(3, 2\); the model reads a set of regions per item"),
        ("pixels", "vectors", r"has shape \(3, 2\); the model reads a small picture per item"),
        ("images", "regions", r"has shape \(3, 2, 2\); the model reads an image per item"),
        ("concepts", "pixels", r"has shape \(3, 3, 1, 1\); the model reads a set of named regions per item"),
        ("vectr", "vectors", r"form of input 'vectr' is unknown; did you mean 'vector'"),
    ],
)
def test_an_array_of_another_shape_or_an_unknown_form(tiny, name, array, words):
    with pytest.raises(UserError, match=words):
        load(tiny, "full", {"image": name}, {"image": array})


def test_a_misspelt_keyword(tiny):
    with pytest.raises(TypeError, match="'min_cuont' is neither a field of Options nor an option of a form"):
        load(tiny, "full", {"image": "vector"}, {"image": "vectors"}, min_cuont=1)
