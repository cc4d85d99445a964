"""What each query adds to a metric of rankings, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from crossmodal.tasks.base import metric

RANKS = {"rank": np.array([1, 3, 12, 6])}


def test_means_over_queries() -> None:
    assert metric("recall@5").of_examples(RANKS).tolist() == [100.0, 100.0, 0.0, 0.0]
    assert metric("recall@3").of_examples(RANKS).tolist() == [100.0, 100.0, 0.0, 0.0]
    assert metric("recall@5").value({"rank": np.array([5, 6, 4])}) == pytest.approx(200 / 3)  # 5 too
    assert metric("mean_rank").value(RANKS) == 5.5
    assert metric("map@50").value({"average_precision@50": np.full(4, 0.25)}) == 25.0
    assert metric("map@R").of_examples({"average_precision@R": np.array([0.5, 1])}).tolist() == [50.0, 100.0]


def test_what_is_no_mean_has_no_addends() -> None:
    assert metric("median_rank").of_examples(RANKS) is None
    assert metric("median_rank").value(RANKS) == 4.5
    for name in ("map", "map@50", "map@20", "ndcg@10", "recall_sum"):
        assert metric(name).of_examples(RANKS) is None
        assert metric(name).value(RANKS) is None
