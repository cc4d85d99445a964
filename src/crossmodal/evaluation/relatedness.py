"""Visual relatedness of words: whether words with similar images have similar vectors (Kottur et al., 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_looks(images: np.ndarray, ids: Sequence[set[int]], frequent: int) -> tuple[np.ndarray, np.ndarray]:
    """Represent each frequent word by the mean features of the images whose captions contain it.

    Parameters
    ----------
    images : (N, D) features.
    ids : the word ids in the caption of each image.
    frequent : the smallest number of captions in which a word must occur.

    Returns
    -------
    (W, D) mean features per word, minus the mean over all images, and the (W,) word ids, ascending. A word that occurs
    in every caption is left out.
    """
    rows_of: dict[int, list[int]] = {}
    for row, words in enumerate(ids):
        for word in words:
            rows_of.setdefault(word, []).append(row)
    kept = sorted(word for word, rows in rows_of.items() if frequent <= len(rows) < len(ids))
    overall = images.mean(0)
    return np.array([images[rows_of[word]].mean(0) - overall for word in kept]), np.array(kept, dtype=int)


def rank_correlation(vectors: np.ndarray, looks: np.ndarray) -> float:
    """Spearman's correlation, over all pairs of W words, between the cosines of their vectors and of their features.

    Parameters
    ----------
    vectors : (W, d) word vectors.
    looks : (W, D) visual features of the same words (`mean_looks`).

    Raises
    ------
    ValueError : fewer than three words.
    """
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    if len(vectors) < 3:
        raise ValueError(f"{len(vectors)} words occur in enough test captions to be compared; lower `frequent`")
    return float(spearmanr(pdist(vectors, "cosine"), pdist(looks, "cosine")).statistic)
