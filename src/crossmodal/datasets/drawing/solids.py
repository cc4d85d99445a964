"""Solids made of triangles: lofts (limbs, bodies, hulls, bells), boxes, plates and rings, with outward faces.

The x axis points forwards, y to the left, z up. A solid is a `Part`: its triangles and its paint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

Triple = Sequence[float]


@dataclass(frozen=True)
class Part:
    """A solid: `vertices` (V, 3), `faces` (F, 3) of vertex numbers, and the name of its paint."""

    vertices: np.ndarray
    faces: np.ndarray
    paint: str = "main"

    def moved(self, by: Triple = (0, 0, 0), turn: np.ndarray | None = None, about: Triple = (0, 0, 0)) -> Part:
        """The part, turned by the (3, 3) matrix `turn` about a point and then moved."""
        vertices = self.vertices
        if turn is not None:
            vertices = (vertices - about) @ turn.T + about
        return replace(self, vertices=vertices + np.asarray(by, float))

    def mirrored(self) -> Part:
        """The part mirrored to the other side (y to -y)."""
        return replace(self, vertices=self.vertices * [1, -1, 1], faces=self.faces[:, ::-1])


def turn(axis: str, angle: float) -> np.ndarray:
    """(3, 3) rotation matrix by `angle` radians about an axis, counter-clockwise as seen from its tip."""
    cos, sin = np.cos(angle), np.sin(angle)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = cos
    matrix[i, j], matrix[j, i] = -sin, sin
    return matrix


@cache
def _sides(rings: int, n: int, closed: bool = False) -> np.ndarray:
    """Faces between consecutive rings of n vertices; `closed` joins the last ring to the first."""
    first = np.arange(rings if closed else rings - 1)[:, None] * n
    k = np.arange(n)
    a, b = first + k, first + (k + 1) % n
    c, d = (a + n) % (rings * n), (b + n) % (rings * n)
    return np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)], 1).reshape(-1, 3)


@cache
def _capped(rings: int, n: int) -> np.ndarray:
    """Faces of `_sides` and of the two ends, whose middles are the last two vertices."""
    k, middle = np.arange(n), rings * n
    first = np.stack([np.full(n, middle), (k + 1) % n, k], 1)
    last = np.stack([np.full(n, middle + 1), middle - n + k, middle - n + (k + 1) % n], 1)
    return np.concatenate([_sides(rings, n), first, last])


@cache
def _circle(n: int) -> tuple[np.ndarray, np.ndarray]:
    angle = 2 * np.pi * np.arange(n) / n
    return np.cos(angle)[:, None], np.sin(angle)[:, None]


def loft(points: Sequence[Triple], radii: Sequence[float], *, flat: float = 1.0, n: int = 10, paint: str = "main"):
    """A solid of rings with `radii` around `points`, joined and capped, for limbs, cones and bodies of revolution.

    Parameters
    ----------
    flat : ratio of the radius in the horizontal direction across the path to the other radius.
    n : number of vertices per ring.
    """
    centres = np.asarray(points, float)
    radius = np.maximum(np.asarray(radii, float), 1e-4)
    x, y, z = (centres[-1] - centres[0]).tolist()
    length = math.sqrt(x * x + y * y + z * z) or 1.0
    x, y, z = x / length, y / length, z / length
    # The direction across the path is horizontal, unless the path itself is upright.
    side = np.array([-y, x, 0.0] if abs(z) < 0.9 else [0.0, -z, y])
    side /= math.sqrt(float(side @ side))
    u, v, w = side.tolist()
    up = np.array([y * w - z * v, z * u - x * w, x * v - y * u])
    cos, sin = _circle(n)
    rings = centres[:, None] + radius[:, None, None] * (cos * side * flat + sin * up)
    vertices = np.concatenate([rings.reshape(-1, 3), centres[:1], centres[-1:]])
    return Part(vertices, _capped(len(centres), n), paint)


def ellipsoid(centre: Triple, half: Triple, *, rings: int = 7, n: int = 10, paint: str = "main") -> Part:
    """An ellipsoid with the semi-axes `half`."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings)
    unit = loft([(s, 0, 0) for s in np.sin(angle)], np.cos(angle), n=n, paint=paint)
    return replace(unit, vertices=unit.vertices * np.asarray(half, float) + np.asarray(centre, float))


def limb(start: Triple, end: Triple, thick: float, thin: float | None = None, *, n: int = 8, paint: str = "main"):
    """A straight limb from `start` to `end` with the radii `thick` at its start and `thin` (or `thick`) at its end."""
    return loft([start, end], [thick, thick if thin is None else thin], n=n, paint=paint)


def box(centre: Triple, size: Triple, *, paint: str = "main") -> Part:
    """A box with edge lengths `size`; each side has four squares, so that painting in the order of distance works."""
    corner = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], float)
    faces = []
    for axis in range(3):
        for sign in (-1, 1):
            u, v = [a for a in range(3) if a != axis]
            for du in (-1, 0):
                for dv in (-1, 0):
                    square = []
                    for pu, pv in ((du, dv), (du + 1, dv), (du + 1, dv + 1), (du, dv + 1)):
                        place = [0, 0, 0]
                        place[axis], place[u], place[v] = sign, pu, pv
                        square.append((place[0] + 1) * 9 + (place[1] + 1) * 3 + place[2] + 1)
                    if (sign > 0) == (axis == 1):
                        square = square[::-1]
                    faces += [(square[0], square[1], square[2]), (square[0], square[2], square[3])]
    return Part(corner * np.asarray(size, float) / 2 + np.asarray(centre, float), np.array(faces), paint)


def plate(outline: Sequence[Sequence[float]], thick: float, *, paint: str = "main") -> Part:
    """A flat plate in the x-y plane with a counter-clockwise outline that is star-shaped about its mean."""
    flat = np.asarray(outline, float)
    n = len(flat)
    centre = flat.mean(0)
    lower = np.column_stack([flat, np.full(n, -thick / 2)])
    upper = np.column_stack([flat, np.full(n, thick / 2)])
    vertices = np.concatenate([lower, upper, [[*centre, -thick / 2]], [[*centre, thick / 2]]])
    k = np.arange(n)
    below = np.stack([np.full(n, 2 * n), (k + 1) % n, k], 1)
    above = np.stack([np.full(n, 2 * n + 1), n + k, n + (k + 1) % n], 1)
    return Part(vertices, np.concatenate([_sides(2, n), below, above]), paint)


def ring(centre: Triple, radius: float, thick: float, *, n: int = 16, m: int = 6, paint: str = "main") -> Part:
    """A torus upright in the x-z plane, like a wheel."""
    a, b = 2 * np.pi * np.arange(n) / n, 2 * np.pi * np.arange(m) / m
    reach = radius + thick * np.cos(b)[None]
    x, z = reach * np.cos(a)[:, None], reach * np.sin(a)[:, None]
    y = np.broadcast_to(thick * np.sin(b)[None], x.shape)
    vertices = np.stack([x, y, z], -1).reshape(-1, 3) + np.asarray(centre, float)
    return Part(vertices, _sides(n, m, closed=True), paint)


def wheel(centre: Triple, radius: float, width: float, *, n: int = 12, paint: str = "black") -> Part:
    """A disc upright in the x-z plane."""
    x, y, z = centre
    return loft([(x, y - width / 2, z), (x, y + width / 2, z)], [radius, radius], n=n, paint=paint)


def joined(parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) vertices and (F, 3) faces of all parts, joined."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    vertices = np.concatenate([part.vertices for part in parts])
    return vertices, np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])
