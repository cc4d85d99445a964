"""Cuts the polygons of a mesh into triangles that cover exactly them: fans of convex polygons, ears of the others."""

from __future__ import annotations

import numpy as np

from crossmodal.core import limits
from crossmodal.features.lightfield.polygons import Polygons

FLAT = 1e-12  # area relative to the squared extent below which a polygon counts as empty
WORK = 10  # non-convex faces of `limits.corners` corners that may be cut, or as many smaller ones as take their time
CLOSE = 1e-6  # relative difference of areas that is attributed to rounding


def triangles(mesh: Polygons) -> np.ndarray:
    """(T, 3) int64 vertices of triangles that cover the faces.

    A convex face is cut into a fan, any other by ear clipping.

    Raises
    ------
    ValueError : the outline of a face crosses itself.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []  # numbers of faces, and their triangles
    starts = np.cumsum(mesh.counts) - mesh.counts
    work = 0
    for count in np.unique(mesh.counts):
        numbers = np.flatnonzero(mesh.counts == count)
        faces = mesh.corners[starts[numbers, None] + np.arange(count)]
        fan = np.stack([np.repeat(faces[:, :1], count - 2, 1), faces[:, 1:-1], faces[:, 2:]], axis=2)
        if count > 3:
            others = np.flatnonzero(~_convex(mesh.vertices, faces))
            work += len(others) * int(count) ** 2  # the time that ear clipping takes grows with it
            if work > WORK * limits.current().corners ** 2:
                raise ValueError(
                    f"it has too many faces that are not convex, {len(others):,} of them with {count} corners "
                    "(`limits.corners` in params.yaml)"
                )
            for place in others:
                fan[place] = _ears(mesh.vertices, faces[place], int(numbers[place]))
        parts.append((np.repeat(numbers, count - 2), fan.reshape(-1, 3)))
    if not parts:
        return np.empty((0, 3), np.int64)
    order = np.argsort(np.concatenate([numbers for numbers, _ in parts]), kind="stable")
    return np.concatenate([fan for _, fan in parts])[order]


def _convex(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) bool: whether each of (F, n) faces is covered by a fan, is empty, or has missing or non-finite vertices."""
    good = ((faces >= 0) & (faces < len(vertices))).all(1)
    if not len(vertices):
        return ~good
    points = vertices[np.where(good[:, None], faces, 0)]
    with np.errstate(over="ignore", invalid="ignore"):
        points = points - points.mean(1, keepdims=True)
        points = points / np.maximum(np.abs(points).max((1, 2), keepdims=True), 1e-300)
        edges = np.roll(points, -1, 1) - points
        normals = np.cross(points, np.roll(points, -1, 1)).sum(1)  # Newell's method; the length is twice the area
        turns = np.cross(edges, np.roll(edges, -1, 1)) @ normals[:, :, None]
        area = np.linalg.norm(normals, axis=1)
        fan = np.cross(points[:, 1:-1] - points[:, :1], points[:, 2:] - points[:, :1])
        covered = np.abs(fan @ normals[:, :, None])[..., 0].sum(1)
        once = covered <= area**2 * (1 + CLOSE)  # the triangles of the fan do not overlap
        # Non-finite vertices are reported elsewhere.
        finite = np.isfinite(area)
        return ~good | ~finite | (area < FLAT) | (once & (turns[..., 0] >= -CLOSE * area[:, None]).all(1))


def _ears(vertices: np.ndarray, face: np.ndarray, number: int) -> np.ndarray:
    """(n - 2, 3) triangles of a non-convex polygon by ear clipping in the plane of its Newell normal."""
    points = vertices[face] - vertices[face].mean(0)
    points = points / np.abs(points).max()
    normal = np.cross(points, np.roll(points, -1, 0)).sum(0)  # Newell's method; the length is twice the area
    area = float(np.linalg.norm(normal))
    first = np.cross(normal / area, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    flat = points @ np.stack([first, np.cross(normal / area, first)], axis=1)  # counter-clockwise
    left, cut = list(range(len(face))), []
    while len(left) > 3:
        corners = np.array(left)
        before, after = np.roll(corners, 1), np.roll(corners, -1)
        a, b, c = flat[before], flat[corners], flat[after]
        turn = _turn(a, b, c)
        for place in np.argsort(turn < -FLAT, kind="stable"):
            if turn[place] < -FLAT:
                raise ValueError(f"the outline of face {number} crosses itself")
            if turn[place] <= FLAT or not _holds(flat[corners], a[place], b[place], c[place]):
                cut.append([before[place], corners[place], after[place]])
                del left[place]
                break
        else:
            raise ValueError(f"the outline of face {number} crosses itself")
    cut.append(left)
    triangles = np.array(cut)
    covered = np.abs(_turn(*(flat[triangles[:, k]] for k in range(3)))).sum()
    if covered > area * (1 + CLOSE):
        raise ValueError(f"the outline of face {number} crosses itself")
    return face[triangles]


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles in the plane."""
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def _holds(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
    """Whether any of the points, other than its corners, lies in the triangle (a, b, c) or on its border."""
    others = points[~((points == a).all(1) | (points == b).all(1) | (points == c).all(1))]
    inside = (_turn(a, b, others) >= 0) & (_turn(b, c, others) >= 0) & (_turn(c, a, others) >= 0)
    return bool(inside.any())
