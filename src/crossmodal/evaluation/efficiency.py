"""Annotation efficiency: how well a model retrieves with few annotations, by itself and compared with another model.

The recalls at several amounts of annotation form a curve over the logarithm of the amount, linear between the points.
Its mean height (area divided by width) summarises it, and the annotations needed for a recall are read off it. This
module knows nothing of runs.
"""

from __future__ import annotations

import numpy as np


def _checked(annotations: np.ndarray, recalls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    annotations, recalls = np.asarray(annotations, dtype=np.float64), np.asarray(recalls, dtype=np.float64)
    if annotations.ndim != 1 or len(annotations) < 2 or recalls.shape[-1] != len(annotations):
        raise ValueError(
            f"annotations: expected at least two amounts and a recall for each, found shapes {annotations.shape} and "
            f"{recalls.shape}"
        )
    if (annotations <= 0).any() or len(np.unique(annotations)) < len(annotations):
        raise ValueError("annotations: expected different amounts above 0")
    order = np.argsort(annotations)
    return np.log(annotations[order]), recalls[..., order]


def area(annotations: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """Mean recall over log-annotations: the area under the curve by the trapezoidal rule, divided by its width.

    Parameters
    ----------
    annotations : (K,) amounts above 0, in any unit and order.
    recalls : (..., K), one per amount.

    Returns
    -------
    (...,) in the unit of the recalls.

    Raises
    ------
    ValueError : fewer than two amounts, equal amounts, amounts that are not above 0, or shapes that do not fit.

    Examples
    --------
    >>> round(float(area([1, 10, 100], [20, 40, 60])), 6)
    40.0
    """
    x, y = _checked(annotations, recalls)
    return (np.diff(x) * (y[..., 1:] + y[..., :-1]) / 2).sum(-1) / (x[-1] - x[0])


def annotations_to_reach(annotations: np.ndarray, recalls: np.ndarray, target: float) -> np.ndarray:
    """The fewest annotations at which the curve reaches a recall, linear in log-annotations between the points.

    Parameters
    ----------
    annotations, recalls : as for `area`.
    target : the recall to be reached.

    Returns
    -------
    (...,) in the unit of the annotations; NaN where the curve stays below the target. For a curve that begins above
    the target it is the smallest amount, since nothing is known of smaller ones.

    Raises
    ------
    ValueError : as for `area`.

    Examples
    --------
    >>> round(float(annotations_to_reach([1, 10, 100], [20, 40, 60], target=50)), 2)  # 10 ** 1.5
    31.62
    """
    x, y = _checked(annotations, recalls)
    reached = y >= target
    first = reached.argmax(-1)
    after, before = (np.take_along_axis(y, place[..., None], -1)[..., 0] for place in (first, np.maximum(first - 1, 0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(first == 0, 0.0, (target - before) / (after - before))
    start = x[np.maximum(first - 1, 0)]
    crossing = np.exp(start + part * (x[first] - start))
    return np.where(reached.any(-1), crossing, np.nan)


def crossover(
    annotations: np.ndarray, recalls: np.ndarray, other_annotations: np.ndarray, other_recalls: np.ndarray
) -> float:
    """The fewest annotations at which two curves meet, each linear in log-annotations between its points.

    Parameters
    ----------
    annotations, recalls : (K,) points of the first curve.
    other_annotations, other_recalls : (J,) points of the second curve.

    Returns
    -------
    An amount in the unit of the annotations; NaN where the curves do not meet within the range that both of them span.

    Raises
    ------
    ValueError : as for `area`.

    Examples
    --------
    >>> round(crossover([1, 100], [20, 60], [1, 100], [40, 40]), 6)
    10.0
    """
    x, y = _checked(annotations, recalls)
    other_x, other_y = _checked(other_annotations, other_recalls)
    low, high = max(x[0], other_x[0]), min(x[-1], other_x[-1])
    if low > high:
        return float("nan")
    places = np.unique(np.concatenate([x, other_x]).clip(low, high))
    gap = np.interp(places, x, y) - np.interp(places, other_x, other_y)
    if gap[0] == 0:
        return float(np.exp(places[0]))
    met = np.flatnonzero(np.sign(gap[1:]) != np.sign(gap[0]))
    if not len(met):
        return float("nan")
    after = met[0] + 1
    part = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(np.exp(places[after - 1] + part * (places[after] - places[after - 1])))


def annotation_ratio(
    annotations: np.ndarray,
    recalls: np.ndarray,
    other_annotations: np.ndarray,
    other_recalls: np.ndarray,
    target: float,
) -> np.ndarray:
    """The annotations that the second model needs to reach a recall, divided by those that the first model needs.

    Parameters
    ----------
    annotations, recalls : points of the first model's curve, as for `area`.
    other_annotations, other_recalls : points of the second model's curve.
    target : the recall to be reached.

    Returns
    -------
    (...,) ratios, above 1 where the first model needs fewer annotations; NaN where either does not reach the recall.

    Raises
    ------
    ValueError : as for `area`.

    Examples
    --------
    >>> round(float(annotation_ratio([1, 100], [20, 60], [1, 100], [0, 40], target=40)), 6)  # 100 / 10
    10.0
    """
    return annotations_to_reach(other_annotations, other_recalls, target) / annotations_to_reach(
        annotations, recalls, target
    )
