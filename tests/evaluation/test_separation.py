import numpy as np
import pytest

from crossmodal.evaluation import separation

RNG = np.random.default_rng(0)


def test_cosines():
    found = separation.cosines(np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]]), np.array([[0, 1], [2, 2], [0, -1]]))
    np.testing.assert_allclose(found, [0, 1, -1], atol=1e-12)


def test_the_cosine_of_nothing_is_0():
    found = separation.cosines(
        np.array([[0.0, 0.0], [1e-3, 0.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [1e-3, 0], [4, 3]])
    )
    np.testing.assert_allclose(found, [0, 1, 0.96], rtol=1e-9)


def test_the_silhouette_is_rousseeuws():
    a, b = RNG.normal(size=(5, 3)), RNG.normal(size=(7, 3)) + 1

    def distance(x, y):
        return np.sqrt(((x - y) ** 2).sum())

    values = []
    for own, other in ((a, b), (b, a)):
        for i, x in enumerate(own):
            near = np.mean([distance(x, y) for j, y in enumerate(own) if j != i])
            far = np.mean([distance(x, y) for y in other])
            values.append((far - near) / max(near, far))
    assert separation.silhouette([a, b]) == pytest.approx(np.mean(values))
    assert separation.silhouette([a, a + 100]) > 0.95


def test_the_plane_keeps_distances_of_points_in_a_plane():
    flat = RNG.normal(size=(9, 2)) * [3, 1]
    axes = np.linalg.qr(RNG.normal(size=(6, 2)))[0]
    found = separation.plane(flat @ axes.T + 5)

    def gaps(points):
        return np.linalg.norm(points[:, None] - points[None], axis=2)

    np.testing.assert_allclose(gaps(found), gaps(flat), atol=1e-9)
    assert found[:, 0].var() > found[:, 1].var()
    assert separation.plane(np.arange(4.0)[:, None]).shape == (4, 2)


def test_the_plane_has_the_larger_share_to_the_right():
    """Axes by how far points lie apart along them, and the farthest point of each at a positive place."""
    points = np.array([[0.0, 0.0], [0.0, 1.0], [-9.0, 0.0], [0.0, -2.0]])
    for turned in (points, -points, 3 + points):
        found = separation.plane(turned)
        assert np.abs(found).argmax(0).tolist() == [2, 3]
        assert (found[[2, 3], [0, 1]] > 0).all()
    assert separation.plane(np.zeros((3, 3))).tolist() == [[0, 0]] * 3


def test_ranks_of_own():
    real = np.array([0.0, 10.0, 20.0])[:, None, None]
    made = np.array([1.0, 19.0, 5.0])[:, None, None]
    assert separation.ranks_of_own(made, real).tolist() == [1, 2, 3]  # 5 is as far from 0 as from 10; 20 is its own
    made, real = RNG.normal(size=(2, 12, 2, 3))
    gaps = ((made[:, None] - real[None]) ** 2).sum((2, 3))
    assert separation.ranks_of_own(made, real).tolist() == [1 + (row < row[i]).sum() for i, row in enumerate(gaps)]
    same = np.zeros((3, 2))
    assert separation.ranks_of_own(same, same).tolist() == [3, 3, 3]  # ties count against


def test_numbers():
    e = np.eye(4)
    image = {"modal": e[[0, 0, 0]], "semantic": e[[0, 1, 2]], "specific": e[[1, 2, 3]]}
    text = {"modal": e[[3, 3, 3]], "semantic": e[[0, 1, 2]], "specific": -e[[0, 1, 2]]}
    found = separation.numbers({"image": image, "text": text})
    assert found["image_cosine"] == found["image_abs_cosine"] == 0
    assert (found["text_cosine"], found["text_abs_cosine"]) == (-1, 1)
    assert found["modal_silhouette"] == 1
    assert found["semantic_silhouette"] < 0  # each lies on its pair's
