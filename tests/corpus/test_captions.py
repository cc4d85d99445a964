"""The training captions that systems learn from as a whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.corpus.opening import load
from crossmodal.datasets import items


def test_each_caption_of_the_split_with_the_group_of_its_image(prepared):
    corpus = load(prepared / "toy", "50pct-2cap", {"image": "vector", "text": "tokens"}, {"image": "raw"})
    tokens, groups = corpus.context.captions()
    pairs = pd.read_parquet(prepared / "toy" / "splits" / "50pct-2cap.parquet").dropna()
    assert len(tokens.ids) == len(groups) == len(pairs) == 36  # two of each of 18 images
    assert sorted(np.unique(groups, return_counts=True)[1]) == [2] * 18
    images = corpus.inputs["image"]
    sources = items.read(prepared / "toy").set_index("item_id").source
    known = {group: {sources[c] for c in pairs.caption_id[pairs.image_id == images.ids[i]]}
             for i, group in enumerate(images.groups) if images.ids[i] in set(pairs.image_id)}  # fmt: skip
    for row, length, group in zip(tokens.ids, tokens.lengths, groups.tolist(), strict=True):
        said = " ".join(corpus.vocabulary.words[word] for word in row[1 : length - 1])
        assert said in known[group]


def test_a_corpus_without_captions(prepared):
    corpus = load(prepared / "toy", "full", {"image": "vector"}, {"image": "raw"})
    with pytest.raises(UserError, match="toy: has no captions among what the model reads"):
        corpus.context.captions()
