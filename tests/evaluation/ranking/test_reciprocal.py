"""Re-ranking by the query's rank in each item's own list, against a hand-made case and a literal transcription."""

from __future__ import annotations

import numpy as np
import pytest

from crossmodal.evaluation.ranking import reciprocal
from crossmodal.evaluation.ranking.reciprocal import reranked


def literal(scores, query_groups, gallery_groups, first):
    """Lists of all queries and items, one pair at a time; of equal scores the irrelevant ones come first."""
    n, width = scores.shape

    def relevant(q, g):
        return query_groups[q] == gallery_groups[g]

    ranks = []
    for q in range(n):
        initial = sorted(range(width), key=lambda g, q=q: (-scores[q, g], relevant(q, g)))
        keys = []
        for place, g in enumerate(initial[:first]):
            before = sum((-scores[p, g], relevant(p, g)) < (-scores[q, g], relevant(q, g)) for p in range(n))
            keys.append((before, place, g))
        order = [g for _, _, g in sorted(keys)] + initial[first:]
        ranks.append(1 + next(place for place, g in enumerate(order) if relevant(q, g)))
    return ranks


def test_by_hand():
    """Query 0 prefers items 1, 0, 2; it is third in the list of item 1, and first in those of items 0 and 2."""
    scores = np.array([[0.5, 0.6, 0.4, 0.1], [0.2, 0.9, 0.3, 0.8], [0.1, 0.7, 0.2, 0.3]])
    queries, gallery = np.array([0, 1, 2]), np.array([0, 1, 2, 1])
    assert reranked(scores, queries, gallery, first=1).tolist() == [2, 1, 3]
    # Query 2 prefers 1 (where it is second), 3 (second) and 2 (third): its order stays.
    assert reranked(scores, queries, gallery, first=3).tolist() == [1, 1, 3]
    # Its relevant item 2 is behind the first two, so that it keeps its place.
    assert reranked(scores, queries, gallery, first=2).tolist() == [1, 1, 3]


@pytest.mark.parametrize("first", [1, 3, 15])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_against_the_literal_lists(monkeypatch, first, levels):
    rng = np.random.default_rng(levels)
    queries, gallery = np.arange(12) // 2, rng.permutation(np.arange(30) % 6)
    scores = rng.integers(0, levels, (12, 30)) / 8
    expected = literal(scores, queries, gallery, first)
    assert reranked(scores, queries, gallery, first).tolist() == expected
    monkeypatch.setattr(reciprocal, "BLOCK", 60)
    assert reranked(scores, queries, gallery, first).tolist() == expected


def test_a_collapsed_model_stays_last():
    assert reranked(np.ones((4, 20)), np.arange(4), np.arange(20) % 4).tolist() == [16] * 4


def test_true_scores_stay_first():
    queries, gallery = np.arange(5), np.repeat(np.arange(5), 5)
    assert reranked(queries[:, None] == gallery, queries, gallery).tolist() == [1] * 5
    assert reranked(gallery[:, None] == queries, gallery, queries).tolist() == [1] * 25


@pytest.mark.parametrize(
    ("scores", "first", "message"),
    [
        (np.ones((2, 3)), 0, "first: expected at least 1, found 0"),
        (np.ones((2, 4)), 1, r"expected \(2, 3\), found \(2, 4\)"),
        (np.full((2, 3), np.nan), 1, "not finite"),
    ],
)
def test_what_it_refuses(scores, first, message):
    with pytest.raises(ValueError, match=message):
        reranked(scores, np.array([0, 1]), np.array([0, 1, 1]), first)
    with pytest.raises(ValueError, match="query 1 has no relevant item"):
        reranked(np.ones((2, 3)), np.array([0, 5]), np.array([0, 1, 1]))
