"""Silhouettes of a mesh without a GPU: a rasteriser of the edges that form outlines, and the contours of silhouettes.

Vertices are rounded to a grid of 1/64 pixel, as on a graphics card, so that all later steps are exact. A pixel is
covered if its centre lies in a triangle (a left border counts, a right one does not). The mesh need not be closed, and
its faces need not be oriented consistently.

In each row of pixels, each triangle adds +1 where it begins and -1 where it ends; covered pixels are those with a
positive running sum. The contributions of two neighbouring triangles to their common edge cancel, so that only edges at
which the surface ends or turns back are drawn, which are few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, depth_first_order

from crossmodal.core import limits
from crossmodal.core.errors import UserError

SUB = 64  # grid points per pixel
VIEWED = 100  # pictures of a mesh
AT_ONCE = 2**20  # rows of edges that are drawn at once
MOST = 2**15 // SUB  # pixels; products of two lengths in grid points and their differences must fit into 32 bits


@dataclass(frozen=True)
class Edges:
    """The unique edges of a mesh, and the direction in which its faces run along them."""

    ends: np.ndarray  # (E, 2) vertex numbers
    along: csr_array  # (E, F) int16: +1 if a face of the edge runs from its first end to its second, -1 if backwards


def edges_of(faces: np.ndarray) -> Edges:
    """The edges of (F, 3) triangles."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    low, high = np.minimum(start, end), np.maximum(start, end)
    keys, place = np.unique(low.astype(np.int64) * (int(faces.max()) + 1) + high, return_inverse=True)
    first, second = np.divmod(keys, int(faces.max()) + 1)
    face = np.repeat(np.arange(len(faces)), 3)
    signs = np.where(start < end, 1, -1).astype(np.int16)
    along = csr_array((signs, (place, face)), shape=(len(keys), len(faces)))
    return Edges(np.stack([first, second], 1), along)


def draw(points: np.ndarray, faces: np.ndarray, edges: Edges, out: np.ndarray) -> None:
    """Draw the silhouettes of a mesh in n views into the bool pictures `out`, whose row 0 is at the bottom.

    Parameters
    ----------
    points : (2, V, n) int32 horizontal and vertical positions of the vertices in each of the n pictures, in grid points
        from the lower left corner; all vertices lie in the picture.
    faces : (F, 3) triangles.
    edges : `edges_of` the faces.
    out : (n, size, size) bool pictures to draw into.

    Raises
    ------
    ValueError : the pictures are wider than `MOST` pixels.
    UserError : edges cross so many rows of pixels that all pictures of the mesh would exceed `limits.outline`.
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
    # (E * n,): the sum over the faces of an edge, by their visible side; it is 0 where no outline can be.
    weight = (edges.along @ np.sign(turn).astype(np.int16)).ravel()
    drawn = np.flatnonzero(weight != 0)
    edge, picture = np.divmod(drawn, count)
    first, second = edges.ends[edge].T
    x0, y0, x1, y1 = (points[axis, end, picture].astype(np.int64) for end in (first, second) for axis in (0, 1))
    # Rows whose centre lies in [lower end, upper end), so that an end shared by two edges counts once.
    row0, row1 = -((SUB // 2 - y0) // SUB), -((SUB // 2 - y1) // SUB)
    rows, lowest = np.abs(row1 - row0), np.minimum(row0, row1)
    # A face whose corners appear counter-clockwise begins at the edges that run downwards.
    steps = np.where(y1 > y0, -weight[drawn], weight[drawn]).astype(np.int32)
    covered = np.zeros(count * size * size, np.int32)
    dx, dy, ends, begin = x1 - x0, y1 - y0, np.cumsum(rows), 0
    if len(ends) and (total := int(ends[-1]) * VIEWED // count) > (most := limits.current().outline):
        raise UserError(
            f"edges that cross {total:,} rows of its pictures, expected at most {most:,} (`limits.outline` in "
            "params.yaml); join its triangles, or simplify it"
        )
    while begin < len(rows):  # a part at a time, since long edges have hundreds of rows each
        stop = max(begin + 1, int(np.searchsorted(ends, (ends[begin - 1] if begin else 0) + AT_ONCE, side="right")))
        part = slice(begin, stop)
        which = np.repeat(np.arange(begin, stop), rows[part])
        row = np.arange(len(which)) - np.repeat(np.cumsum(rows[part]) - rows[part] - lowest[part], rows[part])
        rise = dy[which]
        across = (x0[which] - SUB // 2) * rise + (row * SUB + SUB // 2 - y0[which]) * dx[which]
        column = -(-across // (rise * SUB))  # the first pixel whose centre is not to the left of the edge
        np.add.at(covered, (picture[which] * size + row) * size + column, steps[which])
        begin = stop
    # The steps of every row sum to zero, so that one running sum serves all rows.
    np.greater(np.cumsum(covered, out=covered).reshape(out.shape), 0, out=out)


@dataclass(frozen=True)
class Contours:
    """Closed contours of the silhouettes in several pictures, which follow pixel sides with the inside on the left."""

    x: np.ndarray  # (K,) start of each side in pixels; the sides of a contour are consecutive
    y: np.ndarray
    direction: np.ndarray  # (K,) 0 right, 1 up, 2 left, 3 down
    first: np.ndarray  # (L,) index of each contour's first side
    picture: np.ndarray  # (L,) number of each contour's picture, in increasing order

    @property
    def last(self) -> np.ndarray:
        """(L,) index after each contour's last side."""
        return np.append(self.first, len(self.x))[1:]

    @property
    def middles(self) -> tuple[np.ndarray, np.ndarray]:
        """(K,) x and (K,) y of the middles of the sides."""
        return self.x + DX[self.direction] / 2, self.y + DY[self.direction] / 2


RIGHT, UP, LEFT, DOWN = range(4)
DX, DY = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])


def contours(pictures: np.ndarray) -> Contours:
    """Contours of (n, s, s) bool pictures with empty borders; pixels that touch at a corner count as connected."""
    size = pictures.shape[2]
    flat = pictures.ravel()
    # A side is identified by its pixel and its direction; no index wraps around, since borders are empty.
    left, above = np.flatnonzero(flat[1:] != flat[:-1]), np.flatnonzero(flat[size:] != flat[:-size])
    inside, under = flat[left], flat[above]
    places = (above[~under] + size, left[inside], above[under], left[~inside] + 1)
    place, way = np.concatenate(places), np.repeat(np.arange(4), [len(part) for part in places])
    if not len(place):
        none = np.zeros(0, np.int64)
        return Contours(none, none, none, none, none)
    ahead = np.array([1, size, -1, -size])[way]  # the next pixel along the side
    outer = np.array([-size, 1, size, -1])[way]  # the empty pixel across the side
    concave = flat[place + ahead + outer]  # the contour turns right, at the diagonally adjacent pixel
    straight = ~concave & flat[place + ahead]
    following = np.where(concave, place + ahead + outer, np.where(straight, place + ahead, place))
    onwards = np.where(concave, way - 1, np.where(straight, way, way + 1)) % 4
    follows = np.searchsorted(way * flat.size + place, onwards * flat.size + following)
    order, first = _in_lines(follows)  # every contour has sides to the right, which are numbered first, by pixel
    place, way = place[order], way[order]
    picture, row, column = np.unravel_index(place, pictures.shape)
    # The lower side of a pixel starts at its lower left corner; the other sides follow counter-clockwise.
    x, y = column + np.array([0, 1, 1, 0])[way], row + np.array([0, 0, 1, 1])[way]
    return Contours(x, y, way, first, picture[first])


def _in_lines(follows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) sides in the order of the contours that they form, and (L,) positions in it at which each contour begins.

    Contours are ordered by, and begin at, their lowest side. They are cut open and joined to one line, which a
    depth-first search walks in compiled code.

    Parameters
    ----------
    follows : (K,) the side that follows each side.
    """
    count = len(follows)
    numbers, follows = np.arange(count + 1, dtype=np.int32), follows.astype(np.int32)
    graph = csr_array((np.ones(count), follows, numbers), shape=(count, count))
    lines, line = connected_components(graph, connection="strong")
    begin = np.empty(lines, np.int32)
    begin[line[::-1]] = numbers[-2::-1]  # the lowest number is written last and remains
    begin.sort()
    before = np.empty(count, np.int32)
    before[follows] = numbers[:-1]
    joined = follows.copy()
    joined[before[begin]] = np.roll(begin, -1)
    graph = csr_array((np.ones(count), joined, numbers), shape=(count, count))
    order = depth_first_order(graph, begin[0], return_predecessors=False)
    sizes = np.bincount(line)[line[begin]]
    return order, np.cumsum(sizes) - sizes
