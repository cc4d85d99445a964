"""DSCMR, ACMR and Deep-SM: their equations against literal float64 transcriptions, and what training does."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossmodal import registry
from crossmodal.models import acmr, base, dscmr

N, CLASSES = 12, 3
LABELS = torch.arange(N) % CLASSES


def vectors(seed: int, n_modalities: int = 2, dim: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = ("image", "text", "audio")[:n_modalities]
    return {m: torch.randn(N, dim, generator=generator, dtype=torch.float64) for m in names}


def made(name: str, modalities: tuple[str, ...] = ("image", "text"), **settings) -> tuple[base.Model, base.Batch]:
    module = registry.module("models", name)
    torch.manual_seed(0)
    shapes = dict(zip(modalities, [(6,), (9,), (4,)], strict=False))
    model = module.Model(module.Settings(modalities=modalities, **settings), base.Context(shapes, n_classes=CLASSES))
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(N, *shape, generator=generator) + LABELS[:, None] for m, shape in shapes.items()}
    return model, base.Batch(inputs, torch.arange(N), LABELS)


def cosine(u: np.ndarray, v: np.ndarray) -> float:
    return float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))


@pytest.mark.parametrize("n_modalities", [2, 3])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_modal_loss_is_equations_2_4_3_to_2_4_6(n_modalities: int, scale: float) -> None:
    given = vectors(0, n_modalities)
    expected = 0.0
    pairs = [*combinations(given, 2), *((m, m) for m in given)]
    for a, b in pairs:
        total = 0.0
        for i in range(N):
            for j in range(N):
                gamma = scale * cosine(given[a][i].numpy(), given[b][j].numpy())
                total += np.log(1 + np.exp(gamma)) - float(LABELS[i] == LABELS[j]) * gamma
        expected += total / N**2
    assert float(dscmr.modal_loss(given, LABELS, scale)) == pytest.approx(expected, abs=1e-12)


def test_label_and_invariance_losses_are_equations_2_4_1_and_2_4_2() -> None:
    given = vectors(1)
    u, v = (x.numpy() for x in given.values())
    assert float(dscmr.invariance_loss(given)) == pytest.approx(np.sqrt(((u - v) ** 2).sum()) / N, abs=1e-12)
    weights = torch.randn(5, CLASSES, dtype=torch.float64)
    ones = F.one_hot(LABELS, CLASSES).double()
    expected = sum(np.linalg.norm(x @ weights.numpy() - ones.numpy(), "fro") / N for x in (u, v))
    predicted = {m: x @ weights for m, x in given.items()}
    assert float(dscmr.label_loss(predicted, ones)) == pytest.approx(expected, abs=1e-12)


def test_invariance_of_equal_vectors_has_a_gradient() -> None:
    x = torch.ones(4, 3, requires_grad=True)
    dscmr.invariance_loss({"image": x, "text": x * 1}).backward()
    assert torch.isfinite(x.grad).all()


def test_dscmr_adds_its_losses_with_their_weights() -> None:
    model, batch = made("dscmr", hidden=(16,), dim=8, class_weight=2.0, modal_weight=0.3, invariance_weight=0.7)
    terms = model.loss(batch, 0.0, "model")
    expected = 2 * terms["classes"] + 0.3 * terms["modal"] + 0.7 * terms["invariance"]
    torch.testing.assert_close(terms["loss"], expected)


def test_triplets_are_of_the_farthest_positive_and_the_nearest_negative() -> None:
    given = {m: F.normalize(x, dim=1) for m, x in vectors(2, 3).items()}
    found = []
    for a, b in permutations(given, 2):
        hinges = []
        for i in range(N):
            distances = [float(((given[a][i] - given[b][j]) ** 2).sum()) for j in range(N)]
            same = [d for j, d in enumerate(distances) if LABELS[j] == LABELS[i]]
            other = [d for j, d in enumerate(distances) if LABELS[j] != LABELS[i]]
            hinges.append(max(0.0, max(same) - min(other) + 0.4))
        found.append(np.mean(hinges))
    assert float(acmr.triplet_loss(given, LABELS, 0.4)) == pytest.approx(np.mean(found), abs=1e-12)


def test_triplets_of_one_class_are_none() -> None:
    given = {m: F.normalize(x, dim=1) for m, x in vectors(3).items()}
    assert float(acmr.triplet_loss(given, torch.zeros(N, dtype=torch.int64), 1.0)) == 0


def test_projectors_learn_against_the_modality_classifier() -> None:
    """The classifier descends its loss; the projectors ascend it by the reversal's strength, and only by it."""
    model, batch = made("acmr", dim=8, hidden=(16,), label_weight=0.0, triplet_weight=0.0, adversarial_weight=0.5)
    gradients = {}
    for progress in (0.0, 0.4):
        model.zero_grad()
        terms = model.loss(batch, progress, "model")
        terms["loss"].backward()
        gradients[progress] = [p.grad.clone() for p in model.projectors.parameters()]
    assert all((g == 0).all() for g in gradients[0.0])  # a strength of 0 at the start
    plain = torch.cat([torch.tanh(model.projectors[m](batch.inputs[m])) for m in ("image", "text")])
    model.zero_grad()
    (0.5 * F.cross_entropy(model.modality(plain), torch.arange(2).repeat_interleave(N))).backward()
    strength = 2 / (1 + np.exp(-10 * 0.4)) - 1
    for parameter, reversed_ in zip(model.projectors.parameters(), gradients[0.4], strict=True):
        torch.testing.assert_close(reversed_, -strength * parameter.grad, rtol=1e-4, atol=1e-7)


def test_deep_sm_gives_class_probabilities() -> None:
    model, batch = made("deepsm", hidden=(16,))
    model.eval()
    expected = torch.softmax(
        model.networks["text"](batch.inputs["text"]), 1
    )  # no moments are given: features as they are
    torch.testing.assert_close(
        model.encode("text", batch, "image"), expected / expected.pow(2).sum(1, keepdim=True).sqrt()
    )


@pytest.mark.parametrize("name", ["dscmr", "acmr", "deepsm"])
def test_classes_come_together_across_three_modalities(name: str) -> None:
    small = {"dscmr": {"dim": 16, "hidden": (32,)}, "acmr": {"dim": 16, "hidden": (32,)}, "deepsm": {"hidden": (32,)}}
    modalities = ("image", "text", "audio")
    model, batch = made(name, modalities, lr=5e-3, **small[name])
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    for step in range(120):
        optimiser.zero_grad()
        model.loss(batch, step / 120, "model")["loss"].backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        encoded = {m: model.encode(m, batch, "image") for m in modalities}
    for a, b in permutations(modalities, 2):
        nearest = (encoded[a] @ encoded[b].T).argmax(1)
        assert (LABELS[nearest] == LABELS).float().mean() > 0.9, (a, b)
