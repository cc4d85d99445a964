import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from crossmodal.evaluation.ranking import rank_queries, retrieval_ranks


def blocks(scores, step=7):
    for start in range(0, len(scores), step):
        rows = slice(start, min(start + step, len(scores)))
        yield rows, torch.from_numpy(scores[rows])


def test_against_scikit_learn_and_the_plain_ranks():
    rng = np.random.default_rng(0)
    q, g = rng.normal(size=(40, 8)).astype(np.float32), rng.normal(size=(90, 8)).astype(np.float32)
    qg, gg = rng.integers(0, 12, 40), np.concatenate([np.arange(12), rng.integers(0, 12, 78)])
    scores = q @ g.T
    found = rank_queries(blocks(scores), qg, gg, k=5)
    expected = [average_precision_score(gg == group, row) for group, row in zip(qg, scores, strict=True)]
    np.testing.assert_allclose(found.average_precision, expected, rtol=1e-6)
    assert (found.ranks == retrieval_ranks(q, g, qg, gg)).all()
    assert (found.top == np.argsort(-scores, axis=1)[:, :5]).all()


def test_ties_count_against_the_model():
    scores = np.zeros((1, 6), np.float32)
    found = rank_queries(blocks(scores), np.array([0]), np.array([0, 0, 1, 1, 1, 1]), k=0)
    assert found.ranks.tolist() == [5]  # behind all four others
    assert found.average_precision[0] == pytest.approx((1 / 5 + 2 / 6) / 2)


def test_values_that_are_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        rank_queries(blocks(np.array([[np.nan, 1.0]], np.float32)), np.array([0]), np.array([0, 1]))
