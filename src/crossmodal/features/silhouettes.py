"""Silhouettes of a mesh without a GPU: a rasteriser over the edges that form outlines, and the outlines' contours.

Vertices are brought to a grid of 1/64 pixel, as a graphics card does, so that everything after is exact: a pixel is
covered where its centre lies in a triangle (a left border counts, a right one does not). The mesh need not be closed,
nor its faces be turned in one way.

Each triangle adds, in each row of pixels, +1 where it begins and -1 where it ends; the running sum is above 0 where it
covers. Of two triangles that are neighbours in the picture the shares of their common edge cancel: only edges at
which the surface ends or turns back are drawn, a small part of them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, depth_first_order

SUB = 64  # grid points of a pixel
MOST = 2**15 // SUB  # pixels: products of two lengths in grid points fit into 32 bits, their difference as well


@dataclass(frozen=True)
class Edges:
    """The edges of a mesh, each once, and how its faces run along them."""

    ends: np.ndarray  # (E, 2) vertices
    along: csr_array  # (E, F) int16: +1 where a face runs from the first end to the second, else -1


def edges_of(faces: np.ndarray) -> Edges:
    """Edges of (F, 3) faces."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    low, high = np.minimum(start, end), np.maximum(start, end)
    keys, place = np.unique(low.astype(np.int64) * (int(faces.max()) + 1) + high, return_inverse=True)
    first, second = np.divmod(keys, int(faces.max()) + 1)
    face = np.repeat(np.arange(len(faces)), 3)
    signs = np.where(start < end, 1, -1).astype(np.int16)
    along = csr_array((signs, (place, face)), shape=(len(keys), len(faces)))
    return Edges(np.stack([first, second], 1), along)


def draw(points: np.ndarray, faces: np.ndarray, edges: Edges, out: np.ndarray) -> None:
    """Draw into (n, size, size) bool pictures, whose row 0 is at the bottom.

    Parameters
    ----------
    points : (2, V, n) int32, the vertices to the right and upwards in each of n pictures, in grid points from the
        lower left corner; all lie in the picture, which is at most `MOST` pixels wide.
    """
    size = out.shape[2]
    if size > MOST:
        raise ValueError(f"{size} pixels: at most {MOST} can be drawn exactly")
    x, y = points
    count = x.shape[1]
    a, b, c = np.ascontiguousarray(faces.T)
    xa, ya = x[a], y[a]
    turn = (x[b] - xa) * (y[c] - ya)
    turn -= (x[c] - xa) * (y[b] - ya)
    weight = (edges.along @ np.sign(turn).astype(np.int16)).ravel()  # (F, n) -> (E * n,): which side a face shows
    drawn = np.flatnonzero(weight != 0)
    edge, picture = np.divmod(drawn, count)
    first, second = edges.ends[edge].T
    x0, y0, x1, y1 = (points[axis, end, picture].astype(np.int64) for end in (first, second) for axis in (0, 1))
    # Rows whose centre lies in [lower end, upper end): an end that two edges share is counted for one of them.
    row0, row1 = -((SUB // 2 - y0) // SUB), -((SUB // 2 - y1) // SUB)
    rows = np.abs(row1 - row0)
    # A face that is seen counter-clockwise begins at its edges that run downwards.
    steps = np.where(y1 > y0, -weight[drawn], weight[drawn]).astype(np.int32)
    which = np.repeat(np.arange(len(rows)), rows)
    row = np.arange(len(which)) - np.repeat(np.cumsum(rows) - rows - np.minimum(row0, row1), rows)
    rise = (y1 - y0)[which]
    across = (x0[which] - SUB // 2) * rise + (row * SUB + SUB // 2 - y0[which]) * (x1 - x0)[which]
    column = -(-across // (rise * SUB))  # the first pixel whose centre is not to the left of the edge
    covered = np.zeros(count * size * size, np.int32)
    np.add.at(covered, (picture[which] * size + row) * size + column, steps[which])
    # Every row's steps add up to nothing, so one running sum does for all of them.
    np.greater(np.cumsum(covered, out=covered).reshape(out.shape), 0, out=out)


@dataclass(frozen=True)
class Contours:
    """The closed lines around the pixels of several pictures, along pixels' sides, the inside on the left."""

    x: np.ndarray  # (K,) where each side begins, in pixels, in the order in which they follow each other
    y: np.ndarray
    direction: np.ndarray  # (K,) 0 right, 1 up, 2 left, 3 down
    first: np.ndarray  # (L,) index of each line's first side
    picture: np.ndarray  # (L,) the picture that a line lies in, rising

    @property
    def last(self) -> np.ndarray:
        """(L,) index after each line's last side."""
        return np.append(self.first, len(self.x))[1:]

    @property
    def middles(self) -> tuple[np.ndarray, np.ndarray]:
        """(K,) and (K,) middles of the sides."""
        return self.x + DX[self.direction] / 2, self.y + DY[self.direction] / 2


RIGHT, UP, LEFT, DOWN = range(4)
DX, DY = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])


def contours(pictures: np.ndarray) -> Contours:
    """Contours of (n, s, s) bool pictures with empty borders; pixels that touch at a corner hang together."""
    size = pictures.shape[2]
    flat = pictures.ravel()
    # A side is known by the pixel it belongs to and by its direction. Nothing lies at the border, so nothing wraps.
    beside, above = np.flatnonzero(flat[1:] != flat[:-1]), np.flatnonzero(flat[size:] != flat[:-size])
    inside, under = flat[beside], flat[above]
    places = (above[~under] + size, beside[inside], above[under], beside[~inside] + 1)
    place, way = np.concatenate(places), np.repeat(np.arange(4), [len(part) for part in places])
    if not len(place):
        none = np.zeros(0, np.int64)
        return Contours(none, none, none, none, none)
    ahead = np.array([1, size, -1, -size])[way]  # the next pixel along the side
    outer = np.array([-size, 1, size, -1])[way]  # the empty pixel across the side
    concave = flat[place + ahead + outer]  # the line turns right, around the corner of a pixel that touches
    straight = ~concave & flat[place + ahead]
    following = np.where(concave, place + ahead + outer, np.where(straight, place + ahead, place))
    onwards = np.where(concave, way - 1, np.where(straight, way, way + 1)) % 4
    follows = np.searchsorted(way * flat.size + place, onwards * flat.size + following)
    order, first = _in_lines(follows)  # every line has sides to the right, which are numbered first, by place
    place, way = place[order], way[order]
    picture, row, column = np.unravel_index(place, pictures.shape)
    # A pixel's lower side runs to the right from its lower left corner, and so on around it.
    x, y = column + np.array([0, 1, 1, 0])[way], row + np.array([0, 0, 1, 1])[way]
    return Contours(x, y, way, first, picture[first])


def _in_lines(follows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) order in which closed lines visit their sides, one line after another, and where in it each line begins.

    Parameters
    ----------
    follows : (K,) the side after each side. Lines come, and begin, in the order of their least sides.

    The lines are cut open and joined to one, which a depth-first search walks in compiled code.
    """
    count = len(follows)
    numbers, follows = np.arange(count + 1, dtype=np.int32), follows.astype(np.int32)
    graph = csr_array((np.ones(count), follows, numbers), shape=(count, count))
    lines, line = connected_components(graph, connection="strong")
    begin = np.empty(lines, np.int32)
    begin[line[::-1]] = numbers[-2::-1]  # the least is written last
    begin.sort()
    before = np.empty(count, np.int32)
    before[follows] = numbers[:-1]
    joined = follows.copy()
    joined[before[begin]] = np.roll(begin, -1)
    graph = csr_array((np.ones(count), joined, numbers), shape=(count, count))
    order = depth_first_order(graph, begin[0], return_predecessors=False)
    sizes = np.bincount(line)[line[begin]]
    return order, np.cumsum(sizes) - sizes
