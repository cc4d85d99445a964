"""DeViSE, ConSE and Socher's transfer: equations 9.5 to 9.9 literally, and unseen classes that are told."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossmodal.core import registry
from crossmodal.models import base, conse, devise

SEEN, UNSEEN, ATTRIBUTES, DIM = 20, 5, 8, 12


def world(n: int, classes: range, seed: int) -> base.Batch:
    """Images are linear in their class's attributes, which are combinations of shared ones."""
    of_class = np.random.default_rng(3).random((SEEN + UNSEEN, ATTRIBUTES)).astype(np.float32)
    mixing = np.random.default_rng(4).normal(size=(ATTRIBUTES, DIM)).astype(np.float32)
    rng = np.random.default_rng(seed)
    labels = np.array([classes[k % len(classes)] for k in range(n)])
    images = of_class[labels] @ mixing + 0.15 * rng.normal(size=(n, DIM)).astype(np.float32)
    return base.Batch(
        {"image": torch.from_numpy(images).float(), "class": torch.from_numpy(of_class[labels])},
        labels=torch.from_numpy(labels),
    )


def classes_of(places: range) -> base.Batch:
    batch = world(len(places), places, 0)
    return base.Batch({"class": batch.inputs["class"]})


def trained(name: str, **settings) -> base.Model:
    module = registry.module("models", name)
    torch.manual_seed(0)
    context = base.Context({"image": (DIM,), "class": (ATTRIBUTES,)}, n_classes=SEEN)
    model = module.Model(module.Settings(**settings), context)
    batch = world(600, range(SEEN), 1)
    if not model.trains:
        model.fit([batch])
        return model.eval()
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    for _ in range(300):
        optimiser.zero_grad()
        model.loss(batch, 0.0, "model")["loss"].backward()
        optimiser.step()
    return model.eval()


@torch.no_grad()
def hits(model: base.Model, images: range, candidates: range) -> float:
    batch = world(200, images, 2)
    scores = model.score(model.encode("image", batch, "class"), model.encode("class", classes_of(candidates), "image"))
    told = torch.tensor([*candidates])[scores.argmax(1)]
    return float((told == batch.labels).float().mean())


def test_ranking_loss_is_equation_9_5() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 1, 2, 0])
    expected = 0.0
    for i in range(6):
        for j in range(4):
            if j != labels[i]:
                expected += max(0.0, 0.3 - float(scores[i, labels[i]]) + float(scores[i, j]))
    assert float(devise.ranking_loss(scores, labels, 0.3)) == pytest.approx(expected / 6, abs=1e-12)


def test_distinct_labels_and_their_first_rows() -> None:
    places, first = devise.distinct(torch.tensor([7, 2, 7, 9, 2]))
    assert places.tolist() == [1, 0, 1, 2, 0]
    assert first.tolist() == [1, 0, 3]


def test_convex_combination_is_equations_9_6_and_9_7() -> None:
    probabilities = torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.05, 0.9, 0.03, 0.02]])
    classes = torch.randn(4, 3)
    expected = [(0.5 * classes[0] + 0.3 * classes[2]) / 0.8, (0.9 * classes[1] + 0.05 * classes[0]) / 0.95]
    torch.testing.assert_close(conse.convex(probabilities, classes, 2), torch.stack(expected))
    torch.testing.assert_close(conse.convex(probabilities, classes, 99), probabilities @ classes)


def test_class_vectors_have_unit_length_in_devise_and_conse() -> None:
    """Eq. 9.5 and 9.7 with vectors of unit length: that one class's are longer tells nothing of an image."""
    lengths = torch.linspace(0.2, 5, SEEN)
    batch = world(600, range(SEEN), 1)
    stretched = base.Batch(
        {**batch.inputs, "class": batch.inputs["class"] * lengths[batch.labels][:, None]}, labels=batch.labels
    )
    torch.manual_seed(0)
    context = base.Context({"image": (DIM,), "class": (ATTRIBUTES,)}, n_classes=SEEN)
    encoded = {}
    for name in ("devise", "conse"):
        module = registry.module("models", name)
        model = module.Model(module.Settings(), context)
        for kind, given in (("as they are", batch), ("stretched", stretched)):
            if name == "conse":
                model.fit([given])
            encoded[name, kind] = model.encode("class", given, "image"), model.encode("image", given, "class")
        literal = batch.inputs["class"].double() / batch.inputs["class"].double().pow(2).sum(1, keepdim=True).sqrt()
        for kind in ("as they are", "stretched"):
            torch.testing.assert_close(encoded[name, kind][0], literal.float(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(*(encoded[name, kind][1] for kind in ("as they are", "stretched")),
                                   rtol=1e-4, atol=1e-5)  # fmt: skip
    torch.testing.assert_close(encoded["conse", "stretched"][1].norm(dim=1), torch.ones(600))
    norms = encoded["devise", "stretched"][1].norm(dim=1)
    assert (norms - 1).abs().max() > 0.1  # M I of eq. 9.5 is as long as it is


def test_local_outlier_probability_is_literal() -> None:
    model = trained("socher", units=16, neighbours=5, spread=2.0)
    training = model.get_buffer("anchors").double().numpy()
    queries = np.random.default_rng(5).normal(size=(7, ATTRIBUTES)) * 0.4 + training[:7]

    def reach(point: np.ndarray, others: np.ndarray) -> tuple[float, np.ndarray]:
        distances = np.linalg.norm(others - point, axis=1)
        near = np.argsort(distances, kind="stable")[:5]
        return math.sqrt((distances[near] ** 2).mean()), near

    def without(i: int) -> np.ndarray:
        others = training.copy()
        others[i] = np.inf
        return others

    own = [reach(training[i], without(i)) for i in range(len(training))]
    reaches = np.array([r for r, _ in own])
    factors = [r / reaches[near].mean() - 1 for r, near in own]
    z = 2.0 * math.sqrt(np.mean(np.square(factors)))
    expected = []
    for query in queries:
        r, near = reach(query, training)
        expected.append(max(0.0, math.erf((r / reaches[near].mean() - 1) / z)))
    found = model.outlier_probability(torch.from_numpy(queries).float())
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_scores_are_equation_9_9() -> None:
    """Over the classes of a gallery the probabilities of seen and unseen ones add up as the gate says."""
    model = trained("socher", units=16)
    images = model.encode("image", world(30, range(SEEN + UNSEEN), 2), "class").double()
    classes = model.encode("class", classes_of(range(SEEN + UNSEEN)), "image").double()
    assert classes[:, -1].tolist() == [*range(SEEN), *[-1] * UNSEEN]
    model = model.double()
    found = model.score(images, classes).exp()
    outlier, vectors = images[:, ATTRIBUTES], images[:, :ATTRIBUTES]
    torch.testing.assert_close(found[:, :SEEN].sum(1), 1 - outlier)
    torch.testing.assert_close(found[:, SEEN:].sum(1), outlier)
    torch.testing.assert_close(found[:, :SEEN], images[:, ATTRIBUTES + 1 :].exp() * (1 - outlier)[:, None])
    variance = float(model.get_buffer("variance"))
    for i in (0, 24, 29):
        squared = [float(((vectors[i] - classes[j, :ATTRIBUTES]) ** 2).sum()) for j in range(SEEN, SEEN + UNSEEN)]
        densities = np.exp(-np.array(squared) / 2 / variance)
        expected = float(outlier[i]) * densities / densities.sum()
        np.testing.assert_allclose(found[i, SEEN:], expected, atol=1e-8)


def test_network_is_two_layers_with_a_tanh() -> None:
    """Eq. 9.8: it comes closer to the classes' vectors than their mean does, and is what scikit-learn computes."""
    model = trained("socher", units=16, epochs=1500)
    batch = world(600, range(SEEN), 1)
    x = model.features("image", batch)
    b = {name: model.get_buffer(name) for name in ("theta1", "bias1", "theta2", "bias2")}
    literal = torch.tanh(x @ b["theta1"] + b["bias1"]) @ b["theta2"] + b["bias2"]
    encoded = model.encode("image", batch, "class")[:, :ATTRIBUTES]
    torch.testing.assert_close(encoded, literal)
    w = F.normalize(batch.inputs["class"], dim=1)
    assert (encoded - w).pow(2).sum(1).mean() < 0.3 * (w - w.mean(0)).pow(2).sum(1).mean()


@pytest.mark.parametrize("name", ["devise", "conse", "socher"])
def test_unseen_classes_are_told(name: str) -> None:
    settings = {"devise": {"lr": 1e-2}, "conse": {"inverse_penalty": 1.0}, "socher": {"units": 32}}[name]
    model = trained(name, **settings)
    unseen = range(SEEN, SEEN + UNSEEN)
    assert hits(model, unseen, unseen) > 0.5  # .2 by chance
    assert hits(model, range(SEEN), range(SEEN)) > 0.6  # .05 by chance


def test_the_gate_lets_unseen_images_reach_unseen_classes() -> None:
    unseen, everything = range(SEEN, SEEN + UNSEEN), range(SEEN + UNSEEN)
    model = trained("socher", units=32)
    outlier = {
        name: float(model.encode("image", world(200, part, 2), "class")[:, ATTRIBUTES].mean())
        for name, part in (("seen", range(SEEN)), ("unseen", unseen))
    }
    assert outlier["unseen"] > outlier["seen"]
    assert hits(model, range(SEEN), everything) > 0.6
