"""Cameras of the LightField descriptor: a dodecahedron's vertices, its 60 rotations, and ten of its orientations.

Source: Chen et al., "On Visual Similarity Based 3D Model Retrieval", 2003, section 3. Two opposite cameras see a
silhouette and its mirror image, so that one camera of each pair is enough. Ten views form a light field, and ten light
fields describe a shape.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import qmc

FIELDS = VIEWS = 10
CANDIDATES = 4096  # number of rotations from which the orientations are chosen


@cache
def vertices() -> np.ndarray:
    """(20, 3) unit vectors of the vertices; `n` and `n + 10` are opposite."""
    golden = (1 + 5**0.5) / 2
    half = [(1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)]
    for a, b in ((1 / golden, golden), (1 / golden, -golden)):
        half += [(0, a, b), (a, b, 0), (b, 0, a)]
    half = np.array(half) / 3**0.5
    return np.concatenate([half, -half])


@cache
def rotations() -> np.ndarray:
    """(60, 3, 3) rotations that map the dodecahedron onto itself, the identity first.

    The image of the first vertex (20 choices) and that of one of its three neighbours (3 choices) determine a rotation.
    """
    corners = vertices()
    edge = np.sort(np.round(corners @ corners.T, 9), axis=1)[0, -2]  # cosine between neighbours
    frames = []
    for n, corner in enumerate(corners):
        for neighbour in corners[np.isclose(corners @ corner, edge)]:
            side = neighbour - (neighbour @ corner) * corner
            side /= np.linalg.norm(side)
            frames.append((n, np.stack([corner, side, np.cross(corner, side)], 1)))
    first = frames[0][1]
    return np.stack([frame @ first.T for _, frame in frames])


@cache
def permutations() -> np.ndarray:
    """(60, 10) the view that each view becomes under each of the rotations; opposite views count as the same."""
    cosines = np.einsum("vi,rij,wj->rvw", vertices(), rotations(), vertices()[:VIEWS])
    return cosines.argmax(1) % VIEWS


@cache
def orientations() -> np.ndarray:
    """(10, 3, 3) rotations of the camera system: the identity, then each as far from the previous ones as possible.

    The distance of two orientations is the smallest angle that turns one camera system into the other, over the 60
    rotations of the dodecahedron. Each orientation is the furthest of a uniform set of candidates (Shoemake's map of a
    Halton sequence).
    """
    u, v, w = qmc.Halton(3, scramble=False).random(CANDIDATES).T
    inner, outer = np.sqrt(1 - u), np.sqrt(u)
    v, w = 2 * np.pi * v, 2 * np.pi * w
    tried = np.stack([inner * np.sin(v), inner * np.cos(v), outer * np.sin(w), outer * np.cos(w)], 1).round(6)
    chosen = [np.array([0.0, 0.0, 0.0, 1.0])]
    nearest = np.full(CANDIDATES, -1.0)
    for _ in range(FIELDS - 1):
        turned = (Rotation.from_quat(chosen[-1]) * Rotation.from_matrix(rotations())).as_quat()
        nearest = np.maximum(nearest, np.abs(tried @ turned.T).max(1))
        chosen.append(tried[nearest.round(6).argmin()])
    return Rotation.from_quat(np.stack(chosen)).as_matrix()


@cache
def cameras() -> np.ndarray:
    """(10, 10, 3, 3) camera axes of each light field and view: to the right, upwards and towards the camera.

    Upwards is the direction towards the camera's first neighbour among the vertices.
    """
    corners = vertices()
    out = np.empty((FIELDS, VIEWS, 3, 3))
    edge = np.sort(np.round(corners @ corners.T, 9), axis=1)[0, -2]
    for n, corner in enumerate(corners[:VIEWS]):
        up = corners[np.isclose(corners @ corner, edge)][0]
        up = up - (up @ corner) * corner
        up /= np.linalg.norm(up)
        out[:, n] = np.stack([np.cross(up, corner), up, corner]) @ orientations().transpose(0, 2, 1)
    return out
