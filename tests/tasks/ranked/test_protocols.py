"""The numbers of one ranking under every protocol, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossmodal.tasks.ranked.encodings import Pair
from crossmodal.tasks.ranked.protocols import Items, scored

# Scores of four images (rows) with their texts: own ones are on the diagonal, and ties count against it.
SCORES = torch.tensor([[3.0, 2, 1, 0], [3, 1, 2, 0], [0, 1, 2, 3], [0, 1, 2, 4]])


def numbers_of(by_class: bool, subsets=None):
    codes = {m: np.array([0, 1, 2, 3]) for m in ("image", "text")}
    ids = {m: np.array([f"{m}{i}" for i in range(4)], dtype=object) for m in codes}
    pair = Pair({"image": torch.eye(4), "text": SCORES.T.contiguous()}, codes)
    frame, numbers = scored([pair], Items(ids, codes, codes, subsets or {}, by_class), [1, 2])
    return frame, {(n["aspect"], n["metric"], n["protocol"]): (n["value"], n["n_queries"]) for n in numbers}


def test_ranks_and_their_sums_on_the_whole_and_in_folds() -> None:
    frame, numbers = numbers_of(by_class=False)
    ranks = frame.groupby(["protocol", "aspect"])["rank"].agg(list).to_dict()
    assert ranks == {
        ("all", "image-to-text"): [1, 3, 2, 1],
        ("all", "text-to-image"): [2, 4, 3, 1],
        ("fold2", "image-to-text"): [1, 2, 2, 1],
        ("fold2", "text-to-image"): [2, 2, 2, 1],
    }
    assert frame[frame.protocol == "fold2"].fold.tolist() == [0, 0, 1, 1] * 2
    assert numbers["image-to-text", "recall@1", "all"] == (50.0, 4)
    assert numbers["text-to-image", "recall@1", "all"] == (25.0, 4)
    assert numbers["both", "recall_sum", "all"] == (50 + 25 + 4 * 100, 8)
    assert numbers["text-to-image", "recall@1", "fold2"] == (25.0, 2)  # of 0 and 50
    assert numbers["both", "recall_sum", "fold2"] == (50 + 25 + 4 * 100, 4)
    assert numbers["text-to-image", "median_rank", "all"] == (2.5, 4)
    assert numbers["text-to-image", "median_rank", "fold2"] == (1.75, 2)  # of 2 and 1.5
    assert frame.top[0][:2].tolist() == ["text0", "text1"]


def test_precisions_are_averaged_over_directions_and_beside_chance() -> None:
    """One relevant item each: precision is 1 / rank, and by chance the mean of 1, 1/2, 1/3 and 1/4."""
    _, numbers = numbers_of(by_class=True, subsets={"seen": [0, 1], "first": [3]})
    one, other = (1 + 1 / 3 + 1 / 2 + 1) / 4, (1 / 2 + 1 / 4 + 1 / 3 + 1) / 4
    for metric in ("map", "map@50"):
        assert numbers["image-to-text", metric, "all"][0] == pytest.approx(100 * one)
        assert numbers["average", metric, "all"][0] == pytest.approx(50 * (one + other))
        assert numbers["average", f"{metric}_chance", "all"][0] == pytest.approx(100 * (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert numbers["average", "map@R", "all"][0] == pytest.approx(50 * (1 / 2 + 1 / 4))  # the first place alone
    assert numbers["average", "map@R_chance", "all"][0] == pytest.approx(25)
    assert numbers["average", "map", "all"][1] == 8
    assert numbers["text-to-image", "map", "seen"] == (pytest.approx(50), 2)
    assert numbers["average", "map", "first"] == (100.0, 2)
    assert not [key for key in numbers if key[1] == "recall_sum"]


def test_precision_at_50_is_divided_by_what_was_retrieved() -> None:
    """CVS thesis, eq. 4.2.1: 60 texts are relevant to the first image, of which its first 50 answers hold 30."""
    labels = {"image": np.array([0, 1]), "text": np.array([0] * 30 + [1] * 40 + [0] * 30)}
    first = torch.arange(100, 0, -1.0)  # 30 relevant ones, 40 that are not, and 30 relevant ones
    second = torch.empty(100)
    order = [*range(20), *range(30, 70), *range(20, 30), *range(70, 100)]  # 20 that are not, then all 40 relevant ones
    second[order] = first
    ids = {m: np.array([f"{m}{i}" for i in range(len(codes))], dtype=object) for m, codes in labels.items()}
    pair = Pair({"image": torch.eye(2), "text": torch.stack([first, second], 1)}, labels)
    _, numbers = scored([pair], Items(ids, labels, labels, {}, True), [1])
    value = {n["metric"]: n["value"] for n in numbers if n["aspect"] == "image-to-text"}
    other = [j / (j + 20) for j in range(1, 41)]
    assert value["map@50"] == pytest.approx(100 * (1 + sum(other[:30]) / 30) / 2)
    whole = (30 + sum(j / (j + 40) for j in range(31, 61))) / 60
    assert value["map"] == pytest.approx(100 * (whole + sum(other) / 40) / 2)
    at_r = ((30 + 0) / 60 + sum(other[:20]) / 40) / 2  # among the first 60 answers, and among the first 40
    assert value["map@R"] == pytest.approx(100 * at_r)
