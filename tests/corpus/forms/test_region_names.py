"""What is named in images, as words beside captions."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.opening import load
from crossmodal.language.tokens import SPECIAL

READS = {"image": "regions", "text": "tokens"}
FURTHER = {"names": ("image", "region_names")}


def said(corpus, name="names"):
    """The words of each image."""
    ids, lengths = corpus.inputs[name].gather(torch.arange(3))
    return [[corpus.vocabulary.words[i] for i in row[1 : n - 1]] for row, n in zip(ids.tolist(), lengths, strict=True)]


def opened(tiny, **options):
    return load(tiny, "sparse", READS, {"image": "regions"}, further=FURTHER, min_count=1, **options)


def test_names_of_regions_the_most_confident_first(tiny):
    corpus = opened(tiny)
    assert said(corpus) == [["box", "red", "kite"], ["red", "car"], ["box", "red", "box"]]
    # Of the caption "a red car" and of both training images, un-annotated or not; `box` of c does not count.
    assert corpus.vocabulary.words == (*SPECIAL, "red", "car", "a", "box", "kite")
    caption = corpus.inputs["text"].gather(torch.tensor([2])).ids[0].tolist()
    assert [corpus.vocabulary.words[i] for i in caption[1:-1]] == ["a", "red", "car"]
    assert corpus.modalities == ("image", "text")
    assert "names" not in corpus.context.shapes


def test_names_of_the_whole_image(tiny):
    """Concepts with a score above .3, the highest first."""
    assert said(opened(tiny, semantics="global")) == [["box"], ["car", "red"], ["box"]]


def test_a_caption_of_people_in_the_place_of_names(tiny):
    """The first of each image's captions; its words are known, as those of names are."""
    corpus = opened(tiny, semantics="caption")
    assert said(corpus) == [["red", "kite"], ["a", "red", "car"], ["<unk>", "kite"]]
    items = pd.read_parquet(tiny / "items.parquet")
    items[items.item_id != "b#0"].to_parquet(tiny / "items.parquet")
    with pytest.raises(UserError, match=r"items\.parquet: gb has no caption, which `semantics: caption` needs"):
        opened(tiny, semantics="caption")


def test_none_where_the_settings_ask_for_none(tiny):
    corpus = opened(tiny, semantics="none")
    assert set(corpus.inputs) == {"image", "text"}
    assert corpus.vocabulary.words == (*SPECIAL, "a", "car", "red")


def test_features_without_names(tiny):
    with pytest.raises(UserError, match="its index has no column 'class'"):
        load(tiny, "full", {"image": "vector", "text": "tokens"}, {"image": "vectors"}, further=FURTHER)
    with pytest.raises(UserError, match="tiny: names of regions need a model that reads features of them"):
        load(tiny, "full", {"text": "tokens"}, {}, further=FURTHER)
