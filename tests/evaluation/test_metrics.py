import numpy as np
import pytest

from crossmodal.evaluation import folds, mean_rank, median_rank, recall_at_k


def test_metrics_by_hand():
    ranks = np.array([1, 2, 5, 6, 10, 11])
    assert recall_at_k(ranks) == {1: pytest.approx(100 / 6), 5: 50.0, 10: pytest.approx(500 / 6)}
    assert median_rank(ranks) == 5.5
    assert mean_rank(ranks) == pytest.approx(35 / 6)


def test_errors_name_the_fault():
    with pytest.raises(ValueError, match="1-based"):
        recall_at_k(np.array([0, 1]))
    with pytest.raises(ValueError, match="equal folds"):
        folds(10, 3)
    assert [f.tolist() for f in folds(4, 2)] == [[0, 1], [2, 3]]
