import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score
from torchmetrics.functional.retrieval import retrieval_average_precision

from crossmodal.evaluation import (
    NoRelevantItemError,
    Scores,
    average_precision,
    precision_recall_curve,
    rank_both_ways,
    rank_queries,
    source,
)
from crossmodal.evaluation.ranking import vectors
from tests.evaluation.literal import exact_scores, literal_precision, near_ties

SMALL = arrays.arrays(np.float32, (5, 3), elements=st.integers(-2, 2).map(float))
LARGE = arrays.arrays(np.float32, (23, 3), elements=st.integers(-2, 2).map(float))
LABELS = np.array([0, 1, 2, 0, 1]), np.arange(23) % 4


def drawn(seed, n_queries=30, n_gallery=120, dim=16, kinds=6):
    rng = np.random.default_rng(seed)
    queries, gallery = (rng.normal(size=(n, dim)).astype(np.float32) for n in (n_queries, n_gallery))
    return queries, gallery, rng.integers(0, kinds, n_queries), rng.integers(0, kinds, n_gallery)


def test_against_scikit_learn():
    queries, gallery, asked, labels = drawn(0)
    scores = queries.astype(float) @ gallery.T.astype(float)
    expected = [average_precision_score(labels == a, s) for a, s in zip(asked, scores, strict=True)]
    for normalise in ("retrieved", "relevant"):
        found = average_precision(queries, gallery, asked, labels, None, normalise)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_against_torchmetrics():
    """Its `top_k` divides by the relevant items within the cut, as equation 4.2.1 does."""
    queries, gallery, asked, labels = drawn(1)
    scores = torch.from_numpy(queries) @ torch.from_numpy(gallery).T
    for at in (1, 7, 50):
        found = average_precision(queries, gallery, asked, labels, at)
        for row, value in enumerate(found):
            relevant = torch.from_numpy(labels == asked[row])
            expected = retrieval_average_precision(scores[row], relevant, top_k=at).item()
            assert value == pytest.approx(expected, rel=1e-6)


@given(SMALL, LARGE, st.sampled_from([None, 1, 4, 50]), st.sampled_from(["retrieved", "relevant"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_ties_count_against_whatever_the_cut(queries, gallery, at, normalise, as_scores):
    scores = exact_scores(queries, gallery)
    expected = [literal_precision(s, LABELS[1] == a, at, normalise) for s, a in zip(scores, LABELS[0], strict=True)]
    pair = (Scores.of(queries @ gallery.T), None) if as_scores else (queries, gallery)
    found = average_precision(*pair, *LABELS, at, normalise, budget=500)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("at", [None, 10])
def test_near_ties_are_those_of_rational_numbers(at):
    queries, gallery = near_ties(4)
    asked, labels = np.arange(12) % 3, np.arange(60) % 3
    scores = exact_scores(queries, gallery)
    expected = [literal_precision(s, labels == a, at) for s, a in zip(scores, asked, strict=True)]
    found = average_precision(queries, gallery, asked, labels, at)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    order = np.random.default_rng(0).permutation(60)
    again = average_precision(queries, gallery[order], asked, labels[order], at, budget=2000)
    assert (found == again).all()


@pytest.mark.parametrize("kinds", [2, 16])
def test_what_runs_keep_of_each_query(kinds):
    """Whether relevant items are few and ranked one by one or many and rankings sorted: the same three definitions.

    All divide by the relevant items there are, but that of the first 50 ranks by those within (thesis, eq. 4.2.1).
    """
    queries, gallery, *_ = drawn(6, 20, 200)
    asked, labels = np.arange(20) % kinds, np.arange(200) % kinds
    scores = exact_scores(queries, gallery)
    found = rank_queries(source(queries, gallery), asked, labels).precision
    there, back = rank_both_ways(source(queries, gallery), asked, labels)
    turned = rank_both_ways(source(gallery, queries), labels, asked)
    for name, at, normalise in (
        ("average_precision", None, "relevant"),
        ("average_precision@50", 50, "retrieved"),
        ("average_precision@R", "R", "relevant"),
    ):
        expected = []
        for row, kind in zip(scores, asked, strict=True):
            hits = labels == kind
            expected.append(literal_precision(row, hits, hits.sum() if at == "R" else at, normalise))
        np.testing.assert_allclose(found[name], expected, rtol=1e-12)
        np.testing.assert_allclose(there.precision[name], expected, rtol=1e-12)
        np.testing.assert_allclose(turned[1].precision[name], expected, rtol=1e-12)
        np.testing.assert_allclose(back.precision[name], turned[0].precision[name], rtol=1e-12)
    assert (found["average_precision@50"] > found["average_precision"]).any()


def test_a_cut_that_no_relevant_item_reaches():
    """0 of 0 relevant items within the first 50 ranks is 0, and the whole ranking's precision is not."""
    scores = Scores.of(-np.arange(60, dtype=np.float32)[None])
    for relevant in (1, 20):  # ranked one by one, and sorted
        labels = (np.arange(60) >= 60 - relevant).astype(int)
        found = rank_queries(scores, np.array([1]), labels).precision
        assert found["average_precision@50"][0] == (
            0.0 if relevant == 1 else pytest.approx(np.mean([(n + 1) / (41 + n) for n in range(10)]))
        )
        assert found["average_precision"][0] == pytest.approx(
            np.mean([(n + 1) / (61 - relevant + n) for n in range(relevant)])
        )
        assert found["average_precision@R"][0] == 0.0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("at", [None, 2])
def test_one_pair_that_products_leave_open(sign, at):
    """The same float64 terms in two orders: the last bits of their sums decide, as `vectors.scores` has them."""
    rng = np.random.default_rng(9)
    terms = rng.random(40)
    for _ in range(40):
        near = np.stack([rng.permutation(terms), rng.permutation(terms)])
        far = (terms - np.linspace(20, 30, 40)[:, None]) if sign > 0 else (terms + np.linspace(20, 30, 40)[:, None])
        queries, gallery = sign * np.ones((1, 40)), np.concatenate([near, far])
        first, second = vectors.scores(*map(vectors.Vectors, (queries, gallery)), np.zeros(2, int), np.arange(2))
        found = average_precision(queries, gallery, [1], [1, *[0] * 41], at)
        assert found[0] == (1.0 if first > second else 0.5)


def test_the_best_of_a_large_gallery():
    """So many items, and queries, that only the first ranks are sorted."""
    queries, gallery, asked, labels = drawn(10, 40, 3000)
    scores = queries.astype(float) @ gallery.T.astype(float)
    for at in (10, 100):
        expected = []
        for row, kind in zip(scores, asked, strict=True):
            hits = (labels == kind)[np.argsort(-row)][:at]
            expected.append((np.cumsum(hits) / np.arange(1, at + 1) * hits).sum() / max(hits.sum(), 1))
        np.testing.assert_allclose(average_precision(queries, gallery, asked, labels, at), expected, rtol=1e-12)
        by_function = average_precision(Scores.of(scores), None, asked, labels, at)
        np.testing.assert_allclose(by_function, expected, rtol=1e-12)


def test_scores_that_differ_in_their_last_bit():
    """Of both signs, from a function in float32; 0 and -0 are a tie."""
    for value in (1.0, -1.0, 3e-39, -3e-39):
        near = np.float32(value), np.nextafter(np.float32(value), np.float32(np.inf))
        for order in ((0, 1), (1, 0)):
            scores = Scores.of(np.array([[near[k] for k in order]]))
            for relevant in (0, 1):
                found = average_precision(scores, None, [1], [int(k == relevant) for k in order], None)
                assert found[0] == (1.0 if relevant == 1 else 0.5)
    for zeros in ((0.0, -0.0), (-0.0, 0.0)):
        assert average_precision(Scores.of(np.array([zeros], np.float32)), None, [1], [1, 0], None)[0] == 0.5


def test_several_labels():
    queries, gallery, *_ = drawn(2, 10, 40)
    rng = np.random.default_rng(3)
    asked, labels = rng.random((10, 5)) < 0.4, rng.random((40, 5)) < 0.3
    asked[:, 0] |= ~asked.any(1)
    labels[0] = True
    scores = exact_scores(queries, gallery)
    expected = [literal_precision(s, (labels & a).any(1)) for s, a in zip(scores, asked, strict=True)]
    np.testing.assert_allclose(average_precision(queries, gallery, asked, labels, None), expected, rtol=1e-12)
    one_hot = np.eye(6)
    q, g, a, b = drawn(5)
    assert (average_precision(q, g, one_hot[a], one_hot[b]) == average_precision(q, g, a, b)).all()


def test_the_two_normalisations_by_hand():
    scores = Scores.of(np.array([[5.0, 4.0, 3.0, 2.0, 1.0]], np.float32))
    labels = np.array([1, 0, 1, 0, 1])
    assert average_precision(scores, None, [1], labels, 3, "retrieved")[0] == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, None, [1], labels, 3, "relevant")[0] == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision(scores, None, [1], 1 - labels, 1)[0] == 0.0  # relevant ones, none of them retrieved


def test_queries_without_relevant_items():
    queries, gallery = np.eye(2), np.eye(2)
    with pytest.raises(NoRelevantItemError, match="query 1 has no relevant item"):
        average_precision(queries, gallery, [0, 5], [0, 1])
    found = average_precision(queries, gallery, [0, 5], [0, 1], missing="nan")
    assert found[0] == 1.0
    assert np.isnan(found[1])
    _, curve = precision_recall_curve(queries, gallery, [0, 5], [0, 1], missing="nan")
    assert np.isnan(curve[1]).all()
    with pytest.raises(ValueError, match='"raise" or "nan"'):
        average_precision(queries, gallery, [0, 1], [0, 1], missing="zero")
    with pytest.raises(ValueError, match="normalise"):
        average_precision(queries, gallery, [0, 1], [0, 1], normalise="all")
    with pytest.raises(ValueError, match="query_labels"):
        average_precision(queries, gallery, [0], [0, 1])
    with pytest.raises(ValueError, match="not the same kinds"):
        average_precision(queries, gallery, [0, 1], np.eye(2))


def test_labels_of_any_kind():
    queries, gallery, asked, labels = drawn(7, 8, 30)
    expected = average_precision(queries, gallery, asked, labels)
    names = np.array(list("abcdef"))
    for form in (torch.from_numpy, lambda x: names[x], lambda x: x - 3):
        assert (average_precision(queries, gallery, form(asked), form(labels)) == expected).all()
    counts = 3.0 * np.eye(6)  # any number but 0 is a label
    assert (average_precision(queries, gallery, counts[asked], -counts[labels]) == expected).all()
    with pytest.raises(ValueError, match="gallery_labels"):
        average_precision(queries, gallery, asked, labels[:-1])
    with pytest.raises(ValueError, match="query_labels"):
        average_precision(queries, gallery, asked[:, None, None], labels)
    with pytest.raises(ValueError, match="not the same kinds"):
        average_precision(queries, gallery, counts[asked], np.eye(7)[labels])
    for at in (0, -1):
        with pytest.raises(ValueError, match="at: expected at least 1"):
            average_precision(queries, gallery, asked, labels, at)


def test_interpolated_precision_is_the_best_from_there_on():
    queries, gallery, asked, labels = drawn(8, 12, 90)
    recalls, curves = precision_recall_curve(queries, gallery, asked, labels)
    np.testing.assert_allclose(recalls, np.arange(11) / 10)
    scores = queries.astype(float) @ gallery.T.astype(float)
    for row, curve in enumerate(curves):
        hits = (labels == asked[row])[np.argsort(-scores[row])]
        precision, found = np.cumsum(hits) / np.arange(1, 91), np.cumsum(hits)
        expected = [max(precision[found * 10 >= level * hits.sum()]) for level in range(11)]
        np.testing.assert_allclose(curve, expected, rtol=1e-12)
    ends, two = precision_recall_curve(queries, gallery, asked, labels, 2, budget=400)
    assert ends.tolist() == [0, 1]
    np.testing.assert_allclose(two, curves[:, [0, 10]], rtol=1e-12)
    with pytest.raises(ValueError, match="levels: expected at least 2"):
        precision_recall_curve(queries, gallery, asked, labels, 1)
    with pytest.raises(ValueError, match='"raise" or "nan"'):
        precision_recall_curve(queries, gallery, asked, labels, missing="zero")


def test_precision_recall_by_hand():
    scores = Scores.of(np.array([[5.0, 4.0, 3.0, 2.0, 1.0]], np.float32))
    recalls, curve = precision_recall_curve(scores, None, [1], np.array([0, 1, 1, 0, 1]), 4)
    assert recalls.tolist() == [0, 1 / 3, 2 / 3, 1]
    # Precisions at the three relevant items: 1/2, 2/3, 3/5; the best at or after each.
    np.testing.assert_allclose(curve[0], [2 / 3, 2 / 3, 2 / 3, 3 / 5])
