"""Fisher vectors against automatic gradients of literal densities, and the mixtures against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.features import fisher
from crossmodal.features.engine import extraction, store

CAPTIONS = ["A dog runs.", "A red dog", "The cat sits; the dog runs.", "A red cat jumps", "a zebra"]


def settings_of(**settings):
    return experiments.validated(fisher.Settings, {"vectors": "seeded", **settings}, "params.yaml: extractors.a")


def drawn_mixture(seed=0, k=3, d=4):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(k))
    return fisher.Mixture(weights, rng.normal(size=(k, d)), 0.5 + rng.random((k, d)), rng.random((k, d)) < 0.5)


def test_a_fisher_vector_is_the_gradient_of_the_mean_log_likelihood():
    """By automatic differentiation of the printed densities, divided by the root of the Fisher information."""
    mixture, x = drawn_mixture(), np.random.default_rng(1).normal(size=(6, 4))
    centres, widths = (torch.tensor(v, requires_grad=True) for v in (mixture.centres, mixture.widths))
    likelihood = 0.0
    for row in torch.tensor(x):
        density = 0.0
        for k in range(3):
            part = torch.tensor(mixture.weights[k])
            for d in range(4):
                z = row[d] - centres[k, d]
                if mixture.laplacian[k, d]:
                    part = part * torch.exp(-z.abs() / widths[k, d]) / (2 * widths[k, d])
                else:
                    part = part * torch.exp(-(z**2) / (2 * widths[k, d] ** 2)) / (math.sqrt(2 * math.pi) * widths[k, d])
            density = density + part
        likelihood = likelihood + density.log() / 6
    likelihood.backward()
    root = torch.tensor(mixture.weights[:, None] ** 0.5) / widths.detach()
    expected_centres = centres.grad / root
    expected_widths = widths.grad / (root * torch.tensor(np.where(mixture.laplacian, 1.0, 2.0**0.5)))
    expected = torch.cat([expected_centres.flatten(), expected_widths.flatten()]).numpy()
    found = mixture.gradient(x, mixture.shares(x))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert float(likelihood.detach()) == pytest.approx(
        float(np.log(np.exp(mixture.log_densities(x)).sum(1)).mean()), rel=1e-9
    )


def test_the_gradient_vanishes_on_average_where_the_likelihood_is_largest():
    """At the maximum the mean Fisher vector of all words is zero: that is what fitting means."""
    x = np.random.default_rng(2).normal(size=(60, 3))
    counts = np.ones(60, np.int64)
    mixture = fisher.fitted(x, counts, settings_of(centres=1, mixture="gaussian"))
    np.testing.assert_allclose(mixture.centres[0], x.mean(0), atol=1e-9)
    np.testing.assert_allclose(mixture.widths[0] ** 2, x.var(0) + fisher.LEAST, rtol=1e-6)
    np.testing.assert_allclose(mixture.gradient(x, mixture.shares(x)), 0, atol=1e-4)


def test_a_coordinate_takes_the_likelier_distribution():
    """One centre: the first coordinate is uniform-like (normal is likelier), the second has two heavy tails."""
    x = np.array([[-1.0, 0.0], [-0.5, 0.0], [0.0, 0.1], [0.5, -0.1], [1.0, 5.0]])
    counts = np.array([1, 1, 1, 1, 2])
    mixture = fisher.fitted(x, counts, settings_of(centres=1))
    assert mixture.laplacian.tolist() == [[False, True]]
    every = np.repeat(x, counts, axis=0)
    assert mixture.centres[0].tolist() == pytest.approx([every[:, 0].mean(), 0.0])  # the lower median of -.1 0 0 .1 5 5
    assert mixture.widths[0].tolist() == pytest.approx([every[:, 0].std(), np.abs(every[:, 1]).mean()])
    assert fisher.fitted(x, counts, settings_of(centres=1, mixture="gaussian")).laplacian.tolist() == [[False, False]]


def test_hybrid_rounds_raise_the_likelihood():
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.laplace(size=(80, 2)), rng.normal(4, 0.5, size=(80, 2))])
    counts = rng.integers(1, 4, 160)
    likelihoods = [
        counts @ np.log(np.exp(fisher.fitted(x, counts, settings_of(centres=2, rounds=n)).log_densities(x)).sum(1))
        for n in (1, 2, 4, 12)
    ]
    assert np.diff(likelihoods).min() > -1e-9
    gaussian = fisher.fitted(x, counts, settings_of(centres=2, mixture="gaussian"))
    assert likelihoods[-1] > counts @ np.log(np.exp(gaussian.log_densities(x)).sum(1))


def test_signed_roots_at_unit_length():
    assert fisher.improved(np.array([9.0, -16.0, 0.0])).tolist() == pytest.approx([3 / 5, -4 / 5, 0.0])


def run(tmp_path, captions=CAPTIONS, name="a", **settings):
    ids = [f"t{n}" for n in range(len(captions))]
    parts = ["train"] * (len(captions) - 1) + ["test"]
    rows = pd.DataFrame({"item_id": ids, "modality": "text", "partition": parts, "source": captions})
    target = tmp_path / "f" / f"text.{name}"
    chosen = settings_of(dim=3, **settings)
    extraction.run("fisher", rows, tmp_path, chosen, target, threads=1, modality="text")
    return store.open_features(target)


def test_captions_are_components_of_their_fisher_vectors(tmp_path):
    plain = np.array(run(tmp_path, name="plain", centres=2, components=None, l2=False).array, np.float64)
    assert plain.shape == (5, 12)
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1, rtol=1e-6)
    found = run(tmp_path, name="b", centres=2, components=3, l2=False)
    centred = plain - plain[:4].mean(0)
    _, sizes, axes = np.linalg.svd(centred[:4], full_matrices=False)
    np.testing.assert_allclose(np.abs(found.array), np.abs(centred @ axes[:3].T), atol=1e-5)
    explained = (sizes[:3] ** 2).sum() / (sizes**2).sum()
    assert found.manifest["fisher_explained"] == pytest.approx(explained, abs=1e-6)
    assert found.manifest["fallback"] == "seeded random word vectors"


def test_what_it_refuses(tmp_path):
    with pytest.raises(UserError, match="9 centres are more than the 8 different words"):
        run(tmp_path, centres=9)
    with pytest.raises(UserError, match="components: 5 are more than 4 training captions of 12 numbers"):
        run(tmp_path, centres=2, components=5)
    with pytest.raises(UserError, match="fewer than two training captions"):
        run(tmp_path, ["a dog", "a cat"], centres=1)
