"""CHTN, DCKT and the four learning settings: discrepancies, distances and easy pairs literally; what measures find."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from crossmodal.models import base, bimodal, chtn, dckt
from crossmodal.models.parts.mmd import squared_mmd
from crossmodal.models.parts.transfer import pair_distance
from crossmodal.tasks import classification

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


def test_gradient_of_the_discrepancy_passes_the_distances_and_not_the_widths() -> None:
    """Both sets are moved, by differences of the literal value whose widths are held; together they stay in place."""
    x, y = vectors(4, 3, 0).requires_grad_(), (vectors(6, 3, 1) + 0.5).requires_grad_()
    squared_mmd(x, y, (0.5, 2.0)).backward()
    values = np.concatenate([x.detach().numpy(), y.detach().numpy()])
    squared = ((values[:, None] - values[None]) ** 2).sum(2)
    held = squared.sum() / (10 * 9)

    def literal(points: np.ndarray) -> float:
        distances = ((points[:, None] - points[None]) ** 2).sum(2)
        total = 0.0
        for factor in (0.5, 2.0):
            kernel = np.exp(-distances / (factor * held))
            total += (kernel[:4, :4].mean() + kernel[4:, 4:].mean() - 2 * kernel[:4, 4:].mean()) / 2
        return total

    found = np.concatenate([x.grad.numpy(), y.grad.numpy()])
    for row in range(10):
        for column in range(3):
            moved = [values.copy(), values.copy()]
            moved[0][row, column] += 1e-6
            moved[1][row, column] -= 1e-6
            slope = (literal(moved[0]) - literal(moved[1])) / 2e-6
            assert found[row, column] == pytest.approx(slope, abs=1e-8)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-12)
    assert np.abs(found[:4]).max() > 1e-3
    assert np.abs(found[4:]).max() > 1e-3


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
    assert float(pair_distance(x, y)) == pytest.approx(expected)


def test_easy_pairs_are_the_consistent_ones() -> None:
    images, texts = vectors(10, 4, 0), vectors(10, 4, 1)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1, 2, 0])
    scores = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    found = []
    for i in range(10):
        same = (labels == labels[i]).numpy()
        both = average_precision_score(same, scores[i]) + average_precision_score(same, scores[:, i])
        found.append(both / 2)
    assert dckt.easiest(images, texts, labels, 0.4).tolist() == sorted(np.argsort(found)[-4:].tolist())
    assert dckt.easiest(images, texts, labels, 1.0).tolist() == [*range(10)]
    assert dckt.easiest(images, texts, labels, 0.01).tolist() == [int(np.argmax(found))]


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


def layers_of(network: torch.nn.Module, x: np.ndarray) -> list[np.ndarray]:
    """Each activation of fully connected layers with ReLUs."""
    found = []
    for layer in network:
        x = np.maximum(0, x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
        found.append(x)
    return found


def entropy_of(layer: torch.nn.Linear, x: np.ndarray, labels: torch.Tensor) -> float:
    scores = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    own = scores[np.arange(len(x)), labels.numpy()]
    return float((np.log(np.exp(scores).sum(1)) - own).mean())


def literal_mmd(x: np.ndarray, y: np.ndarray) -> float:
    both = np.concatenate([x, y])
    squared = ((both[:, None] - both[None]) ** 2).sum(2)
    mean = squared.sum() / (len(both) * (len(both) - 1))
    kernel = np.mean([np.exp(-squared / (f * mean)) for f in (0.25, 0.5, 1.0, 2.0, 4.0)], axis=0)
    n = len(x)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def doubled(model: base.Model, batch: base.Batch) -> base.Model:
    for one in (batch, batch.source):
        one.inputs = {m: x.double() for m, x in one.inputs.items()}
    return model.double()


def two_domains() -> tuple[base.Context, base.Batch]:
    dims = {"image": 6, "text": 5}
    context = base.Context({m: (d,) for m, d in dims.items()}, n_classes=CLASSES)
    batch = domain(16, dims, 0)
    batch.source = domain(12, dims, 1)
    return base.Context(context.shapes, n_classes=CLASSES, source=context), batch


def test_loss_of_chtn_is_literal() -> None:
    context, batch = two_domains()
    model = doubled(chtn.Model(chtn.Settings(dim=8, single_modal=0.5, cross_modal=2.0), context), batch)
    image, text = (layers_of(model.own[m], batch.inputs[m].numpy()) for m in ("image", "text"))
    source = layers_of(model.own["image"], batch.source.inputs["image"].numpy())
    expected = sum(
        entropy_of(model.classifier, layers_of(model.shared, x[-1])[-1], batch.labels) for x in (image, text)
    )
    expected += entropy_of(model.source_classifier, source[-1], batch.source.labels)
    expected += 0.5 * sum(literal_mmd(a, b) for a, b in zip(source, image, strict=True))
    expected += 2.0 * sum(((a - b) ** 2).mean() for a, b in zip(image, text, strict=True))
    assert float(model.loss(batch, 0.2, "model")["loss"].detach()) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("progress", "taking_part"), [(0.0, 8), (0.25, 12), (0.6, 16)])
def test_loss_of_dckt_is_literal_and_pairs_come_into_all_terms_as_they_become_easy(
    progress: float, taking_part: int
) -> None:
    """Half of the pairs at first, all of them after half of the training: in the discrepancies too."""
    context, batch = two_domains()
    settings = dckt.Settings(dim=8, media=0.5, correlation=2.0, pairs=3.0)
    model = doubled(dckt.Model(settings, context), batch)

    def passed(network: dckt.Domain, given: base.Batch) -> tuple[dict, dict]:
        own = {m: layers_of(network.own[m], given.inputs[m].numpy()) for m in ("image", "text")}
        return own, {m: layers_of(network.shared, x[-1]) for m, x in own.items()}

    (own, shared), (of_source, shared_source) = passed(model.target, batch), passed(model.source, batch.source)
    units = [shared[m][-1] / np.linalg.norm(shared[m][-1], axis=1, keepdims=True) for m in ("image", "text")]
    scores, same = units[0] @ units[1].T, (batch.labels[:, None] == batch.labels[None]).numpy()
    told = [average_precision_score(same[i], scores[i]) + average_precision_score(same[i], scores[:, i])
            for i in range(16)]  # fmt: skip
    easy = np.sort(np.argsort(-np.array(told), kind="stable")[:taking_part])
    own, shared = ({m: [x[easy] for x in layers] for m, layers in one.items()} for one in (own, shared))
    expected = 0.0
    for network, last, labels in (
        (model.target, shared, batch.labels[easy]),
        (model.source, shared_source, batch.source.labels),
    ):
        expected += sum(entropy_of(network.classifier, last[m][-1], labels) for m in ("image", "text"))
    for m in ("image", "text"):
        expected += 0.5 * sum(literal_mmd(a, b) for a, b in zip(of_source[m], own[m], strict=True))
        expected += 2.0 * sum(literal_mmd(a, b) for a, b in zip(shared_source[m], shared[m], strict=True))
    for one in (own, of_source):
        expected += 3.0 * sum(((a - b) ** 2).mean() for a, b in zip(one["image"], one["text"], strict=True))
    assert float(model.loss(batch, progress, "model")["loss"].detach()) == pytest.approx(expected, abs=1e-10)


def domains_apart(standardise: str) -> tuple[base.Model, np.ndarray, np.ndarray]:
    """CHTN on images whose source has another mean and spread; as many of each."""
    rng = np.random.default_rng(0)
    target, source = rng.normal(size=(50, 3)) + 1, 4 * rng.normal(size=(50, 3)) - 5
    made = [
        base.Context({"image": (3,), "text": (2,)}, n_classes=2,
                     moments={"image": (torch.tensor(x.mean(0)).float(), torch.tensor(x.std(0)).float())})
        for x in (target, source)
    ]  # fmt: skip
    context = base.Context(made[0].shapes, n_classes=2, moments=made[0].moments, source=made[1])
    return chtn.Model(chtn.Settings(dim=4, standardise=standardise), context), target, source


def test_domains_are_standardised_together_apart_or_not_at_all() -> None:
    assert chtn.Settings().standardise == dckt.Settings().standardise == "none"
    for way in ("none", "together", "apart"):
        model, target, source = domains_apart(way)
        found = [f(torch.tensor(x).float()).numpy() for f, x in ((model.scaled["image"], target),
                                                                 (model.of_source, source))]  # fmt: skip
        both = np.concatenate([target, source])
        if way == "apart":  # nothing is left of what sets the domains apart
            expected = [(x - x.mean(0)) / x.std(0) for x in (target, source)]
        elif way == "together":
            expected = [(x - both.mean(0)) / both.std(0) for x in (target, source)]
        else:
            expected = [target, source]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_domains_of_two_shapes_are_not_standardised_together() -> None:
    shapes = {"image": (6,), "text": (5,)}
    context = base.Context(shapes, n_classes=3, source=base.Context({"image": (9,), "text": (5,)}, n_classes=7))
    with pytest.raises(ValueError, match=r"together: the image features .* have the shapes \(9,\) and \(6,\)"):
        dckt.Model(dckt.Settings(dim=8, standardise="together"), context)


def test_the_four_settings_are_measured(tmp_path) -> None:
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
    corpus = SimpleNamespace(joined=lambda partition, size: [{"train": train, "test": test}[partition]])
    rows = classification.Task().evaluate(model, corpus, [1], torch.device("cpu"), tmp_path)
    found = {(row["aspect"], row["metric"]): row["value"] for row in rows}
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
