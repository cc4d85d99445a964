"""Products and what they are compared by: within their proven distance of the exact sums, whatever the dimensions."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from crossmodal.evaluation import vectors
from crossmodal.evaluation.vectors import Vectors

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
