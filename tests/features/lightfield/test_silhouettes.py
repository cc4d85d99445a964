"""The rasteriser against a literal test of every pixel and triangle; contours against SciPy's labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from crossmodal.features.lightfield import silhouettes
from crossmodal.features.lightfield.silhouettes import SUB


def draw(points: np.ndarray, faces: np.ndarray, size: int) -> np.ndarray:
    """One picture of (V, 2) grid points."""
    out = np.empty((1, size, size), bool)
    points = np.ascontiguousarray(points.T[:, :, None].astype(np.int32))
    silhouettes.draw(points, faces, silhouettes.edges_of(faces), out)
    return out[0]


def literally(points: np.ndarray, faces: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels whose centre lies within a triangle, without and with its border."""
    inner, outer = np.zeros((2, size, size), bool)
    for row in range(size):
        for column in range(size):
            p = np.array([column * SUB + SUB // 2, row * SUB + SUB // 2])
            for a, b, c in points[faces].astype(np.int64):
                sides = [np.linalg.det([v - u, p - u]) for u, v in ((a, b), (b, c), (c, a))]
                sides = np.round(sides).astype(np.int64) * int(np.sign(np.round(np.linalg.det([b - a, c - a]))))
                if np.linalg.det([b - a, c - a]) == 0:
                    continue
                inner[row, column] |= bool((sides > 0).all())
                outer[row, column] |= bool((sides >= 0).all())
    return inner, outer


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("step", [1, SUB // 2])  # with the latter, vertices and edges lie on pixels' centres
def test_every_pixel_as_if_tested_by_hand(seed, step):
    rng = np.random.default_rng(seed)
    points = rng.integers(SUB, 11 * SUB, (9, 2)) // step * step
    faces = rng.integers(0, 9, (7, 3))  # crossing, doubled and empty ones, turned in both ways
    inner, outer = literally(points, faces, 12)
    found = draw(points, faces, 12)
    assert (found | ~inner).all()
    assert (outer | ~found).all()


def test_a_pixel_on_a_border_belongs_to_one_side():
    """A square from pixel centre to pixel centre, in two, four and many triangles, is 8 x 8 pixels for each."""
    low, high = SUB + SUB // 2, 9 * SUB + SUB // 2
    corners = [(low, low), (high, low), (high, high), (low, high), (5 * SUB + 7, 4 * SUB + 3)]
    for faces in ([(0, 1, 2), (0, 2, 3)], [(0, 1, 3), (3, 2, 1)], [(4, n, (n + 1) % 4) for n in range(4)]):
        found = draw(np.array(corners), np.array(faces), 12)
        assert found.sum() == 64
        assert found[1:9, 1:9].all()


def test_several_pictures_at_once():
    rng = np.random.default_rng(5)
    points = rng.integers(SUB, 31 * SUB, (2, 20, 6)).astype(np.int32)
    faces = rng.integers(0, 20, (15, 3))
    out = np.empty((6, 32, 32), bool)
    silhouettes.draw(points, faces, silhouettes.edges_of(faces), out)
    for n in range(6):
        np.testing.assert_array_equal(out[n], draw(points[:, :, n].T, faces, 32))


def test_only_outlines_are_drawn():
    """A surface over a plane has no edges inside: all but its border cancel."""
    x, y = np.meshgrid(np.arange(6), np.arange(6))
    points = np.stack([x.ravel(), y.ravel()], 1) * 3 * SUB + 5 * SUB
    square = np.array([(r * 6 + c, r * 6 + c + 1, r * 6 + c + 7, r * 6 + c + 6) for r in range(5) for c in range(5)])
    faces = np.concatenate([square[:, [0, 1, 2]], square[:, [3, 2, 0]]])
    edges = silhouettes.edges_of(faces)
    assert len(edges.ends) == 85
    turn = np.ones(50, np.int16)
    turn[25:] = -1  # the second halves run the other way
    assert np.count_nonzero(edges.along @ turn) == 20
    assert draw(points, faces, 32).sum() == 15 * 15


def test_pictures_too_large_to_be_exact():
    with pytest.raises(ValueError, match="at most 512"):
        draw(np.zeros((3, 2)), np.array([[0, 1, 2]]), 513)


def blobs(count: int = 3, size: int = 40) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(count, size, size))
    pictures = ndimage.gaussian_filter(noise, (0, 1, 1)) > 0.05
    pictures[:, [0, -1]] = pictures[:, :, [0, -1]] = False
    return pictures


def test_contours_go_around_parts_and_holes():
    pictures = blobs()
    lines = silhouettes.contours(pictures)
    dx, dy = silhouettes.DX[lines.direction], silhouettes.DY[lines.direction]
    for first, last in zip(lines.first, lines.last, strict=True):
        x, y = lines.x[first:last], lines.y[first:last]
        np.testing.assert_array_equal(np.roll(x, -1), x + dx[first:last])  # each side ends where the next begins
        np.testing.assert_array_equal(np.roll(y, -1), y + dy[first:last])
    areas = np.add.reduceat(lines.x * dy, lines.first)
    for n, picture in enumerate(pictures):
        mine = areas[lines.picture == n]
        assert mine.sum() == picture.sum()
        assert (mine > 0).sum() == ndimage.label(picture, np.ones((3, 3)))[1]
        assert (mine < 0).sum() == ndimage.label(~picture)[1] - 1
    sides = sum((pictures != np.roll(pictures, 1, axis)).sum() for axis in (1, 2))
    assert len(lines.x) == sides


def test_contours_of_nothing():
    lines = silhouettes.contours(np.zeros((2, 5, 5), bool))
    assert len(lines.x) == len(lines.first) == len(lines.last) == 0
