"""Where settings make something stand in for what a paper has, a model says so, and says nothing otherwise."""

from __future__ import annotations

import pytest

from crossmodal.core import registry

SAID = [
    ("a3vse", {}, ["word vectors: seeded, not GloVe"]),
    ("a3vse", {"word_embedding": "glove.txt"}, []),
    ("vsepp", {}, []),
    ("vsepp", {"image_network": "mobilenet_v2", "image_weights": "seeded"}, ["mobilenet_v2: seeded random weights"]),
    ("vsepp", {"image_network": "mobilenet_v2", "image_weights": "imagenet"}, []),
    ("dpc", {"word_embedding": "seeded"}, ["word vectors: seeded, not word2vec"]),
    ("dpc", {"word_embedding": "words.txt"}, []),
    ("mfsr", {"word_embedding": "seeded"}, ["word vectors: seeded, not word2vec"]),
    ("mfsr", {"word_embedding": "words.txt"}, []),
    ("sg", {"expansion": "own"}, ["concepts of words: the data set's own synonyms, not WordNet"]),
    ("sg", {"expansion": "wordnet"}, []),
    ("dsve", {"word_embedding": "words.txt"}, []),
    ("dsve", {"word_embedding": "seeded"}, ["word vectors: seeded, not those of the paper"]),
    ("gsmn", {"propagation": "own"}, []),
    ("gsmn", {"propagation": "neighbours", "text_graph": "dense", "ensemble": False}, []),
    *(
        ("gsmn", {"propagation": "neighbours", **chosen}, ["dependencies of words: neighbouring words, not CoreNLP's"])
        for chosen in ({"text_graph": "sparse", "ensemble": False}, {"text_graph": "dense", "ensemble": True})
    ),
    ("sgm", {"relations": 0.0, "word_embedding": "words.txt"}, []),
    (
        "sgm",
        {"relations": 1.0, "word_embedding": "words.txt"},
        [
            "relations of regions: each with its nearest, by their boxes, not detected ones",
            "relations of words: windows of words, not parsed ones",
        ],
    ),
    ("devise", {"class_vectors": "words", "word_vectors": "words.txt"}, []),
    (
        "devise",
        {"class_vectors": "words", "word_vectors": "seeded"},
        ["class vectors: seeded random vectors of the words of each class's text"],
    ),
]


@pytest.mark.parametrize(("model", "settings", "said"), SAID)
def test_what_stands_in_is_said(model, settings, said):
    assert registry.module("models", model).Settings(**settings).fallbacks == said
