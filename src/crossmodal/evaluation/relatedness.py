"""Whether words that look alike come together: of vectors of words, and of features of the images they were said of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_looks(images: np.ndarray, ids: Sequence[set[int]], frequent: int) -> tuple[np.ndarray, np.ndarray]:
    """What words look like.

    Parameters
    ----------
    images : (N, D) features. ids : the words of the caption of each image.
    frequent : captions that a word must stand in.

    Returns
    -------
    (W, D) mean features of the images whose captions have a word, without the mean of all, and the (W,) words,
    ascending. A word of every caption is left out.
    """
    rows_of: dict[int, list[int]] = {}
    for row, words in enumerate(ids):
        for word in words:
            rows_of.setdefault(word, []).append(row)
    kept = sorted(word for word, rows in rows_of.items() if frequent <= len(rows) < len(ids))
    overall = images.mean(0)
    return np.array([images[rows_of[word]].mean(0) - overall for word in kept]), np.array(kept, dtype=int)


def rank_correlation(vectors: np.ndarray, looks: np.ndarray) -> float:
    """Spearman's correlation of the cosines of all pairs of (W, d) vectors and of (W, D) looks.

    Raises
    ------
    ValueError : fewer than three words.
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    if len(vectors) < 3:
        raise ValueError(f"{len(vectors)} words stand in enough test captions to be compared; lower `frequent`")
    return float(spearmanr(pdist(vectors, "cosine"), pdist(looks, "cosine")).statistic)
