import numpy as np
import pytest

from crossmodal.evaluation import folds, mean_rank, median_rank, recall_at_k, retrieval_ranks, top_k


def literal_rank(scores, relevant):
    """Rank by counting, one query at a time: what the docstring promises, written out."""
    best = max(s for s, r in zip(scores, relevant, strict=True) if r)
    return 1 + sum(1 for s, r in zip(scores, relevant, strict=True) if s >= best and not r)


@pytest.mark.parametrize("budget", [1, 1000, 2**28])
@pytest.mark.parametrize("seed", range(3))
def test_ranks_agree_with_counting(seed, budget):
    rng = np.random.default_rng(seed)
    # Small integers: exact in float32, and full of ties.
    queries, gallery = rng.integers(-2, 3, (20, 4)), rng.integers(-2, 3, (50, 4))
    query_groups, gallery_groups = np.arange(20) % 10, np.arange(50) // 5
    ranks = retrieval_ranks(queries, gallery, query_groups, gallery_groups, budget=budget)
    scores = queries @ gallery.T
    expected = [literal_rank(s, gallery_groups == g) for s, g in zip(scores, query_groups, strict=True)]
    assert ranks.tolist() == expected


def test_collapsed_model_gets_the_worst_rank():
    ranks = retrieval_ranks(np.ones((4, 3)), np.ones((20, 3)), np.arange(4), np.repeat(np.arange(4), 5))
    assert ranks.tolist() == [16] * 4
    assert recall_at_k(ranks) == {1: 0.0, 5: 0.0, 10: 0.0}


def test_order_of_the_gallery_does_not_matter():
    rng = np.random.default_rng(0)
    queries, gallery, groups = rng.normal(size=(30, 8)), rng.normal(size=(30, 8)), np.arange(30)
    perm = rng.permutation(30)
    a = retrieval_ranks(queries, gallery, groups, groups)
    b = retrieval_ranks(queries, gallery[perm], groups, groups[perm])
    assert (a == b).all()


def test_metrics_by_hand():
    ranks = np.array([1, 2, 5, 6, 10, 11])
    assert recall_at_k(ranks) == {1: pytest.approx(100 / 6), 5: 50.0, 10: pytest.approx(500 / 6)}
    assert median_rank(ranks) == 5.5
    assert mean_rank(ranks) == pytest.approx(35 / 6)


def test_top_k_is_sorted_and_ties_keep_the_gallery_order():
    indices, values = top_k(np.array([[1.0]]), np.array([[0.0], [2.0], [1.0], [2.0]]), 3)
    assert indices.tolist() == [[1, 3, 2]]
    assert values.tolist() == [[2.0, 2.0, 1.0]]


def test_errors_name_the_fault():
    with pytest.raises(ValueError, match="group 7 has no item"):
        retrieval_ranks(np.ones((1, 2)), np.ones((1, 2)), np.array([7]), np.array([1]))
    with pytest.raises(ValueError, match="not finite"):
        retrieval_ranks(np.full((1, 2), np.nan), np.ones((1, 2)), np.array([1]), np.array([1]))
    with pytest.raises(ValueError, match="1-based"):
        recall_at_k(np.array([0, 1]))
    with pytest.raises(ValueError, match="equal folds"):
        folds(10, 3)
    assert [f.tolist() for f in folds(4, 2)] == [[0, 1], [2, 3]]
