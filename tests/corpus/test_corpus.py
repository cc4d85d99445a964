"""A corpus of a few items made by hand: what is gathered, joined, kept for a trial, and drawn beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.core.registry import module
from crossmodal.corpus import by_class, opening
from crossmodal.corpus.batches import batches
from crossmodal.corpus.by_class import Classes, FeatureStatistics
from crossmodal.corpus.corpus import Corpus
from crossmodal.corpus.inputs import Inputs
from crossmodal.language.tokens import Vocabulary

VECTOR = module("forms", "vector").Form("vector")


def inputs(name, groups, partitions, labels=None, dim=2, first=0, form=VECTOR):
    """Items `name0`, ... whose vectors are (first + place, ...)."""
    n = len(groups)
    return Inputs(
        form=form,
        ids=np.array([f"{name}{i}" for i in range(n)], dtype=object),
        groups=np.array(groups),
        partition=np.array(partitions, dtype=object),
        tensor=(first + torch.arange(n, dtype=torch.float32))[:, None].expand(n, dim),
        rows=torch.arange(n),
        labels=None if labels is None else np.array(labels),
    )


def corpus_of(images, texts, pairs, **more):
    return Corpus({"image": images, "text": texts}, pairs, np.array([], int), Vocabulary.build([]), {}, **more)


@pytest.fixture
def grouped():
    """Five images, of which three are tested, with two captions each and one caption of the last."""
    parts = ["train", "val", "test", "test", "test"]
    images = inputs("i", range(5), parts)
    groups = [0, 0, 1, 1, 2, 2, 3, 3, 4]
    texts = inputs("t", groups, [parts[g] for g in groups], first=100, dim=3)
    return corpus_of(images, texts, {"image": np.array([0, 0]), "text": np.array([0, 1])})


def test_the_first_groups_of_a_trial_are_kept_whole(grouped):
    for count, images, texts in ((2, [2, 3], [4, 5, 6, 7]), (1, [2], [4, 5]), (3, [2, 3, 4], [4, 5, 6, 7, 8])):
        kept = grouped.sampled(count)
        assert kept.inputs["image"].where("test").tolist() == images
        assert kept.inputs["text"].where("test").tolist() == texts
        assert kept.inputs["image"].where("val").tolist() == [1]
        assert kept.inputs["text"].where("train").tolist() == [0, 1]  # what is trained on is not cut
    assert grouped.inputs["image"].where("test").tolist() == [2, 3, 4]  # nor this one changed


def test_items_of_a_trial_are_spread_over_the_classes():
    labels = [0, 0, 0, 0, 1, 1, 1, 2]
    images = inputs("i", range(8), ["test"] * 8, labels)
    texts = inputs("t", range(8), ["val"] * 8, labels)
    listed = inputs("c", [-1, -2, -3], ["test"] * 3, [0, 1, 2], form=module("forms", "classes").Form("classes"))
    made = Corpus(
        {"image": images, "text": texts, "class": listed}, {"image": np.arange(0)}, np.array([], int),
        Vocabulary.build([]), {}, Classes(3, (0, 1, 2), (), {}, {}, {}),
    )  # fmt: skip
    kept = made.sampled(7)
    assert kept.inputs["image"].where("test").tolist() == [0, 1, 2, 4, 5, 6, 7]  # three, three and the only one
    assert kept.inputs["text"].where("val").tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert made.sampled(1).inputs["image"].where("test").tolist() == [0, 1, 2, 4, 5, 7]  # at least two for each class
    assert made.sampled(1).inputs["class"].where("test").tolist() == [0, 1, 2]  # classes are ranked as a whole


def test_pairs_are_gathered_in_the_order_that_is_asked_for(grouped):
    batch = grouped.batch(torch.tensor([1, 0]))
    assert batch.groups.tolist() == [0, 0]
    assert batch.inputs["text"].tolist() == [[101.0] * 3, [100.0] * 3]
    assert batch.labels is None
    assert batch.unannotated == {}
    with_bare = grouped.batch(torch.tensor([0]), torch.tensor([3, 1]), ("image",))
    assert with_bare.unannotated["image"].tolist() == [[3.0] * 2, [1.0] * 2]
    assert (grouped.n_pairs, grouped.n_rows(), grouped.modalities) == (2, 2, ("image", "text"))
    assert grouped.context.shapes == {"image": (2,), "text": (3,)}
    assert grouped.context.groups.tolist() == [0]
    assert grouped.context.n_concepts == 0
    assert not grouped.waits


def test_items_come_in_batches_of_their_own(grouped):
    found = [batch.inputs["text"][:, 0].tolist() for batch in grouped.items("text", np.array([8, 0, 3, 4, 1]), 2)]
    assert found == [[108, 100], [103, 104], [101]]


def test_joined_are_items_of_the_larger_modality_beside_the_first_of_their_group(grouped):
    (batch,) = grouped.joined("test", 100)
    assert batch.inputs["text"][:, 0].tolist() == [104, 105, 106, 107, 108]
    assert batch.inputs["image"][:, 0].tolist() == [2, 2, 3, 3, 4]
    assert [len(batch.groups) for batch in grouped.joined("test", 2)] == [2, 2, 1]
    (first,) = grouped.joined("train", 100)
    assert first.inputs["image"][:, 0].tolist() == [0, 0]  # the first of all items is one, too
    without = inputs("i", [0, 1, 9, 3, 4], ["train", "val", "test", "test", "test"])
    (batch,) = corpus_of(without, grouped.inputs["text"], grouped.pairs).joined("test", 100)
    assert batch.groups.tolist() == [3, 3, 4]  # no image of group 2


def test_knowledge_is_of_labelled_data_and_its_hashes_are_told(grouped):
    with pytest.raises(UserError, match="needs a data set with `relevance: label`"):
        grouped.transferring_from(grouped)


def test_batches_of_a_source_are_full_and_go_on_from_epoch_to_epoch():
    """Beside 4, 4 and 2 of 10 rows come 4 of the source's 9, then the next 4, and then 4 of another order of all."""

    def labelled(n):
        codes = [0] * n
        both = [inputs(m, range(n), ["train"] * n, codes) for m in "it"]
        rows = {m: np.arange(n) for m in ("image", "text")}
        kinds = {m: np.zeros(n, np.int64) for m in rows}
        same = {pair: np.arange(n) for pair in (("image", "text"), ("text", "image"))}
        return corpus_of(*both, rows, classes=Classes(1, (0,), (), rows, kinds, same))

    made = labelled(10).transferring_from(labelled(9))
    found = list(batches(made, 4, 0, 0))
    assert [len(batch.groups) for batch in found] == [4, 4, 2]
    assert [len(batch.source.groups) for batch in found] == [4, 4, 4]
    first = [set(batch.source.groups.tolist()) for batch in found]
    assert not first[0] & first[1]
    assert first[2] & (first[0] | first[1])  # of another order of all nine
    few = labelled(10).transferring_from(labelled(3))
    assert [len(batch.source.groups) for batch in batches(few, 4, 0, 0)] == [3, 3, 3]  # all that there are


@pytest.mark.parametrize("chunk", [4096, 3])
def test_moments_however_they_are_summed(monkeypatch, chunk):
    monkeypatch.setattr(by_class, "CHUNK", chunk)
    made = FeatureStatistics({"image": inputs("i", range(9), ["train"] * 8 + ["test"], first=1e4)})
    assert (list(made), len(made)) == (["image"], 1)
    mean, deviation = made["image"]
    assert mean.tolist() == [10003.5, 10003.5]
    assert deviation.tolist() == pytest.approx([5.25**0.5] * 2)  # (n² - 1) / 12 of 8 whole numbers in a row
    assert mean.dtype == deviation.dtype == torch.float32


def split_of(*rows):
    return pd.DataFrame(rows, columns=["image_id", "caption_id"])


def test_modalities_that_a_split_does_not_list_are_joined_by_group():
    images = inputs("i", [0, 1, 2], ["train"] * 3)
    texts = inputs("t", [0, 0, 1, 2], ["train"] * 4)
    sounds = inputs("s", [1, 0, 0, 2], ["train", "train", "train", "test"])
    split = split_of(("i1", "t2"), ("i0", "t1"), ("i2", "t3"))
    found = opening._pairs({"image": images, "text": texts}, split)
    assert {m: index.tolist() for m, index in found.items()} == {"image": [1, 0, 2], "text": [2, 1, 3]}
    found = opening._pairs({"image": images, "text": texts, "audio": sounds}, split)
    assert list(found) == ["image", "text", "audio"]
    rows = sorted(zip(*(index.tolist() for index in found.values()), strict=True))
    assert rows == [(0, 1, 1), (0, 1, 2), (1, 2, 0)]  # the sound of group 2 is for the test
    alone = opening._pairs({"image": images, "audio": sounds}, split_of(("i0", "t0"), ("i0", "t1"), ("i1", "t2")))
    assert sorted(zip(*(index.tolist() for index in alone.values()), strict=True)) == [(0, 1), (0, 2), (1, 0)]
    assert opening._pairs({"text": texts, "audio": sounds}, split)["text"].tolist() == [2, 1, 1]


def test_pairs_whose_items_are_gone_are_left_out():
    items = pd.DataFrame({"item_id": ["i0", "t0", "i1"]})
    split = split_of(("i0", "t0"), ("i1", "t1"), ("i1", None), ("i2", None), ("i0", None))
    assert opening._present(split, items).to_dict("list") == {
        "image_id": ["i0", "i1", "i0"],
        "caption_id": ["t0", None, None],
    }


def test_a_tables_hash_is_of_its_content_in_its_order():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    same = pd.DataFrame({"a": ["1", "2"], "b": ["x", None]}, index=[7, 9]).astype("string")
    assert opening._frame_hash(frame) == opening._frame_hash(same)
    others = [frame.iloc[::-1], frame.assign(b=["x", ""]), frame.assign(a=[1, 3]), frame.iloc[:1]]
    assert len({opening._frame_hash(other) for other in [frame, *others]}) == 5
