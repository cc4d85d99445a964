"""Sentences as ids of words, of captions and of any other modality whose items are texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.corpus.batches import batches
from crossmodal.corpus.forms import base, form
from crossmodal.corpus.opening import load
from crossmodal.language.tokens import SPECIAL, Vocabulary

BOTH = {"image": "vector", "text": "tokens"}


def test_captions_of_items(tiny):
    corpus = load(tiny, "full", BOTH, {"image": "vectors"}, min_count=1)
    assert corpus.vocabulary.words == (*SPECIAL, "a", "car", "red", "kite")  # by frequency, then by the alphabet
    ids, lengths = corpus.inputs["text"].gather(torch.tensor([0, 3]))
    assert ids.tolist() == [[2, 6, 7, 3], [2, 1, 7, 3]]  # `crate` is of a test caption alone
    assert lengths.tolist() == [4, 4]
    assert {m: index.tolist() for m, index in corpus.pairs.items()} == {"image": [0, 0, 1], "text": [0, 1, 2]}
    assert corpus.context.shapes == {"image": (2,)}
    assert corpus.context.vocabulary_size == 8


def test_what_settings_say_of_words(tiny):
    corpus = load(tiny, "full", BOTH, {"image": "vectors"}, min_count=2, max_words=2, rare_words="drop")
    assert corpus.vocabulary.words == (*SPECIAL, "a", "car", "red")
    ids, lengths = corpus.inputs["text"].gather(torch.tensor([0, 2]))
    assert ids.tolist() == [[2, 6, 3, 0], [2, 4, 6, 3]]
    assert lengths.tolist() == [3, 4]


def test_a_caption_is_cut_after_82_words_where_the_model_has_no_setting_for_it(tiny):
    table = pd.read_parquet(tiny / "tokens.parquet")
    table.loc[table.item_id == "b#0", "tokens"] = pd.Series([["car"] * 90], index=table.index[table.item_id == "b#0"])
    table.to_parquet(tiny / "tokens.parquet")
    corpus = load(tiny, "full", BOTH, {"image": "vectors"}, min_count=1)
    assert corpus.inputs["text"].gather(torch.tensor([2])).lengths.tolist() == [82 + 2]  # with both marks


def test_a_split_without_most_captions_knows_their_words_not(tiny):
    corpus = load(tiny, "sparse", BOTH, {"image": "vectors"}, min_count=1)
    assert corpus.vocabulary.words == (*SPECIAL, "a", "car", "red")
    assert corpus.unannotated.tolist() == [0]


def test_a_modality_that_no_split_names(tiny):
    """Questions: each that is trained on is joined with the image of its group, and its words are known."""
    corpus = load(tiny, "full", {"image": "vector", "question": "tokens"}, {"image": "vectors"}, min_count=1)
    assert corpus.vocabulary.words == (*SPECIAL, "is", "it", "what", "a", "car", "red")
    assert {m: index.tolist() for m, index in corpus.pairs.items()} == {"image": [0, 1, 1], "question": [0, 1, 2]}
    (batch,) = batches(corpus, 8, 0, 0)
    assert sorted(batch.groups.tolist()) == [0, 1, 1]
    order = {0: [1, 2], 1: [3, 6]}
    assert batch.inputs["image"].tolist() == [order[group] for group in batch.groups.tolist()]
    of_group = {0: {(2, 6, 4, 9, 3, 0)}, 1: {(2, 6, 4, 5, 3, 0), (2, 4, 5, 7, 8, 3)}}
    for group, row in zip(batch.groups.tolist(), batch.inputs["question"].ids.tolist(), strict=True):
        assert tuple(row) in of_group[group]


def test_three_modalities_are_joined_by_group(tiny):
    reads = {"question": "tokens", "image": "vector", "text": "tokens"}
    corpus = load(tiny, "full", reads, {"image": "vectors"}, min_count=1)
    rows = list(zip(*(corpus.pairs[m].tolist() for m in reads), strict=True))
    assert sorted(rows) == [(0, 0, 0), (0, 0, 1), (1, 1, 2), (2, 1, 2)]
    assert {"kite", "what"} <= set(corpus.vocabulary.words)  # one vocabulary, of captions and questions
    alone = load(tiny, "full", {"question": "tokens"}, {}, min_count=1)
    assert alone.pairs["question"].tolist() == [0, 1, 2]


def test_a_sentence_from_outside():
    vocabulary = Vocabulary((*SPECIAL, "a", "kite"))
    source = base.Source(form=form("tokens"), folder=None, modality="text", settings={}, vocabulary=vocabulary)
    ids, lengths = source.form.of_sentences(source, ["A kite", "kite?"])
    assert ids.tolist() == [[2, 4, 5, 3], [2, 5, 1, 3]]
    assert lengths.tolist() == [4, 4]
    with pytest.raises(UserError, match="'zebra': has none of the 6 words"):
        source.form.of_sentences(source, ["zebra"])
    with pytest.raises(UserError, match="mesh is read in the form 'vector', which cannot be made of a sentence"):
        form("vector").of_sentences(base.Source(form=form("vector"), folder=None, modality="mesh", settings={}), ["a"])


def test_a_table_that_lacks_captions(tiny):
    table = pd.read_parquet(tiny / "tokens.parquet")
    table[table.item_id != "c#0"].to_parquet(tiny / "tokens.parquet")
    with pytest.raises(UserError, match=r"tokens\.parquet: lacks captions of items\.parquet"):
        load(tiny, "full", BOTH, {"image": "vectors"})
    with pytest.raises(UserError, match=r"items\.parquet: holds no audio items"):
        load(tiny, "full", {"audio": "tokens"}, {})
    np.testing.assert_equal(load(tiny, "full", {"image": "vector"}, {"image": "vectors"}).n_pairs, 3)
