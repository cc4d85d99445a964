"""Strips of queries gathered: the bits of one process, whatever answers a query and however many items do."""

import numpy as np
import pytest

from crossmodal.evaluation import NoRelevantItemError, rank_both_ways, source
from crossmodal.evaluation.ranking import strips
from crossmodal.evaluation.ranking.several_labels import rank_several
from tests.evaluation.literal import near_ties


def gathered(queries, gallery, query_labels, gallery_labels, count, tmp_path, k=9):
    """Of files that are written and read, in the wrong order."""
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    found = []
    for number in reversed(range(count)):
        strip = strips.rank_strip(queries, mapped, query_labels, gallery_labels, number, count, k, budget=20000)
        np.savez(tmp_path / f"{number}.npz", **strip.arrays())
        with np.load(tmp_path / f"{number}.npz") as file:
            found.append(strips.Strip.of_arrays(dict(file)))
    return strips.gather(found, len(queries))


def assert_same(one, whole):
    for name in ("ranks", "top", "top_scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(whole, name))
        assert getattr(one, name).dtype == getattr(whole, name).dtype
    assert one.precision.keys() == whole.precision.keys()
    for name, values in whole.precision.items():
        np.testing.assert_array_equal(one.precision[name], values)


@pytest.mark.parametrize("count", [1, 3, 70])
def test_several_labels(count, tmp_path):
    queries, gallery = near_ties(0, 60, 300, 24)
    rng = np.random.default_rng(0)
    labels = [rng.random((n, 7)) < 0.2 for n in (60, 300)]
    labels[0][:, 0] = True
    assert strips.are_needed(*labels)
    assert_same(
        gathered(queries, gallery, *labels, count, tmp_path), rank_several(source(queries, gallery), *labels, 9)
    )


@pytest.mark.parametrize("classes", [3, 20, 40])
def test_classes(classes, tmp_path):
    """The classes have 100, 15 or 7 of 300 items: sorted whole, or counted one by one, as if ranked at once."""
    queries, gallery = near_ties(1, 60, 300, 24)
    labels = np.arange(60) % classes, np.random.default_rng(0).permutation(300) % classes
    there, back = rank_both_ways(source(queries, gallery), *labels, 9)
    assert_same(gathered(queries, gallery, *labels, 4, tmp_path), there)
    assert_same(gathered(gallery, queries, *labels[::-1], 4, tmp_path), back)
    assert strips.are_needed(*labels) == (classes == 3)


def test_what_is_missing_is_named(tmp_path):
    queries, gallery = near_ties(0, 10, 20, 4)
    labels = np.zeros(10, int), np.zeros(20, int)
    parts = [strips.rank_strip(queries, gallery, *labels, number, 5) for number in range(5)]
    with pytest.raises(ValueError, match="queries 2 to 3 are missing"):
        strips.gather([parts[0], *parts[2:]], 10)
    with pytest.raises(ValueError, match="queries 0 to 1 are repeated"):
        strips.gather([parts[0], *parts], 10)
    with pytest.raises(ValueError, match="8 of 10 queries are ranked"):
        strips.gather(parts[:4], 10)
    labels[0][7] = 1
    with pytest.raises(NoRelevantItemError, match="queries from 6 on: "):
        strips.rank_strip(queries, gallery, *labels, 3, 5)
