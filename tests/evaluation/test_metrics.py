import numpy as np
import pytest

from crossmodal.evaluation import folds, mean_rank, median_rank, metrics_of_queries, recall_at_k


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


def test_metrics_of_a_run_by_hand():
    """What `metrics.parquet` holds of one ranking: means over queries of what `examples.parquet` holds, in per cent."""
    queries = {
        "rank": np.array([1, 4, 10, 11]),
        "average_precision": np.array([1.0, 0.5, 0.25, 0.25]),
        "average_precision@50": np.array([1.0, 0.5, 0.0, 0.1]),
        "average_precision@R": np.array([0.0, 0.5, 0.0, 0.0]),
    }
    found = metrics_of_queries(queries)
    assert found == pytest.approx(
        {
            "recall@1": 25.0,
            "recall@5": 50.0,
            "recall@10": 75.0,
            "median_rank": 7.0,
            "mean_rank": 6.5,
            "map": 50.0,
            "map@50": 40.0,
            "map@R": 12.5,
        }
    )
    assert metrics_of_queries({"rank": queries["rank"]}, (4, 11)).keys() == {
        "recall@4",
        "recall@11",
        "median_rank",
        "mean_rank",
    }


def test_ranks_that_are_none():
    assert recall_at_k(np.array([1])) == {1: 100.0, 5: 100.0, 10: 100.0}
    for wrong in (np.empty(0), np.ones((2, 2))):
        with pytest.raises(ValueError, match="non-empty vector"):
            mean_rank(wrong)
        with pytest.raises(ValueError, match="non-empty vector"):
            median_rank(wrong)


def test_folds_of_one_and_of_none():
    assert [fold.tolist() for fold in folds(3, 1)] == [[0, 1, 2]]
    with pytest.raises(ValueError, match="into 0 equal folds"):
        folds(4, 0)
