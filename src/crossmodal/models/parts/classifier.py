"""Linear classifiers on features, fitted by scikit-learn."""

from __future__ import annotations

import numpy as np


def logistic(
    x: np.ndarray, labels: np.ndarray | None, inverse_penalty: float, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """(D, C) weights and (C,) biases of a multinomial logistic regression on (N, D) features, classes in order.

    Labels are (N,) classes, or (N, C) zeros and ones.

    Raises
    ------
    ValueError : there are no labels, or all are of one class.
    """
    from sklearn.linear_model import LogisticRegression

    weights = None
    if labels is not None and labels.ndim == 2:  # an item counts once, in equal parts for each of its classes
        rows, columns = np.nonzero(labels)
        x, labels, weights = x[rows], columns, 1 / labels.sum(1)[rows]
    if labels is None or len(np.unique(labels)) < 2:
        raise ValueError("semantic matching needs training items of at least two classes; this data set has no labels")
    regression = LogisticRegression(C=inverse_penalty, max_iter=iterations).fit(x, labels, weights)
    weight, bias = regression.coef_.T, regression.intercept_
    if weight.shape[1] == 1:  # of two classes, scikit-learn has only the second's
        weight, bias = np.hstack([-weight / 2, weight / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    return weight, bias
