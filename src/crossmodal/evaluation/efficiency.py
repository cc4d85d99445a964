"""Annotation efficiency: what a model makes of few annotations, as one number, and against another model.

Recalls at several amounts of annotation are a curve over log-annotations, linear between the points. Its mean height
(area over width) sums it up; the annotations that a recall takes are read off it. Knows nothing of runs.
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
    """Mean recall over log-annotations: the area under the curve by trapezia, divided by its width.

    Parameters
    ----------
    annotations : (K,) amounts, in any unit and order. recalls : (..., K).

    Returns
    -------
    (...,) in the unit of the recalls.
    """
    x, y = _checked(annotations, recalls)
    return (np.diff(x) * (y[..., 1:] + y[..., :-1]) / 2).sum(-1) / (x[-1] - x[0])


def annotations_to_reach(annotations: np.ndarray, recalls: np.ndarray, target: float) -> np.ndarray:
    """The fewest annotations at which the curve reaches a recall, linear in log-annotations between the points.

    Returns
    -------
    (...,) in the unit of the annotations; NaN where the curve stays below. A curve that begins above the target gives
    its first amount: nothing is known of less.
    """
    x, y = _checked(annotations, recalls)
    reached = y >= target
    first = reached.argmax(-1)
    after, before = (np.take_along_axis(y, place[..., None], -1)[..., 0] for place in (first, np.maximum(first - 1, 0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(first == 0, 0.0, (target - before) / (after - before))
    start = x[np.maximum(first - 1, 0)]
    found = np.exp(start + part * (x[first] - start))
    return np.where(reached.any(-1), found, np.nan)


def crossover(
    annotations: np.ndarray, recalls: np.ndarray, other_annotations: np.ndarray, other_recalls: np.ndarray
) -> float:
    """The fewest annotations at which two curves meet, each linear in log-annotations between its points.

    Parameters
    ----------
    annotations, recalls : (K,) of the one. other_annotations, other_recalls : (J,) of the other.

    Returns
    -------
    In the unit of the annotations; NaN where the curves do not meet on the amounts that both of them span.
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
    """How many times the annotations of the first model the other needs to reach a recall: above 1 the first saves.

    NaN where either does not reach it.
    """
    return annotations_to_reach(other_annotations, other_recalls, target) / annotations_to_reach(
        annotations, recalls, target
    )
