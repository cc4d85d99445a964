"""The items nearest to one vector, against the whole order in exact arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest

from crossmodal.evaluation.ranking import nearest as module
from crossmodal.evaluation.ranking.nearest import nearest
from crossmodal.evaluation.ranking.ranks import top_k


def whole_order(vector, gallery):
    """All items by the sums of their products without any rounding but that to float64, ties by index."""
    scores = [float(sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(vector, row, strict=True)))
              for row in gallery]  # fmt: skip
    return sorted(range(len(gallery)), key=lambda n: (-scores[n], n)), scores


@pytest.mark.parametrize("block", [8, 64, 2**18])
def test_items_closer_than_single_precision_tells_apart_are_in_their_order(monkeypatch, block):
    """Products whose sums cancel: the order in float32 is another one."""
    monkeypatch.setattr(module, "BLOCK", block)
    random = np.random.default_rng(0)
    half = random.standard_normal((200, 8)).astype(np.float32)
    last = np.linspace(0, 1e-6, 200, dtype=np.float32)[random.permutation(200), None]
    columns = random.permutation(17)  # so that no two values cancel before they are rounded
    gallery, vector = np.hstack([1e3 * half, -1e3 * half, last])[:, columns], np.ones(17, np.float32)
    order, scores = whole_order(vector, gallery)
    items, values = nearest(vector, gallery, 20)
    assert items.tolist() == order[:20]
    np.testing.assert_allclose(values, [scores[n] for n in order[:20]], atol=1e-12)
    assert np.argsort(-(gallery @ vector), kind="stable")[:20].tolist() != order[:20]


@pytest.mark.parametrize("block", [1, 40, 2**18])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_equal_vectors_come_in_the_gallerys_order(monkeypatch, kind, block):
    """Whatever the blocks, also where all items tie or more items tie than are wanted."""
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "PAIRS", block)
    rows = np.random.default_rng(1).standard_normal((6, 10)).astype(kind)
    gallery = rows[np.arange(60) % 6]
    for k in (1, 9, 10, 11, 25, 60, 99):
        items, scores = nearest(rows[0], gallery, k)
        order, exact = whole_order(rows[0], gallery)
        assert items.tolist() == order[:k]
        np.testing.assert_allclose(scores, [exact[n] for n in order[:k]], rtol=1e-13)
    assert nearest(rows[0], np.repeat(rows[:1], 50, 0), 3)[0].tolist() == [0, 1, 2]


def test_threads_change_nothing_and_the_evaluation_ranks_alike():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    random = np.random.default_rng(2)
    gallery, vector = random.standard_normal((3000, 96), np.float32), random.standard_normal(96, np.float32)
    gallery[1500:] = gallery[:1500] * np.float32(1 + 2**-23)
    results = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            results.append(nearest(vector, gallery, 50))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(results[0][0], top_k(vector[None], gallery, 50)[0][0])


def test_values_of_any_size():
    """Beyond the range of float32, or below it, the float64 scores decide; values that are not finite are refused."""
    gallery = np.random.default_rng(3).standard_normal((50, 4))
    order = whole_order(np.ones(4), gallery)[0]
    for scale in (2.0**-400, 2.0**-140, 2.0**120, 2.0**400):
        assert nearest(np.ones(4), gallery * scale, 7)[0].tolist() == order[:7]
    gallery[20, 1] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        nearest(np.ones(4), gallery, 7)


def test_one_large_item_leaves_few_others_open():
    """The bound is that of each item's block: a long vector far away costs no exact scores elsewhere."""
    random = np.random.default_rng(4)
    gallery, vector = random.standard_normal((20_000, 32), np.float32), random.standard_normal(32, np.float32)
    gallery[3] *= 1e6
    assert len(module._candidates(vector, gallery, 10)) < 9000  # 8,192 items are in its block


def test_a_gallery_smaller_than_the_wish_and_an_empty_one():
    assert nearest(np.ones(2), np.array([[0.0, 1], [2, 3]]), 5)[0].tolist() == [1, 0]
    assert nearest(np.ones(2), np.empty((0, 2)), 5)[0].tolist() == []
