"""DSCMR, ACMR and Deep-SM: their equations against literal float64 transcriptions, and what training does."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossmodal.core import registry
from crossmodal.models import base, bimodal, dscmr
from crossmodal.models.parts.optimisers import Chosen

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


@pytest.mark.parametrize("norms", ["rows", "frobenius"])
def test_label_and_invariance_losses_are_equations_2_4_1_and_2_4_2(norms: str) -> None:
    """As printed, a Frobenius norm over N; or the mean of the rows' norms, as the authors' program has it."""
    given = vectors(1)
    u, v = (x.numpy() for x in given.values())

    def norm(rows: np.ndarray) -> float:
        if norms == "frobenius":
            return np.sqrt((rows**2).sum()) / N
        return sum(np.sqrt((row**2).sum()) for row in rows) / N

    assert float(dscmr.invariance_loss(given, norms)) == pytest.approx(norm(u - v), abs=1e-12)
    weights = torch.randn(5, CLASSES, dtype=torch.float64)
    ones = F.one_hot(LABELS, CLASSES).double()
    expected = sum(norm(x @ weights.numpy() - ones.numpy()) for x in (u, v))
    predicted = {m: x @ weights for m, x in given.items()}
    assert float(dscmr.label_loss(predicted, ones, norms)) == pytest.approx(expected, abs=1e-12)


def literal_dscmr(u: np.ndarray, v: np.ndarray, p: np.ndarray, bias: np.ndarray, program: bool) -> float:
    """The whole loss of the authors' program, or of eq. 2.4.1 to 2.4.6 with its weights, item by item."""
    ones = np.eye(CLASSES)[LABELS.numpy()]
    scale = 0.5 if program else 1.0

    def norm(rows: np.ndarray) -> float:
        return np.mean(np.sqrt((rows**2).sum(1))) if program else np.sqrt((rows**2).sum()) / N

    def pairs(x: np.ndarray, y: np.ndarray) -> float:
        total = 0.0
        for i in range(N):
            for j in range(N):
                gamma = scale * cosine(x[i], y[j])
                total += np.log(1 + np.exp(gamma)) - float(LABELS[i] == LABELS[j]) * gamma
        return total / N**2

    labels = norm(u @ p + bias - ones) + norm(v @ p + bias - ones)
    return labels + 1e-3 * (pairs(u, u) + pairs(u, v) + pairs(v, v)) + 0.1 * norm(u - v)


@pytest.mark.parametrize("program", [True, False])
def test_loss_and_gradient_of_dscmr_are_those_of_the_program_and_of_the_paper(program: bool) -> None:
    """The defaults are the program's; the named settings give what the paper prints. Gradients by differences."""
    paper = {} if program else {"norms": "frobenius", "scale": 1.0, "bias": False}
    model, batch = made("dscmr", hidden=(7,), dim=5, **paper)
    model = model.double()
    given = {m: x.requires_grad_() for m, x in vectors(4).items()}
    model._vectors = lambda modality, batch: given[modality]
    loss = model.loss(batch, 0.0, "model")["loss"]
    loss.backward()
    u, v = (x.detach().numpy() for x in given.values())
    p = model.classifier.weight.detach().numpy().T
    bias = model.classifier.bias.detach().numpy() if program else np.zeros(CLASSES)
    assert loss.item() == pytest.approx(literal_dscmr(u, v, p, bias, program), abs=1e-12)
    step = 1e-6
    for place, found in enumerate((given["image"].grad, given["text"].grad, model.classifier.weight.grad.T)):
        for index in ((0, 0), (2, 1), (4, 2)):
            around = []
            for sign in (1, -1):
                moved = [u.copy(), v.copy(), p.copy()]
                moved[place][index] += sign * step
                around.append(literal_dscmr(*moved, bias, program))
            assert float(found[index]) == pytest.approx((around[0] - around[1]) / (2 * step), abs=1e-8)


def test_defaults_of_dscmr_are_the_network_and_the_optimiser_of_its_program() -> None:
    context = base.Context({"image": (40,), "text": (30,)}, n_classes=20)
    with torch.device("meta"):  # no numbers are asked for
        model = dscmr.Model(dscmr.Settings(), context)
    sizes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert sizes == {
        "networks.image.0.weight": (2048, 40), "networks.image.0.bias": (2048,),
        "networks.text.0.weight": (2048, 30), "networks.text.0.bias": (2048,),
        "shared.weight": (1024, 2048), "shared.bias": (1024,),
        "classifier.weight": (20, 1024), "classifier.bias": (20,),
    }  # fmt: skip
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    (group,) = optimiser.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 0.0)
    s = model.settings
    assert (s.epochs, s.batch_size, s.clip, s.modal_weight, s.invariance_weight) == (500, 100, 0.0, 1e-3, 0.1)


def test_invariance_of_equal_vectors_has_a_gradient() -> None:
    x = torch.ones(4, 3, requires_grad=True)
    dscmr.invariance_loss({"image": x, "text": x * 1}).backward()
    assert torch.isfinite(x.grad).all()


def test_dscmr_adds_its_losses_with_their_weights() -> None:
    model, batch = made("dscmr", hidden=(16,), dim=8, class_weight=2.0, modal_weight=0.3, invariance_weight=0.7)
    terms = model.loss(batch, 0.0, "model")
    expected = 2 * terms["classes"] + 0.3 * terms["modal"] + 0.7 * terms["invariance"]
    torch.testing.assert_close(terms["loss"], expected)


def on_a_line(**settings) -> tuple[base.Model, dict[str, torch.Tensor], base.Batch]:
    """Three pairs of two classes at whole numbers, and features by which the third is like one of the others."""
    model, _ = made("acmr", dim=4, hidden=(5,), **settings)
    places = {"image": [[0.0], [1.0], [3.0]], "text": [[1.0], [1.0], [2.0]]}
    features = {"image": [[1.0, 0], [0, 1], [0.2, 1]], "text": [[1.0, 0], [0, 1], [1, 0.2]]}
    batch = base.Batch({m: torch.tensor(x) for m, x in features.items()}, labels=torch.tensor([0, 0, 1]))
    return model, {m: torch.tensor(x, dtype=torch.float64) for m, x in places.items()}, batch


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # Halves of squared distances. Images: own .5 + 0 + .5, of another class 2 + .5 + 2 (the second is the most like
        # the third): .1 + 5 - 4.5. Texts: own 1, of another class 2 + 2 + 2 (here it is the first): .1 + 5 - 6 < 0.
        ({}, 0.6),
        ({"hinge": "each"}, 2.4),  # .6 + 0 + .6 and .6 + 0 + .6
        # Texts: farthest of their class .5 + .5 + .5, nearest of another 2 + 2 + .5: .1 + 7.5 - 4.5; images as before.
        ({"triplets": "hardest"}, 3.7),
        ({"triplets": "hardest", "positive_weight": 1.0, "margin": 1.0, "hinge": "each"}, 1.5),  # 0 + .5 + 0, 0 + 0 + 1
    ],
)
def test_triplets_by_hand(settings: dict, expected: float) -> None:
    model, places, batch = on_a_line(**settings)
    assert float(model._triplets(places, batch)) == pytest.approx(expected, abs=1e-12)


def test_random_triplets_have_negatives_of_another_class() -> None:
    model, places, batch = on_a_line(triplets="random", positive_weight=0.0, margin=0.0, hinge="each")
    places["text"][2] += 100
    places["image"][2] += 100
    assert float(model._triplets(places, batch)) == 0  # a negative of the own class would be nearer than the margin
    model, places, batch = on_a_line(triplets="random", margin=100.0)
    found = {round(float(model._triplets(places, batch)), 6) for _ in range(40)}
    assert len(found) == 2  # the third image's negative is one of two texts at the same place, the third text's is not


def test_triplets_of_one_class_are_none() -> None:
    for triplets in ("similar", "random", "hardest"):
        model, places, batch = on_a_line(triplets=triplets)
        batch.labels = torch.zeros(3, dtype=torch.int64)
        assert float(model._triplets(places, batch)) == 0


def test_acmr_balances_labels_and_triplets_as_its_program() -> None:
    """100 times the mean cross-entropy of both modalities beside a hinge of sums and the modality's cross-entropy."""
    model, batch = made("acmr", dim=8, hidden=(16,))
    model = model.double()
    batch.inputs = {m: x.double() for m, x in batch.inputs.items()}
    x = {}
    for m in ("image", "text"):
        first, second = model.projectors[m][0], model.projectors[m][2]
        hidden = np.tanh(batch.inputs[m].numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy())
        x[m] = np.tanh(hidden @ second.weight.detach().numpy().T + second.bias.detach().numpy())
    w, b = (p.detach().numpy() for p in model.labels.parameters())
    of_classes = modality = 0.0
    for place, vectors_ in enumerate(x.values()):
        for row, label in zip(vectors_, LABELS.tolist(), strict=True):
            scores = row @ w.T + b
            of_classes += (np.log(np.exp(scores).sum()) - scores[label]) / N
            told = row
            for layer in (model.modality[0], model.modality[2], model.modality[4]):  # nothing between them
                told = told @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
            modality += (np.log(np.exp(told).sum()) - told[place]) / N
    triplets = 0.0
    for a, o in permutations(("image", "text"), 2):
        total = 0.1
        for i in range(N):
            features = batch.inputs[a].numpy()
            others = [j for j in range(N) if LABELS[j] != LABELS[i]]
            like = max(others, key=lambda j, i=i, f=features: cosine(f[i], f[j]))
            total += 5 * ((x[a][i] - x[o][i]) ** 2).sum() / 2 - ((x[a][i] - x[o][like]) ** 2).sum() / 2
        triplets += max(0.0, total)
    terms = model.loss(batch, 0.3, "model")
    assert float(terms["triplets"].detach()) == pytest.approx(triplets, rel=1e-9)
    assert float(terms["loss"].detach()) == pytest.approx(100 * of_classes + triplets + modality, rel=1e-9)


def test_acmr_compares_by_distance_unless_its_vectors_are_of_unit_length() -> None:
    for unit in (False, True):
        model, batch = made("acmr", dim=8, hidden=(16,), unit=unit)
        x = {m: torch.tanh(model.projectors[m](batch.inputs[m])) for m in ("image", "text")}
        scores = model.score(model.encode("image", batch, "text"), model.encode("text", batch, "image"))
        back = model.score(model.encode("text", batch, "image"), model.encode("image", batch, "text"))
        if unit:
            expected = F.cosine_similarity(x["image"][:, None], x["text"][None], dim=2)
        else:
            expected = -((x["image"][:, None] - x["text"][None]) ** 2).sum(2) / 2
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(back, expected.T, atol=1e-5, rtol=1e-5)


def test_a_fixed_classifier_of_labels_stays_as_it_begins() -> None:
    model, batch = made("acmr", dim=8, hidden=(16,), classifier="fixed")
    before = model.labels.weight.clone(), model.projectors["text"][0].weight.clone()
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    model.loss(batch, 0.0, "model")["loss"].backward()
    optimiser.step()
    assert torch.equal(before[0], model.labels.weight)
    assert not torch.equal(before[1], model.projectors["text"][0].weight)


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
    # A mean over the items of each modality, added over both.
    (0.5 * 2 * F.cross_entropy(model.modality(plain), torch.arange(2).repeat_interleave(N))).backward()
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


@pytest.mark.parametrize("name", ["dscmr", "acmr", "deepsm", "bimodal"])
def test_features_are_standardised_where_the_settings_say_so(name: str) -> None:
    """Only a system that makes its features anew standardises them unless told otherwise."""
    module = registry.module("models", name)
    assert module.Settings().standardise == (name == "bimodal")
    moments = {"image": (torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0]))}
    x = torch.tensor([[1.5, 6.0], [0.0, 2.0]])
    for standardise, expected in ((False, x), (True, torch.tensor([[1.0, 1.0], [-2.0, 0.0]]))):
        settings = module.Settings(standardise=standardise, hidden=(4,))
        context = base.Context({"image": (2,), "text": (3,)}, n_classes=2, moments=moments)
        torch.testing.assert_close(module.Model(settings, context).scaled["image"](x), expected)


def test_options_of_an_optimiser() -> None:
    """Learning rate, decay rates, weight decay and momentum reach the optimiser; what is fixed does not."""
    context = base.Context({"image": (6,), "text": (5,)}, n_classes=2)
    model = dscmr.Model(dscmr.Settings(hidden=(4,), dim=3, betas=(0.3, 0.7), weight_decay=0.2), context)
    model.shared.requires_grad_(False)
    stage = base.Stage("x", 1, 0.05, 1)
    (optimiser,) = model.optimisers(stage).values()
    (group,) = optimiser.param_groups
    assert type(optimiser) is torch.optim.Adam
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.05, (0.3, 0.7), 0.2)
    assert {id(p) for p in group["params"]} == {
        id(p) for name, p in model.named_parameters() if not name.startswith("shared.")
    }
    plain = bimodal.Model(bimodal.Settings(hidden=(4,), dim=3, weight_decay=0.1), context)
    (group,) = plain.optimisers(stage)["model"].param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.05, (0.9, 0.999), 0.1)


def test_momentum_of_gradient_descent() -> None:
    """Two steps by hand from 1: the gradient 2 x, weight decay .5, momentum .9, learning rate .1."""

    class Choice(base.Schedule):
        optimiser: str

    class One(Chosen):
        def __init__(self, settings: base.Settings):
            super().__init__(settings, base.Context({}))
            self.x = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def steps(optimiser: str) -> tuple[torch.optim.Optimizer, float]:
        model = One(Choice(optimiser=optimiser, weight_decay=0.5))
        made_ = model.optimisers(base.Stage("x", 1, 0.1, 1))["model"]
        for _ in range(2):
            made_.zero_grad()
            model.x.square().backward()
            made_.step()
        return made_, float(model.x.detach())

    optimiser, x = steps("sgd")
    assert isinstance(optimiser, torch.optim.SGD)
    # 1 - .1 * 2.5 = .75; then .9 * 2.5 + 2.5 * .75 = 4.125, of which a tenth is taken away.
    assert x == pytest.approx(0.75 - 0.4125)
    assert isinstance(steps("adam")[0], torch.optim.Adam)


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
    for a, b in permutations(modalities, 2):
        with torch.no_grad():
            nearest = model.score(model.encode(a, batch, b), model.encode(b, batch, a)).argmax(1)
        assert (LABELS[nearest] == LABELS).float().mean() > 0.9, (a, b)
