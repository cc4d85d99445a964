"""The cameras of a LightField as a geometry and as a group."""

from __future__ import annotations

import numpy as np

from crossmodal.features.lightfield import dodecahedron


def test_vertices_of_a_regular_dodecahedron():
    corners = dodecahedron.vertices()
    np.testing.assert_allclose(np.linalg.norm(corners, axis=1), 1)
    np.testing.assert_allclose(corners[10:], -corners[:10])
    cosines = np.sort(corners @ corners.T, axis=1)[:, ::-1]
    # itself, 3 neighbours at acos(sqrt(5) / 3), 6 at acos(1 / 3), and the same behind
    half = [1, *[5**0.5 / 3] * 3, *[1 / 3] * 6]
    np.testing.assert_allclose(cosines, np.tile(half + [-c for c in half[::-1]], (20, 1)), atol=1e-12)


def test_the_sixty_rotations_are_a_group():
    turns = dodecahedron.rotations()
    assert turns.shape == (60, 3, 3)
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (60, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    # The rotations of an icosahedron: 1 of order 1, 15 of order 2, 20 of order 3, 24 of order 5.
    angles = np.degrees(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    kinds = dict(zip(*np.unique(angles.round(3), return_counts=True), strict=True))
    assert kinds == {0: 1, 72: 12, 120: 20, 144: 12, 180: 15}
    corners = dodecahedron.vertices()
    for turn in turns:
        moved = corners @ turn.T
        assert np.isclose(moved[:, None], corners).all(2).sum() == 20  # every vertex comes upon one


def test_permutations_are_those_of_the_rotations():
    places = dodecahedron.permutations()
    assert sorted(map(tuple, places))[0] != sorted(map(tuple, places))[1]
    known = {tuple(p) for p in places}
    assert len(known) == 60
    assert all(sorted(p) == list(range(10)) for p in known)
    assert tuple(range(10)) in known
    for p in places:
        assert tuple(np.argsort(p)) in known
        assert all(tuple(p[q]) in known for q in places)
    corners, turns = dodecahedron.vertices(), dodecahedron.rotations()
    for turn, p in zip(turns, places, strict=True):
        cosines = (corners[:10] @ turn.T * corners[p]).sum(1)
        np.testing.assert_allclose(np.abs(cosines), 1)


def test_orientations_are_far_from_each_other():
    ways = dodecahedron.orientations()
    np.testing.assert_allclose(ways[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(ways), 1)
    between = np.einsum("aji,bjk,gki->abg", ways, ways, dodecahedron.rotations())
    angles = np.degrees(np.arccos(np.clip((between.max(2) - 1) / 2, -1, 1)))
    assert angles[~np.eye(10, dtype=bool)].min() > 24  # no two can be further than 44.5


def test_cameras_look_at_the_middle_from_one_of_each_pair():
    axes = dodecahedron.cameras()
    assert axes.shape == (10, 10, 3, 3)
    np.testing.assert_allclose(axes @ axes.swapaxes(2, 3), np.tile(np.eye(3), (10, 10, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(axes), 1)
    np.testing.assert_allclose(axes[0, :, 2], dodecahedron.vertices()[:10], atol=1e-12)
    np.testing.assert_allclose(axes[3, :, 2], dodecahedron.vertices()[:10] @ dodecahedron.orientations()[3].T)
