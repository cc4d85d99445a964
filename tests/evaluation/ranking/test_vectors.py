"""Products and what they are compared by: within their proven distance of the exact sums, whatever the dimensions."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from crossmodal.evaluation.ranking import vectors
from crossmodal.evaluation.ranking.vectors import Vectors

DIMS = [1, 63, 64, 65, 300, 384, 385, 1000, 1024, 3001]


def sides(dim, kind):
    rng = np.random.default_rng(dim)
    x, y = rng.standard_normal((2, 7, dim))
    if kind == "positive":  # nothing cancels: errors are as large as sums allow
        x, y = np.abs(x), np.abs(y)
    elif kind == "cancelling":  # sums are next to nothing beside their terms
        x[:, 1::2], y[:, 1::2] = x[:, : dim // 2 * 2 : 2], -y[:, : dim // 2 * 2 : 2]
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("kind", ["plain", "positive", "cancelling"])
@pytest.mark.parametrize("dim", DIMS)
def test_products_are_within_their_bound(dim, kind):
    x, y = sides(dim, kind)
    q, g = Vectors(x), Vectors(y)
    exact = np.array(
        [[float(sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(r, s, strict=True))) for s in y] for r in x]
    )
    norms = q.norms[:, None] * g.norms[None]
    i, j = (k.ravel() for k in np.indices(exact.shape))
    block = vectors.product(torch.from_numpy(x), torch.from_numpy(y)).double().numpy()
    assert (np.abs(block - exact) <= vectors.bound(q, g) * norms).all()
    near, margin = vectors.near(q, g, i, j)
    assert (np.abs(near - exact.ravel()) <= margin).all()
    assert (margin < vectors.bound(q, g) * norms.ravel()).all() or dim <= vectors.PART + 1
    np.testing.assert_allclose(vectors.scores(q, g, i, j), exact.ravel(), rtol=0, atol=2.0**-50 * dim * norms.max())


@pytest.mark.parametrize("dim", DIMS)
def test_each_dimension_is_in_one_part(dim):
    x = torch.eye(dim)[-3:]  # 1 for the last three dimensions alone
    assert (vectors.product(x, torch.eye(dim)[-3:]) == torch.eye(len(x))).all()
    parts, depth = vectors._parts(dim)
    assert (parts - 1) * depth < dim <= parts * depth
    assert depth <= 1.5 * vectors.DEPTH + 1


def test_norms_are_upper_bounds_and_near():
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=(9, 300)).astype(np.float32), 1e-12 * rng.normal(size=(9, 300)), np.zeros((2, 3))):
        of = Vectors(x)
        true = np.linalg.norm(np.ldexp(x.astype(np.float64), of.exponent), axis=1)
        assert (of.norms >= true).all()
        assert (of.norms <= true * 1.0001 + 1e-17).all()
    unit = Vectors(rng.normal(size=(9, 300)), cosine=True)
    assert (unit.norms >= 1).all()
    assert (unit.norms <= 1 + 1e-8).all()
    vectors_in = unit._exact(slice(0, 9)).numpy()
    np.testing.assert_allclose(np.linalg.norm(vectors_in, axis=1), 1, rtol=1e-12)


def test_vectors_are_taken_as_they_are():
    """No bit of float64 is lost, and none of float32 whose values lie too far from each other for one scale."""
    x = np.array([[0.75, 0.1, 1 / 3]])
    assert (Vectors(x)._exact(slice(0, 1)).numpy() == x).all()
    wide = np.array([[1e38, 1e-38]], np.float32)
    of = Vectors(wide)
    assert (of._exact(slice(0, 1)).numpy() == np.ldexp(wide.astype(np.float64), of.exponent)).all()


def test_whether_sums_are_exact():
    """Whole multiples of 2^-a whose products' sums stay below 2^24 times 2^-(a + b)."""
    halves = Vectors(np.array([[0.5, 1.5], [2.0, -3.0]], np.float32))
    assert halves.grid == 1
    assert Vectors(np.ones((2, 2), np.float32)).grid == 0
    assert Vectors(np.full((2, 2), 0.1, np.float32)).grid is None
    late = np.ones((9, 2), np.float32)
    late[8, 1] = 0.25  # the first few do not tell
    assert Vectors(late).grid is None
    assert vectors.exact(halves, halves)
    assert not vectors.exact(halves, Vectors(np.full((2, 2), 0.1, np.float32)))
    assert not vectors.exact(Vectors(np.full((2, 2), 0.1, np.float32)), halves)
    small, large = (Vectors(np.array([[5, 0], [0, x]], np.float32)) for x in (5, 5000))
    assert vectors.exact(small, large)  # sums up to 25,000
    assert not vectors.exact(large, large)  # up to 25,000,000, beyond 2^24
    assert vectors.exact(halves, halves, digits=6)  # norms of 1.6 and 3.6, in halves: 52 of 64
    assert not vectors.exact(halves, halves, digits=5)


def test_equal_vectors_are_found_whatever_their_hashes(monkeypatch):
    x = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [0.0, 3.0], [-0.0, 3.0], [2.0, 1.0]])
    assert Vectors(x).first.tolist() == [0, 1, 0, 3, 3, 1]
    assert Vectors(x[[0, 1, 3]]).first is None
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.zeros(2, dtype=torch.int64))
    first = Vectors(x).first  # now (1, 2) and (2, 1) have one hash
    assert (x[first] == x).all()
    assert first[:5].tolist() == [0, 1, 0, 3, 3]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (np.array([[None, 1]]), "array of objects"),
        (np.ones(3), r"found \(3,\)"),
        (np.ones((0, 3)), r"found \(0, 3\)"),
        (np.ones((3, 0)), r"found \(3, 0\)"),
        (np.ones((1, 2), complex), "expected real numbers"),
        (np.ones((1, 2), bool), "expected real numbers"),
        (np.array([[1.0, np.inf]]), "not finite"),
        (np.array([[-np.inf, 1.0]]), "not finite"),
    ],
)
def test_what_are_no_vectors(given, fault):
    with pytest.raises(ValueError, match=f"mine: .*{fault}"):
        Vectors(given, "mine")


def test_products_are_in_full_precision_whatever_the_caller_has_set():
    torch.manual_seed(0)
    x, y = torch.randn(20, 64), torch.randn(30, 64, requires_grad=True)
    expected = vectors.product(x, y)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = vectors.product(x, y)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_too_many_dimensions_are_refused():
    wide = Vectors(np.ones((1, 167773), np.float32))  # .01 / 2^-24 is 167,772.16
    with pytest.raises(ValueError, match="167,773 dimensions"):
        vectors.bound(wide, wide)
    just = Vectors(np.ones((1, 167772), np.float32))
    assert vectors.bound(just, just) < 0.01


def test_sums_by_halves():
    for width in range(1, 10):
        x = np.arange(2.0 * width).reshape(2, width)
        assert vectors.halving_sums(x.copy()).tolist() == x.sum(1).tolist()
    # (a + c) + (b + d), not from left to right
    assert vectors.halving_sums(np.array([[1e16, 1.0, -1e16, 1.0]])).tolist() == [2.0]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("cosine", [False, True])
def test_one_score_on_every_way(kind, cosine, monkeypatch):
    """Taken in NumPy or in torch, one pair or many: float64 sums of the same vectors."""
    rng = np.random.default_rng(1)
    x, y = ((100 * rng.normal(size=(n, 33))).astype(kind) for n in (7, 9))
    q, g = Vectors(x, cosine=cosine), Vectors(y, cosine=cosine)
    i, j = (k.ravel() for k in np.indices((7, 9)))
    found = vectors.scores(q, g, i, j)
    a, b = (v.astype(np.float64) for v in (x, y))
    if cosine:
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    np.testing.assert_allclose(vectors.unscaled(q, g, found).reshape(7, 9), a @ b.T, rtol=1e-11, atol=1e-11)
    monkeypatch.setattr(vectors, "_on_cpu", lambda of: False)
    monkeypatch.setattr(vectors, "SCAN", 70)
    assert (vectors.scores(q, g, i, j) == found).all()
