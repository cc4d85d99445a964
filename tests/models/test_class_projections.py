"""S2UPG and JRL: their updates and solutions with all matrices written out in float64."""

from __future__ import annotations

import numpy as np
import torch

from crossmodal.models import base, jrl, s2upg
from crossmodal.models.parts import class_projections
from tests.models.test_tabled_classes import context_of, drawn


def dense_laplacian(items, k):
    """I - D_v⁻¹ H D_e⁻¹ Hᵀ D_v⁻¹ with all matrices written out."""
    n = len(items)
    incidence = np.zeros((n, n))
    for edge in range(n):
        far = [(np.linalg.norm(items[edge] - items[i]), i) for i in range(n) if i != edge]
        for _, i in sorted(far)[:k]:
            incidence[i, edge] = 1
    inverse = np.diag(1 / (incidence.sum(1) + 1))
    return np.eye(n) - inverse @ incidence @ (np.eye(n) / k) @ incidence.T @ inverse


def test_an_update_of_s2upg_with_all_matrices_written_out(monkeypatch):
    monkeypatch.setattr(class_projections, "BLOCK", 5)
    rng = np.random.default_rng(0)
    x = {"image": rng.normal(size=(9, 4)), "text": rng.normal(size=(9, 3)), "audio": rng.normal(size=(9, 2))}
    x = {m: v - v.mean(0) for m, v in x.items()}
    y = np.eye(3)[np.arange(9) % 3]
    p = {m: rng.random((v.shape[1], 3)) for m, v in x.items()}
    s = s2upg.Settings(neighbours=4, classes_weight=2.0, sparsity=3.0, graph=0.7)
    found = s2upg.updated(x, y, p, s)
    laplacian = dense_laplacian(np.concatenate([x[m] @ p[m] for m in x]), 4)
    centring = np.eye(9) - 1 / 9
    for a, m in enumerate(x):
        block = {n: laplacian[9 * a : 9 * a + 9, 9 * b : 9 * b + 9] for b, n in enumerate(x)}
        rows = np.diag([1 / (2 * np.linalg.norm(row)) for row in p[m]])
        left = 2.0 * x[m].T @ centring @ x[m] + 3.0 * rows + 0.7 * x[m].T @ block[m] @ x[m]
        right = 2.0 * x[m].T @ centring @ y
        right -= 0.7 * sum(x[m].T @ block[n] @ x[n] @ p[n] for n in x if n != m)
        np.testing.assert_allclose(found[m], np.linalg.solve(left, right), rtol=1e-9)


def test_items_of_s2upg_are_described_by_the_classes_of_their_neighbours():
    labels = torch.arange(30) % 3
    batch = base.Batch({"image": drawn(30, 5), "text": drawn(30, 4, seed=1)}, labels=labels)
    model = s2upg.Model(s2upg.Settings(neighbours=7), context_of())
    model.fit([batch])
    assert model.items.shape == (60, 3)
    found = model.encode("image", base.Batch({"image": batch.inputs["image"].float()}), "text")
    projected = model.features("image", base.Batch({"image": batch.inputs["image"].float()})) @ model.image_projection
    for row, point in zip(found, projected, strict=True):
        far = (model.items - point).norm(dim=1)
        near = far.argsort()[:7]
        weights = 1 / (1 + far[near].exp())
        expected = torch.zeros(3)
        for weight, n in zip(weights / weights.sum(), near, strict=True):
            expected[int(labels[n % 30])] += weight
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-4)
    assert class_projections.hyperedges(np.zeros((3, 2)), 9).sum(0).tolist() == [[2, 2, 2]]


def test_jrl_solves_its_equations():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3))
    distances = np.linalg.norm(x[:, None] - x, axis=2) + np.diag([np.inf] * 8)
    near = np.zeros((8, 8))
    for i in range(8):
        for j in np.argsort(distances[i])[:2]:
            near[i, j] = near[j, i] = 1
    np.testing.assert_allclose(jrl.smoothness(x, 2), x.T @ (np.diag(near.sum(1)) - near) @ x, atol=1e-12)
    labels = torch.arange(12) % 3
    batch = base.Batch({"image": drawn(12, 5), "text": drawn(12, 4, seed=1)}, labels=labels)
    model = jrl.Model(jrl.Settings(neighbours=2, rounds=200, standardise=False), context_of())
    model.fit([batch])
    # At the fixed point the gradient of the objective is zero.
    value = {m: batch.inputs[m].numpy() - batch.inputs[m].numpy().mean(0) for m in ("image", "text")}
    p = {m: model.get_buffer(f"{m}_projection").double().numpy() for m in value}
    y = np.eye(3)[labels]
    gradient = value["image"].T @ (value["image"] @ p["image"] - y)
    gradient += p["image"] / (2 * np.linalg.norm(p["image"], axis=1, keepdims=True))
    gradient += 0.1 * jrl.smoothness(value["image"], 2) @ p["image"]
    gradient += 0.1 * value["image"].T @ (value["image"] @ p["image"] - value["text"] @ p["text"])
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
