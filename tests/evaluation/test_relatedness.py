from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from crossmodal.evaluation.relatedness import mean_looks, rank_correlation


def test_looks_are_means_of_images_and_are_correlated_by_rank() -> None:
    images = np.random.default_rng(0).normal(size=(6, 3))
    ids = [{4, 5}, {4}, {5, 6}, {6}, {4, 6}, {7}]
    looks, words = mean_looks(images, ids, 2)
    assert words.tolist() == [4, 5, 6]
    np.testing.assert_allclose(looks[1], images[[0, 2]].mean(0) - images.mean(0))
    vectors = np.random.default_rng(1).normal(size=(3, 4))

    def cosines(x: np.ndarray) -> list[float]:
        return [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i, j in ((0, 1), (0, 2), (1, 2))]

    expected = spearmanr(cosines(vectors), cosines(looks)).statistic
    assert rank_correlation(vectors, looks) == pytest.approx(expected)
    assert rank_correlation(looks * 3, looks) == pytest.approx(1)
    with pytest.raises(ValueError, match="`frequent`"):
        rank_correlation(vectors[:2], looks[:2])
