"""CHTN, DCKT and the four learning settings: discrepancies, distances and easy pairs literally; what measures find."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from crossmodal.models import base, bimodal, chtn, dckt
from crossmodal.models.parts.mmd import squared_mmd

CLASSES = 4


def vectors(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def domain(n: int, dims: dict[str, int], seed: int) -> base.Batch:
    labels = torch.arange(n) % CLASSES
    generator = torch.Generator().manual_seed(seed)
    maps = torch.Generator().manual_seed(7)
    inputs = {}
    for m, d in dims.items():
        mixing = torch.randn(CLASSES, d, generator=maps)
        inputs[m] = mixing[labels] + 0.4 * torch.randn(n, d, generator=generator)
    return base.Batch(inputs, torch.arange(n), labels)


def test_discrepancy_is_literal() -> None:
    x, y = vectors(5, 3, 0), vectors(7, 3, 1) + 0.5
    both = [*x.numpy(), *y.numpy()]
    squared = np.array([[float(((a - b) ** 2).sum()) for b in both] for a in both])
    mean = squared.sum() / (12 * 11)
    expected = 0.0
    for factor in (0.5, 2.0):
        kernel = np.exp(-squared / (factor * mean))
        expected += (kernel[:5, :5].mean() + kernel[5:, 5:].mean() - 2 * kernel[:5, 5:].mean()) / 2
    assert float(squared_mmd(x, y, (0.5, 2.0))) == pytest.approx(expected, abs=1e-12)
    assert float(squared_mmd(x, x)) == pytest.approx(0, abs=1e-12)
    assert float(squared_mmd(torch.zeros(3, 2), torch.zeros(4, 2))) == pytest.approx(0, abs=1e-6)


def test_descending_the_discrepancy_moves_one_set_onto_the_other() -> None:
    x, y = vectors(40, 2, 0), (vectors(40, 2, 1) + 3).requires_grad_()
    optimiser = torch.optim.Adam([y], lr=0.1)
    for _ in range(400):
        optimiser.zero_grad()
        squared_mmd(x, y).backward()
        optimiser.step()
    assert (y.detach().mean(0) - x.mean(0)).norm() < 1.0  # 4.2 at first


def test_distance_of_pairs_is_added_over_layers() -> None:
    x, y = [vectors(4, 3, 0), vectors(4, 2, 1)], [vectors(4, 3, 2), vectors(4, 2, 3)]
    expected = sum(float(((a - b) ** 2).sum()) / a.numel() for a, b in zip(x, y, strict=True))
    assert float(chtn.pair_distance(x, y)) == pytest.approx(expected)
    third = torch.tensor([0.0, 0, 1, 0], dtype=torch.float64)
    expected = sum(float(((a[2] - b[2]) ** 2).mean()) for a, b in zip(x, y, strict=True))
    assert float(chtn.pair_distance(x, y, third)) == pytest.approx(expected)


def test_easy_pairs_are_the_consistent_ones() -> None:
    images, texts = vectors(10, 4, 0), vectors(10, 4, 1)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1, 2, 0])
    scores = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    found = []
    for i in range(10):
        same = (labels == labels[i]).numpy()
        both = average_precision_score(same, scores[i]) + average_precision_score(same, scores[:, i])
        found.append(both / 2)
    weights = dckt.easiest(images, texts, labels, 0.4)
    assert set(torch.nonzero(weights).flatten().tolist()) == set(np.argsort(found)[-4:].tolist())
    assert weights[weights > 0].tolist() == pytest.approx([0.25] * 4)
    assert dckt.easiest(images, texts, labels, 1.0).tolist() == pytest.approx([0.1] * 10)


def test_source_and_target_have_networks_of_their_own_or_share_them() -> None:
    shapes = {"image": (6,), "text": (5,)}
    context = base.Context(shapes, n_classes=3, source=base.Context({"image": (9,), "text": (4,)}, n_classes=7))
    model = dckt.Model(dckt.Settings(dim=8), context)
    assert model.source.classifier.out_features == 7
    assert model.source.own["image"][0].in_features == 9
    with pytest.raises(ValueError, match="same layers"):
        chtn.Model(chtn.Settings(dim=8), context)
    with pytest.raises(ValueError, match="`source`"):
        dckt.Model(dckt.Settings(dim=8), base.Context(shapes, n_classes=3))


def test_losses_add_up_with_their_weights() -> None:
    dims = {"image": 6, "text": 5}
    context = base.Context({m: (d,) for m, d in dims.items()}, n_classes=CLASSES)
    context = base.Context(context.shapes, n_classes=CLASSES, source=context)
    batch = domain(16, dims, 0)
    batch.source = domain(12, dims, 1)
    model = dckt.Model(dckt.Settings(dim=8, media=0.5, correlation=2.0, pairs=3.0), context)
    t = model.loss(batch, 0.2, "model")
    expected = t["classes"] + t["source_classes"] + 0.5 * t["media"] + 2 * t["correlation"] + 3 * t["pairs"]
    torch.testing.assert_close(t["loss"], expected)
    model = chtn.Model(chtn.Settings(dim=8, single_modal=0.5, cross_modal=2.0), context)
    t = model.loss(batch, 0.2, "model")
    expected = t["classes"] + t["source_classes"] + 0.5 * t["single_modal"] + 2 * t["cross_modal"]
    torch.testing.assert_close(t["loss"], expected)


def test_the_four_settings_are_measured() -> None:
    dims = {"image": 6, "text": 5}
    torch.manual_seed(0)
    context = base.Context({m: (d,) for m, d in dims.items()}, n_classes=CLASSES)
    model = bimodal.Model(bimodal.Settings(hidden=(16,), dim=8, lr=1e-2), context)
    train, test = domain(200, dims, 0), domain(100, dims, 1)
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    first = None
    for _ in range(150):
        optimiser.zero_grad()
        loss = model.loss(train, 0, "model")["loss"]
        first = first or float(loss)
        loss.backward()
        optimiser.step()
    assert float(loss) < 0.5 * first
    found = model.eval().measure([train], [test])
    assert {direction for direction, _ in found} == {
        "single-modal-image", "single-modal-text", "fusion", "cross-modal-image", "cross-modal-text",
        "shared-image-to-text", "shared-text-to-image",
    }  # fmt: skip
    assert {metric for _, metric in found} == {"accuracy"}
    chance = 100 / CLASSES
    assert all(math.isfinite(v) and 0 <= v <= 100 for v in found.values())
    assert min(found[name, "accuracy"] for name in ("fusion", "cross-modal-image", "single-modal-text")) > 2 * chance
    assert min(found[f"shared-{way}", "accuracy"] for way in ("image-to-text", "text-to-image")) > 1.5 * chance


def test_features_of_both_are_made_from_either() -> None:
    model = bimodal.Model(bimodal.Settings(hidden=(4,), dim=3), base.Context({"image": (6,), "text": (5,)}))
    x = {m: b.float() for m, b in (("image", vectors(2, 6, 0)), ("text", vectors(2, 5, 1)))}
    alone = torch.tanh(model.both.into["text"](x["text"]))
    torch.testing.assert_close(model.both({"text": x["text"]}), alone)
    together = torch.tanh(model.both.into["text"](x["text"]) + model.both.into["image"](x["image"]))
    torch.testing.assert_close(model.both(x), together)
