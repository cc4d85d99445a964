"""How far the parts of encodings are from each other, and what is left in them (mFSR, sections 3.2 and 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) cosines of the rows of (N, d) with those of another."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def silhouette(groups: Sequence[np.ndarray]) -> float:
    """Mean silhouette of (N, d) groups of points, by Euclidean distance: 1 for groups far apart, near 0 for mixed ones.

    Of an item it is (b - a) / max(a, b), with a its mean distance to its own group's others and b that to the other
    group's (Rousseeuw, 1987).
    """
    from sklearn.metrics import silhouette_score

    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return float(silhouette_score(np.concatenate(groups), labels))


def plane(points: np.ndarray) -> np.ndarray:
    """(N, 2) of (N, d) points along their two first principal axes, the larger share of each axis to the right."""
    centred = np.asarray(points, np.float64) - np.mean(points, 0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(centred), 2))
    for column, axis in enumerate(axes[:2]):
        along = centred @ axis
        found[:, column] = along * np.sign(along[np.abs(along).argmax()] or 1)  # a sign is arbitrary
    return found


def ranks_of_own(made: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(N,) rank of each row's own real one among all, by squared distance of values: 1 where it is the nearest.

    Parameters
    ----------
    made, real : (N, ...) of the same shape. Ties count against.
    """
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (made, real))
    distances = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]
    return (distances <= distances.diagonal()[:, None]).sum(1)


def numbers(parts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """What the claims of the separation come to.

    Parameters
    ----------
    parts : modality to `modal`, `semantic` and `specific`, (N, d) each, row i of all modalities of one pair.

    Returns
    -------
    `MODALITY_cosine` and `MODALITY_abs_cosine`: means of the cosine of semantic and specific parts, and of its absolute
    value; `PART_silhouette`: of the modalities in that part.
    """
    found: dict[str, float] = {}
    for modality, own in parts.items():
        cosine = cosines(own["semantic"], own["specific"])
        found |= {f"{modality}_cosine": float(cosine.mean()), f"{modality}_abs_cosine": float(np.abs(cosine).mean())}
    for part in ("modal", "semantic", "specific"):
        found[f"{part}_silhouette"] = silhouette([own[part] for own in parts.values()])
    return found
