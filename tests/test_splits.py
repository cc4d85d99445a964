import itertools

import pandas as pd
import pytest

from crossmodal import splits
from crossmodal.errors import UserError


@pytest.fixture
def items():
    rows = []
    for i in range(60):
        part = "train" if i < 40 else "val" if i < 50 else "test"
        rows.append((f"i{i}", "image", f"i{i}", part))
        rows += [(f"i{i}#{k}", "text", f"i{i}", part) for k in range(5)]
    return pd.DataFrame(rows, columns=["item_id", "modality", "group_id", "partition"])


def pairs(frame):
    return set(frame.dropna().itertuples(index=False, name=None))


def test_counts_follow_the_percentages(items):
    assert splits.summary(splits.make(items, "full", 0)) == {
        "pairs": 200,
        "annotated_images": 40,
        "unannotated_images": 0,
    }
    assert splits.summary(splits.make(items, "10pct-2cap", 0)) == {
        "pairs": 8,
        "annotated_images": 4,
        "unannotated_images": 36,
    }


def test_without_captions(items):
    frame = splits.make(items, "none", 0)
    assert splits.summary(frame) == {"pairs": 0, "annotated_images": 0, "unannotated_images": 40}


def test_smaller_inside_larger(items):
    chain = ["none", "10pct-1cap", "10pct-2cap", "20pct-2cap", "50pct-2cap", "50pct-5cap", "full"]
    sets = [pairs(splits.make(items, name, 3)) for name in chain]
    for small, large in itertools.pairwise(sets):
        assert small < large


def test_pairs_belong_together_and_are_of_training(items):
    frame = splits.make(items, "50pct-5cap", 1).dropna()
    assert (frame.caption_id.str.split("#").str[0] == frame.image_id).all()
    assert frame.image_id.str[1:].astype(int).max() < 40


def test_seeds_differ_and_repeat(items):
    one, again, other = (splits.make(items, "10pct-5cap", seed) for seed in (0, 0, 1))
    assert one.equals(again)
    assert pairs(one) != pairs(other)


@pytest.mark.parametrize("name", ["10pct", "0pct-1cap", "100pct-5cap", "10pct-6cap", "all"])
def test_unknown_names(items, name):
    with pytest.raises(UserError, match="NNpct-Mcap"):
        splits.make(items, name, 0)
