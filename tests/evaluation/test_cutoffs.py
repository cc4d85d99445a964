"""Cut-offs of any size: against values worked out by hand and scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from crossmodal.evaluation import NoRelevantItemError, Scores, ndcg
from crossmodal.evaluation.cutoff_names import parse
from crossmodal.evaluation.cutoffs import chance_ndcg, pair_recall


def test_names():
    assert parse("recall@50") == ("recall", 50)
    assert parse("map@5000") == ("map", 5000)
    assert parse("ndcg@1") == ("ndcg", 1)
    assert parse("pair_recall@5") == ("pair_recall", 5)
    for other in ("map@R", "map", "recall@0", "recall_sum", "recal@10", "recall@10 ", "recall@-1", "map@50_chance"):
        assert parse(other) is None


def test_by_hand():
    """Items in the order 0 to 3; items 1 and 3 are relevant: (1 / log2 3 + 1 / log2 5) over (1 + 1 / log2 3)."""
    scores = Scores.of(np.array([[4.0, 3.0, 2.0, 1.0]]))
    labels = np.array([0, 1, 0, 1])
    expected = (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    assert ndcg(scores, None, [1], labels, 4)[0] == pytest.approx(expected, abs=1e-12)
    assert ndcg(scores, None, [1], labels, 4)[0] == pytest.approx(0.65092, abs=1e-5)
    assert ndcg(scores, None, [1], labels, 1)[0] == 0
    # Graded: the first shares one of the query's labels, the second two, the third none.
    table = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    gains = 1 / 1 + 3 / np.log2(3) + 1 / np.log2(5)
    best = 3 / 1 + 1 / np.log2(3) + 1 / 2
    assert ndcg(scores, None, [[1, 1]], table, 4)[0] == pytest.approx(gains / best, abs=1e-12)
    assert ndcg(scores, None, [[1, 1]], table, 1)[0] == pytest.approx(1 / 3, abs=1e-12)


@pytest.mark.parametrize("at", [1, 3, 10, 40, 99])
def test_scikit_learn_s_numbers(at):
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(7, 6)), rng.normal(size=(40, 6))
    tables = rng.integers(0, 2, (7, 5)), rng.integers(0, 2, (40, 5))
    tables[0][:, 0] = tables[1][::3, 0] = 1
    expected = [
        ndcg_score([2.0**gain - 1], [score], k=at)
        for gain, score in zip(tables[0] @ tables[1].T, queries @ gallery.T, strict=True)
    ]
    np.testing.assert_allclose(ndcg(queries, gallery, *tables, at), expected, atol=1e-12)
    single = rng.integers(0, 3, 7), np.arange(40) % 3
    expected = [
        ndcg_score([np.equal(label, single[1])], [score], k=at)
        for label, score in zip(single[0], queries @ gallery.T, strict=True)
    ]
    np.testing.assert_allclose(ndcg(queries, gallery, *single, at), expected, atol=1e-12)


def test_tables_of_one_label_are_labels():
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(9, 4)), rng.normal(size=(30, 4))
    labels = np.arange(9) % 3, np.arange(30) % 3
    tables = [np.eye(3)[of] for of in labels]
    np.testing.assert_allclose(ndcg(queries, gallery, *tables, 8), ndcg(queries, gallery, *labels, 8), atol=1e-12)
    np.testing.assert_allclose(chance_ndcg(*tables, 8), chance_ndcg(*labels, 8), atol=1e-12)


def test_ties_count_against_the_model():
    """Of equal vectors those that are relevant least come first, however the gallery is ordered."""
    queries, table = np.ones((1, 3)), np.array([[1, 1], [0, 0], [1, 0]])
    expected = (0 / 1 + 1 / np.log2(3) + 3 / 2) / (3 + 1 / np.log2(3))
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        found = ndcg(queries, np.ones((3, 3)), [[1, 1]], table[order], 3)
        assert found[0] == pytest.approx(expected, abs=1e-12)


def test_no_block_size_changes_anything():
    rng = np.random.default_rng(2)
    queries, gallery = rng.integers(-2, 3, (20, 3)) / 3, rng.integers(-2, 3, (50, 3)) / 3  # many ties
    tables = rng.integers(0, 2, (20, 4)), rng.integers(0, 2, (50, 4))
    tables[0][:, 0] = tables[1][0] = 1
    whole = ndcg(queries, gallery, *tables, 5)
    np.testing.assert_array_equal(ndcg(queries, gallery, *tables, 5, budget=2000), whole)
    order = rng.permutation(50)
    np.testing.assert_allclose(ndcg(queries, gallery[order], tables[0], tables[1][order], 5), whole, atol=1e-12)


def test_what_chance_gives():
    """The mean over all orders of a small gallery, one after another."""
    from itertools import permutations

    table, query = np.array([[1, 1], [1, 0], [0, 0], [0, 1]]), np.array([[1, 1]])
    every = [ndcg(Scores.of(-np.array([order], float)), None, query, table, 2)[0] for order in permutations(range(4))]
    assert chance_ndcg(query, table, 2)[0] == pytest.approx(np.mean(every), abs=1e-12)


def test_a_query_without_a_relevant_item():
    x = np.eye(2)
    with pytest.raises(NoRelevantItemError):
        ndcg(x, x, [0, 1], [0, 0], 1)
    assert np.isnan(ndcg(x, x, [[1, 0], [0, 1]], [[1, 0], [1, 0]], 1, missing="nan")).tolist() == [False, True]
    with pytest.raises(ValueError, match="at least 1"):
        ndcg(x, x, [0, 1], [0, 1], 0)


def test_recall_of_pairs_counts_them_as_clip_benchmark_does():
    """A transcription of `recall_at_k` of LAION-AI/CLIP_benchmark, whose averages count queries with any pair."""
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(20, 4)), rng.normal(size=(60, 4))
    of = np.arange(60) // 3
    positive = of[None] == np.arange(20)[:, None]
    for k in (1, 5, 10):
        first = np.argsort(-(images @ texts.T), axis=1)[:, :k]
        expected = np.take_along_axis(positive, first, 1).sum(1) / 3
        found = pair_recall(images, texts, np.arange(20), of, k)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    by_hand = Scores.of(np.array([[3.0, 2.0, 2.0, 1.0]]))
    assert pair_recall(by_hand, None, [1], [1, 0, 1, 1], 2) == pytest.approx(1 / 3)  # the tie counts against it
    with pytest.raises(NoRelevantItemError):
        pair_recall(by_hand, None, [1], [0, 0, 0, 0], 2)
    assert np.isnan(pair_recall(by_hand, None, [1], [0, 0, 0, 0], 2, missing="nan"))
    with pytest.raises(ValueError, match="at: expected at least 1, found 0"):
        pair_recall(by_hand, None, [1], [1, 0, 1, 1], 0)
