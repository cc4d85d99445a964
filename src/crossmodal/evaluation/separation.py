"""Measures of how well encodings are separated into parts, and of reconstructions (mFSR, sections 3.2 and 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) cosines between the corresponding rows of two (N, d) arrays."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def silhouette(groups: Sequence[np.ndarray]) -> float:
    """Mean silhouette of groups of points by Euclidean distance: 1 for groups far apart, near 0 for mixed ones.

    The silhouette of a point is (b - a) / max(a, b), where a is its mean distance to the other points of its own group
    and b that to the points of the nearest other group (Rousseeuw, 1987).

    Parameters
    ----------
    groups : (N, d) points of each group.
    """
    from sklearn.metrics import silhouette_score

    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return float(silhouette_score(np.concatenate(groups), labels))


def plane(points: np.ndarray) -> np.ndarray:
    """(N, 2) coordinates of (N, d) points on their first two principal axes.

    The sign of each axis is such that the point farthest from the mean along it has a positive coordinate.
    """
    centred = np.asarray(points, np.float64) - np.mean(points, 0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    coordinates = np.zeros((len(centred), 2))
    for column, axis in enumerate(axes[:2]):
        along = centred @ axis
        coordinates[:, column] = along * np.sign(along[np.abs(along).argmax()] or 1)  # the SVD leaves the sign open
    return coordinates


def ranks_of_own(reconstructed: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Rank of each reconstruction's own original among all originals, by squared Euclidean distance.

    Parameters
    ----------
    made, real : (N, ...) reconstructions and their originals, in the same order.

    Returns
    -------
    (N,) ranks, 1 where the own original is the nearest; ties count against the model.
    """
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (reconstructed, real))
    distances = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]
    return (distances <= distances.diagonal()[:, None]).sum(1)


def numbers(parts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Compute the numbers by which the separation of encodings into parts is judged.

    Parameters
    ----------
    parts : modality to its (N, d) parts `modal`, `semantic` and `specific`; row i of all modalities is one pair.

    Returns
    -------
    `MODALITY_cosine` and `MODALITY_abs_cosine`, the means of the cosine between the semantic and the specific part and
    of its absolute value, and `PART_silhouette`, the silhouette of the modalities in each part.
    """
    values: dict[str, float] = {}
    for modality, vectors in parts.items():
        cosine = cosines(vectors["semantic"], vectors["specific"])
        values |= {f"{modality}_cosine": float(cosine.mean()), f"{modality}_abs_cosine": float(np.abs(cosine).mean())}
    for part in ("modal", "semantic", "specific"):
        values[f"{part}_silhouette"] = silhouette([vectors[part] for vectors in parts.values()])
    return values
