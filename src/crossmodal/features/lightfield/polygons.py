"""Meshes of polygons, and triangulation that covers exactly the polygons.

trimesh cuts each polygon into a fan from its first vertex, which fills the notches of non-convex polygons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmodal.core import limits
from crossmodal.features.lightfield.meshfiles import Corners

FLAT = 1e-12  # area relative to the squared extent below which a polygon counts as empty
WORK = 10  # non-convex faces of `limits.corners` corners that may be cut, or as many smaller ones as take their time
AT_ONCE = 2**16  # corners whose convexity is checked at once
CLOSE = 1e-6  # relative difference of areas that is attributed to rounding


@dataclass(frozen=True)
class Polygons:
    """A mesh whose faces have any number of corners."""

    vertices: np.ndarray  # (V, 3) float64
    corners: np.ndarray  # (sum of counts,) int64 vertex numbers of all faces, concatenated
    counts: np.ndarray  # (F,) int64 number of corners of each face, at least 3


class CutError(ValueError):
    """A file is truncated: it holds less than its header states."""


class Faces:
    """The faces of a mesh as they are read."""

    def __init__(self):
        self.corners: list[np.ndarray] = []
        self.counts: list[np.ndarray] = []
        self.bounded = Corners()

    def __len__(self) -> int:
        return sum(map(len, self.counts))

    def add(self, counts: np.ndarray) -> None:
        """Check the numbers of corners of the next faces, whose `corners` are appended after that."""
        self.bounded.check(counts, len(self))
        self.counts.append(counts)

    def with_vertices(self, vertices: list[np.ndarray]) -> Polygons:
        """The mesh without faces of fewer than three corners, which cover nothing."""
        corners, counts, points = (joined(parts) for parts in (self.corners, self.counts, vertices))
        if len(counts) and counts.min() < 3:
            corners, counts = corners[np.repeat(counts > 2, counts)], counts[counts > 2]
        return Polygons(points.astype(np.float64, copy=False).reshape(-1, 3), corners, counts)


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts one after the other."""
    return np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else np.empty(0, np.int64)


def spans(begins: np.ndarray, counts: np.ndarray, step: int = 1) -> np.ndarray:
    """The numbers from each of `begins` on in steps, `counts` of each, concatenated."""
    return np.arange(counts.sum()) * step + np.repeat(begins - (np.cumsum(counts) - counts) * step, counts)


# -- triangles --------------------------------------------------------------------------------------------------------


def triangles(mesh: Polygons) -> np.ndarray:
    """(T, 3) int64 vertices of triangles that cover the faces.

    A convex face is cut into a fan, any other by ear clipping.

    Raises
    ------
    ValueError : the outline of a face crosses itself.
    """
    if 3 * len(mesh.counts) == len(mesh.corners):  # no face has fewer
        return mesh.corners.reshape(-1, 3)
    parts: list[tuple[np.ndarray, np.ndarray]] = []  # numbers of faces, and their triangles
    starts = np.cumsum(mesh.counts) - mesh.counts
    work = 0
    for count in np.unique(mesh.counts):
        numbers = np.flatnonzero(mesh.counts == count)
        faces = mesh.corners[starts[numbers, None] + np.arange(count)]
        fan = np.stack([np.repeat(faces[:, :1], count - 2, 1), faces[:, 1:-1], faces[:, 2:]], axis=2)
        if count > 3:
            step = max(1, AT_ONCE // int(count))
            parted = [_convex(mesh.vertices, faces[start : start + step]) for start in range(0, len(faces), step)]
            others = np.flatnonzero(~np.concatenate(parted))
            work += len(others) * int(count) ** 2  # the time that ear clipping takes grows with it
            if work > WORK * limits.current().corners ** 2:
                raise ValueError(
                    f"it has too many faces that are not convex, {len(others):,} of them with {count} corners "
                    "(`limits.corners` in params.yaml)"
                )
            for place in others:
                fan[place] = _ears(mesh.vertices, faces[place], int(numbers[place]))
        if len(numbers) == len(mesh.counts):  # they are in order
            return fan.reshape(-1, 3)
        parts.append((np.repeat(numbers, count - 2), fan.reshape(-1, 3)))
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
