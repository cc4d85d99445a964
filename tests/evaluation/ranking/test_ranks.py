import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import top_k_accuracy_score

from crossmodal.evaluation import (
    NoRelevantItemError,
    Scores,
    rank_both_ways,
    rank_queries,
    recall_at_k,
    retrieval_ranks,
    retrieval_ranks_both_ways,
    source,
    top_k,
)
from crossmodal.evaluation.ranking import counting, vectors
from crossmodal.evaluation.ranking import scores as blocks
from tests.evaluation.literal import exact_scores, literal_precision, literal_rank, near_ties

SMALL = arrays.arrays(np.float32, (6, 3), elements=st.integers(-3, 3).map(float))
LARGE = arrays.arrays(np.float32, (11, 3), elements=st.integers(-3, 3).map(float))
GROUPS = np.arange(6) % 4, np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 9])


def literal_ranks(queries, gallery, query_groups, gallery_groups):
    scores = exact_scores(queries, gallery)
    return [literal_rank(s, gallery_groups == g) for s, g in zip(scores, query_groups, strict=True)]


@given(SMALL, LARGE, st.sampled_from([1, 40, 2**20]))
@settings(max_examples=60, deadline=None)
def test_ranks_agree_with_counting(queries, gallery, budget):
    expected = literal_ranks(queries, gallery, *GROUPS)
    assert retrieval_ranks(queries, gallery, *GROUPS, budget=budget).tolist() == expected
    scores = Scores.of(queries @ gallery.T)
    assert retrieval_ranks(scores, None, *GROUPS, budget=budget).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_near_ties_are_those_of_rational_numbers(seed):
    queries, gallery = near_ties(seed)
    groups, items = np.arange(12), np.arange(60) % 12
    expected = literal_ranks(queries, gallery, groups, items)
    there, back = retrieval_ranks_both_ways(queries, gallery, groups, items)
    assert there.tolist() == expected
    assert back.tolist() == literal_ranks(gallery, queries, items, groups)
    plain = literal_ranks_of_product(queries, gallery, groups, items)
    assert plain != expected  # the case is hard: float32 alone gets it wrong


def literal_ranks_of_product(queries, gallery, groups, items):
    return [literal_rank(s, items == g) for s, g in zip((queries @ gallery.T).tolist(), groups, strict=True)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("budget", [20000, 2**20])
def test_nothing_depends_on_threads_blocks_or_the_order_of_the_gallery(threads, budget):
    queries, gallery = near_ties(1, 40, 300, 64)
    rng = np.random.default_rng(0)
    queries = np.concatenate([queries, rng.normal(size=(300, 64)).astype(np.float32)])
    groups, items = np.arange(340) % 100, np.arange(300) % 100
    first = rank_both_ways(source(queries, gallery), groups, items, 7)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        order = rng.permutation(300)
        again = rank_both_ways(source(queries, gallery[order]), groups, items[order], 7, budget=budget)
    finally:
        torch.set_num_threads(before)
    assert (first[0].ranks == again[0].ranks).all()
    assert (first[1].ranks[order] == again[1].ranks).all()
    assert (first[0].top_scores == again[0].top_scores).all()
    for name, values in first[0].precision.items():
        assert (values == again[0].precision[name]).all()
        assert (first[1].precision[name][order] == again[1].precision[name]).all()


@given(SMALL, LARGE, st.integers(-30, 30))
@settings(max_examples=30, deadline=None)
def test_scaling_changes_nothing(queries, gallery, power):
    expected = retrieval_ranks(queries, gallery, *GROUPS)
    assert (retrieval_ranks(np.ldexp(queries, power), gallery, *GROUPS) == expected).all()
    assert (retrieval_ranks(queries, 3 * gallery, *GROUPS) == expected).all()
    cosine = retrieval_ranks(queries, gallery, *GROUPS, cosine=True)
    assert (retrieval_ranks(np.ldexp(queries, power), np.ldexp(gallery, 5), *GROUPS, cosine=True) == cosine).all()


@given(SMALL, LARGE)
@settings(max_examples=30, deadline=None)
def test_a_second_copy_of_the_gallery(queries, gallery):
    """A copy of every item doubles what is ranked before: the ranks of others double, the relevant ones' copies tie."""
    ranks = retrieval_ranks(queries, gallery, *GROUPS)
    twice = retrieval_ranks(queries, np.tile(gallery, (2, 1)), GROUPS[0], np.tile(GROUPS[1], 2))
    assert (twice - 1 == 2 * (ranks - 1)).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e-3, 1e30, 1e200])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_types_and_sizes_of_values(kind, scale):
    if (not 1e-40 < scale < 1e40 and kind != np.float64) or kind == np.float16:
        scale = 1e-3
    rng = np.random.default_rng(3)
    queries, gallery = (scale * rng.normal(size=(n, 9)) for n in (10, 30))
    queries, gallery = queries.astype(kind), gallery.astype(kind)
    groups, items = np.arange(10), np.arange(30) // 3
    expected = literal_ranks(queries, gallery, groups, items)
    assert retrieval_ranks(queries, gallery, groups, items).tolist() == expected
    assert retrieval_ranks(torch.from_numpy(queries), torch.from_numpy(gallery), groups, items).tolist() == expected


def test_collapsed_model_gets_the_worst_rank():
    same = np.full((4, 3), 0.1, np.float32)
    ranks = retrieval_ranks(same, np.full((20, 3), 0.1, np.float32), np.arange(4), np.repeat(np.arange(4), 5))
    assert ranks.tolist() == [16] * 4
    assert recall_at_k(ranks) == {1: 0.0, 5: 0.0, 10: 0.0}


def test_many_relevant_items_of_each_query():
    rng = np.random.default_rng(5)
    queries, gallery = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(130, 6)).astype(np.float32)
    groups, items = np.arange(40) % 3, np.arange(130) % 3
    expected = literal_ranks(queries, gallery, groups, items)
    assert retrieval_ranks(queries, gallery, groups, items).tolist() == expected
    there, back = rank_both_ways(source(queries, gallery), groups, items)
    assert there.ranks.tolist() == expected
    assert back.ranks.tolist() == literal_ranks(gallery, queries, items, groups)
    scores = exact_scores(queries, gallery)
    full = [literal_precision(s, items == g) for s, g in zip(scores, groups, strict=True)]
    np.testing.assert_allclose(there.precision["average_precision"], full, rtol=1e-12)


def test_recall_against_scikit_learn():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(90, 5)), rng.normal(size=(20, 5))
    truth = rng.integers(0, 20, 90)
    found = recall_at_k(retrieval_ranks(queries, gallery, truth, np.arange(20)), (1, 3, 10))
    for k, value in found.items():
        expected = 100 * top_k_accuracy_score(truth, queries @ gallery.T, k=k, labels=np.arange(20))
        assert value == pytest.approx(expected)


def test_ties_count_against_the_model():
    scores = Scores.of(np.zeros((1, 6), np.float32))
    found = rank_queries(scores, np.array([0]), np.array([0, 0, 1, 1, 1, 1]))
    assert found.ranks.tolist() == [5]  # behind all four others
    assert found.precision["average_precision"][0] == pytest.approx((1 / 5 + 2 / 6) / 2)


@given(SMALL, LARGE, st.integers(1, 13), st.sampled_from([60, 2**20]))
@settings(max_examples=40, deadline=None)
def test_top_k_is_sorted_and_ties_keep_the_gallery_order(queries, gallery, k, budget):
    indices, values = top_k(queries, gallery, k, budget=budget)
    scores = queries @ gallery.T
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert (indices == expected).all()
    assert (values == np.take_along_axis(scores, expected, 1)).all()
    again = top_k(Scores.of(scores), None, k, budget=budget)
    assert (again[0] == expected).all()


def test_top_k_of_near_ties():
    queries, gallery = near_ties(2)
    indices, _ = top_k(queries, gallery, 5)
    for row, scores in zip(indices, exact_scores(queries, gallery), strict=True):
        assert row.tolist() == sorted(range(60), key=lambda j: (-scores[j], j))[:5]


def test_values_of_top_k_are_in_the_units_of_the_vectors():
    _, values = top_k(np.array([[3e20, 0]], np.float32), np.array([[1e10, 5], [2e10, 7]], np.float32), 2)
    np.testing.assert_allclose(values, [[6e30, 3e30]], rtol=1e-6)


def test_a_single_item():
    assert retrieval_ranks(np.ones((1, 2)), np.ones((1, 2)), np.array([1]), np.array([1])).tolist() == [1]
    assert top_k(np.ones((1, 2)), np.ones((1, 2)), 5)[0].tolist() == [[0]]


def test_a_memory_map_is_read_where_it_lies(tmp_path):
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(20, 8)).astype(np.float32), rng.normal(size=(60, 8)).astype(np.float32)
    np.save(tmp_path / "g.npy", gallery)
    mapped = np.load(tmp_path / "g.npy", mmap_mode="r")
    groups, items = np.arange(20), np.arange(60) // 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it may not be written, and nobody means to
        found = retrieval_ranks(queries, mapped, groups, items)
    assert (found == retrieval_ranks(queries, gallery, groups, items)).all()


def test_errors_name_the_fault():
    one = np.ones((1, 2))
    with pytest.raises(NoRelevantItemError, match="group 7 has no item"):
        retrieval_ranks(one, one, np.array([7]), np.array([1]))
    with pytest.raises(NoRelevantItemError, match="group 8 has no item"):
        retrieval_ranks(np.ones((3, 2)), one, np.array([1, 8, 1]), np.array([1]))
    with pytest.raises(ValueError, match="not finite"):
        retrieval_ranks(np.full((1, 2), np.nan), one, np.array([1]), np.array([1]))
    with pytest.raises(ValueError, match="not finite"):
        rank_queries(Scores.of(np.array([[np.nan, 1.0]])), np.array([0]), np.array([0, 1]))
    with pytest.raises(ValueError, match="2 dimensions, the gallery has 3"):
        retrieval_ranks(one, np.ones((1, 3)), np.array([1]), np.array([1]))
    with pytest.raises(ValueError, match="query_groups: 2 groups for 1 items"):
        retrieval_ranks(one, one, np.array([1, 1]), np.array([1]))
    with pytest.raises(ValueError, match="found None"):
        retrieval_ranks(one, None, np.array([1]), np.array([1]))
    with pytest.raises(ValueError, match="expected a block of shape"):
        retrieval_ranks(Scores(lambda rows: np.ones((1, 3)), (1, 2)), None, np.array([1]), np.array([1, 1]))
    with pytest.raises(ValueError, match="at least 1"):
        top_k(one, one, 0)


@pytest.mark.parametrize("seed", range(2))
def test_the_code_for_other_devices_counts_the_same(seed, monkeypatch):
    """What runs on a GPU, here on CPU tensors: comparisons in torch, pairs scored in torch."""
    queries, gallery = near_ties(seed, 40, 200, 32)
    groups, items = np.arange(40), np.arange(200) % 40
    expected = retrieval_ranks_both_ways(queries, gallery, groups, items)
    monkeypatch.setattr(counting, "_in_numpy", counting._in_torch)
    monkeypatch.setattr(vectors, "near", lambda *pairs: None)
    monkeypatch.setattr(vectors, "_on_cpu", lambda of: False)
    found = retrieval_ranks_both_ways(queries, gallery, groups, items)
    for one, other in zip(found, expected, strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("budget", [300, 2**20])
@pytest.mark.parametrize("kinds", [1, 2])
def test_so_many_relevant_items_that_products_pick_the_best(kinds, budget):
    """More than 16 relevant items for each of the longer side: near ties are not scored pair by pair there."""
    queries, gallery = near_ties(7, 61, 97, 8)
    queries[:5] *= 40  # vectors of other lengths
    gallery[5:9] *= 7
    groups, items = np.arange(61) % kinds, np.arange(97) % kinds
    items[-3:] = [7, 8, 9]  # relevant to none
    there = retrieval_ranks(queries, gallery, groups, items, budget=budget)
    assert there.tolist() == literal_ranks(queries, gallery, groups, items)
    both = retrieval_ranks_both_ways(queries, gallery[:-3], groups, items[:-3], budget=budget)
    assert both[0].tolist() == literal_ranks(queries, gallery[:-3], groups, items[:-3])
    assert both[1].tolist() == literal_ranks(gallery[:-3], queries, items[:-3], groups)


def test_classes_of_very_unequal_sizes():
    """Few relevant items for some queries and many for others."""
    rng = np.random.default_rng(8)
    queries, gallery = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(70, 4)).astype(np.float32)
    groups, items = np.minimum(np.arange(30), 5), np.minimum(np.arange(70), 5)
    scores = exact_scores(queries, gallery)
    there, back = rank_both_ways(source(queries, gallery), groups, items)
    assert there.ranks.tolist() == literal_ranks(queries, gallery, groups, items)
    assert back.ranks.tolist() == literal_ranks(gallery, queries, items, groups)
    full = [literal_precision(s, items == g, 50) for s, g in zip(scores, groups, strict=True)]
    np.testing.assert_allclose(there.precision["average_precision@50"], full, rtol=1e-12)
    by_function = rank_queries(Scores.of(queries @ gallery.T), groups, items)
    np.testing.assert_allclose(by_function.precision["average_precision@50"], full, rtol=1e-12)
    assert rank_queries(source(queries, gallery), groups, items, precision=False).precision == {}


@pytest.mark.parametrize("seed", range(2))
def test_so_many_open_pairs_that_they_are_settled_in_blocks(seed, monkeypatch):
    """As where a million pairs nearly tie: float64 products first, and equal vectors scored once."""
    queries, gallery = near_ties(seed, 40, 90, 12)
    gallery[50:60] = gallery[40:50]
    queries[30:33] = queries[:3]
    groups, items = np.arange(40) % 30, np.arange(90) % 30
    expected = literal_ranks(queries, gallery, groups, items)
    monkeypatch.setattr(vectors, "MANY", 3)
    monkeypatch.setattr(blocks, "DENSE", 10**9)
    assert retrieval_ranks(queries, gallery, groups, items).tolist() == expected
    assert retrieval_ranks(queries, gallery, groups, items, budget=3000).tolist() == expected
    order = [sorted(range(90), key=lambda j: (-s[j], j))[:6] for s in exact_scores(queries, gallery)]
    assert top_k(queries, gallery, 6)[0].tolist() == order


def test_pairs_settled_in_blocks_are_within_their_bound():
    queries, gallery = near_ties(3, 20, 50, 40)
    of = source(queries, gallery)
    i, j = (x.ravel() for x in np.indices((20, 50)))
    exact = np.array(exact_scores(queries, gallery), dtype=float).ravel()
    for budget in (1, 8 * 40 * 7, 2**25):
        found, margin = of._finer(i, j, budget)
        assert (np.abs(found - exact) <= margin).all()
        assert (margin < 1e-12 * np.abs(exact)).all()
    some = np.random.default_rng(0).permutation(1000)[:40]
    found, _ = of._finer(i[some], j[some], 8 * 40 * 7)
    np.testing.assert_allclose(found, exact[some], rtol=1e-12)


@pytest.mark.parametrize("budget", [60, 2**20])
def test_more_ties_than_candidates_are_kept(budget):
    """All items score the same, so that the first of the gallery are the best; a better one at the end comes first."""
    for value in (1.0, 0.1):
        gallery = np.full((80, 3), value, np.float32)
        queries = np.full((2, 3), 0.3, np.float32)
        assert top_k(queries, gallery, 4, budget=budget)[0].tolist() == [[0, 1, 2, 3]] * 2
        gallery[77] = value * 2
        assert top_k(queries, gallery, 4, budget=budget)[0].tolist() == [[77, 0, 1, 2]] * 2
        scores = Scores.of(np.stack([np.zeros(80), np.repeat([0.0, 1.0], 40)]).astype(np.float32))
        items, values = top_k(scores, None, 30, budget=budget)
        assert items.tolist() == [[*range(30)], [*range(40, 70)]]
        assert values[1].tolist() == [1.0] * 30


def test_a_function_is_asked_for_as_many_rows_as_it_wants():
    asked = []

    def function(rows):
        asked.append((rows.start, rows.stop))
        return torch.arange(10.0)[rows, None] * torch.ones(3, requires_grad=True)

    top_k(Scores(function, (10, 3), rows=4), None, 1)
    assert asked == [(0, 4), (4, 8), (8, 10)]
    asked.clear()
    top_k(Scores(function, (10, 3)), None, 1)
    assert asked == [(0, 10)]
    asked.clear()
    top_k(Scores(function, (10, 3)), None, 1, budget=4 * 3 * 5)
    assert asked == [(0, 5), (5, 10)]
    asked.clear()
    top_k(Scores(function, (10, 3)), None, 1, budget=1)  # one row is the least
    assert len(asked) == 10


def test_products_come_in_blocks_within_the_budget():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(23, 5)).astype(np.float32), rng.normal(size=(31, 5)).astype(np.float32)
    of = source(queries, gallery)
    for budget, part in ((1, (None, None)), (4 * 40, (None, None)), (2**20, (slice(3, 9), slice(10, 30)))):
        found, times = np.zeros((23, 31)), np.zeros((23, 31), int)
        for rows, cols, block in of.blocks(budget, *part):
            assert block.numel() * 4 <= max(budget, 4)
            found[rows, cols] = block.numpy()
            times[rows, cols] += 1
        wanted = np.zeros((23, 31), int)
        wanted[part[0] or slice(None), part[1] or slice(None)] = 1
        assert (times == wanted).all()
        np.testing.assert_allclose(found, wanted * (queries @ gallery.T), rtol=1e-4, atol=1e-5)


def test_only_vectors_are_ranked_both_ways():
    with pytest.raises(ValueError, match="one way at a time"):
        rank_both_ways(Scores.of(np.eye(2)), np.arange(2), np.arange(2))
    with pytest.raises(ValueError, match="expected None beside `Scores`"):
        source(Scores.of(np.eye(2)), np.eye(2))
    with pytest.raises(ValueError, match="gallery_groups: 3 groups for 2 items"):
        rank_both_ways(source(np.eye(2), np.eye(2)), np.arange(2), np.arange(3))
    with pytest.raises(ValueError, match="one group per item"):
        retrieval_ranks(np.eye(2), np.eye(2), np.eye(2), np.arange(2))


def test_cosines_of_vectors_of_any_length():
    rng = np.random.default_rng(4)
    queries, gallery = rng.normal(size=(9, 6)), rng.normal(size=(40, 6))
    lengths = 10.0 ** rng.integers(-6, 7, 40)
    items, values = top_k(queries, gallery * lengths[:, None], 40, cosine=True)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery)]
    cosines = unit[0] @ unit[1].T
    assert (items == np.argsort(-cosines, axis=1)).all()
    np.testing.assert_allclose(values, -np.sort(-cosines, axis=1), rtol=1e-6)
    given = vectors.Vectors(queries, cosine=True), vectors.Vectors(1e5 * gallery, cosine=True)
    assert (top_k(*given, 40)[0] == items).all()
