"""CVS, M-CVS and RVS: their equations against literal float64 transcriptions, their sizes, and what stays as it is."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from crossmodal.core import registry
from crossmodal.models import base
from crossmodal.models.cvs import cross_entropy, triplet_loss
from crossmodal.models.parts.aligned_attention import AlignedAttention, ReferenceAttention
from crossmodal.models.parts.triplets import semi_hard_triplets, squared_distances

ALL = ("image", "text", "video", "audio", "mesh")
SIZES = dict(zip(ALL, (7, 9, 6, 4, 5), strict=True))
N, CLASSES, DIM = 18, 4, 8
LABELS = torch.arange(N) % CLASSES


def made(name, modalities=ALL, seed=0, context=None, **settings):
    module = registry.module("models", name)
    torch.manual_seed(seed)
    context = context or base.Context({m: (SIZES[m],) for m in modalities}, n_classes=CLASSES)
    return module.Model(module.Settings(modalities=modalities, dim=DIM, **settings), context)


def batch(seed=1, modalities=ALL):
    generator = torch.Generator().manual_seed(seed)
    inputs = {m: torch.randn(N, SIZES[m], generator=generator) + LABELS[:, None] for m in modalities}
    return base.Batch(inputs, torch.arange(N), LABELS)


def steps(model, stage, n=3):
    model.begin(stage)
    (optimiser,) = model.optimisers(stage).values()
    for number in range(n):
        loss = model.loss(batch(number), 0.0, "model")["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss.detach())


def encodings(model, modalities):
    with torch.no_grad():
        pairs = [(a, b) for a in modalities for b in modalities if a != b]
        return {pair: model.eval().encode(pair[0], batch(), pair[1]) for pair in pairs}


def doubles(rows, seed=0):
    return torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("terms", [("i", "s", "is"), ("s", "is"), ("i",)])
def test_attention_is_equations_3_1_11_to_3_1_14(terms):
    torch.manual_seed(0)
    block = AlignedAttention(DIM, terms).double()
    g_i, g_s = doubles(N), doubles(N, 1)
    w = {name: layer.weight.detach().numpy() for name, layer in block.weights.items()}
    w_e = block.out.weight.detach().numpy()
    for row, (one, other) in enumerate(zip(*(x.detach() for x in block(g_i, g_s)), strict=True)):
        a, b = g_i[row].numpy(), g_s[row].numpy()
        parts = {"i": a, "s": b, "is": a * b}
        e = w_e @ np.tanh(sum(w[name] @ parts[name] for name in terms))
        alpha = np.exp(e) / np.exp(e).sum()
        for found, g in ((one, a), (other, b)):
            expected = g + alpha * g
            np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-12)


def test_reference_attention_is_equations_3_3_1_to_3_3_6():
    torch.manual_seed(0)
    block, shared = ReferenceAttention(DIM).double(), torch.nn.Linear(DIM, DIM, bias=False).double()
    g_i, g_s = doubles(N), doubles(N, 1)
    w_i, w_s, w_is = (block.weights[name].weight.detach().numpy() for name in ("i", "s", "is"))
    for row, found in enumerate(zip(*(x.detach() for x in block(g_i, g_s, shared)), strict=True)):
        a, b = g_i[row].numpy(), g_s[row].numpy()
        hidden = np.tanh(w_i @ a + w_s @ b + w_is @ (a * b))
        for vector, g, layer in zip(found, (a, b), (shared, block.out), strict=True):
            e = np.exp(layer.weight.detach().numpy() @ hidden)
            expected = g + e / e.sum() * g
            np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-12)


def literal_triplets(anchors, others, labels, margin, own, reduction=np.mean):
    hinges = []
    for i, anchor in enumerate(anchors):
        squares = ((others - anchor) ** 2).sum(1)
        negatives = sorted(squares[labels != labels[i]])
        for j in np.flatnonzero(labels == labels[i]):
            if negatives and not (own and i == j):
                farther = [d for d in negatives if d > squares[j]]
                hinges.append(max(0.0, squares[j] - (farther[0] if farther else negatives[-1]) + margin))
    return reduction(hinges)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("spread", [0.2, 3.0])
def test_semi_hard_triplets(own, spread):
    x = doubles(N) * 0.5 + spread * torch.eye(DIM, dtype=torch.float64)[LABELS]
    y = x if own else doubles(N, 1)
    labels = LABELS.clone()
    labels[-1] = 9  # alone: no positive of its own
    expected = literal_triplets(x.numpy(), y.numpy(), labels.numpy(), 1.0, own)
    found = semi_hard_triplets(squared_distances(x, y)[None], labels, 1.0, own=own)
    assert found.shape == (1,)
    assert float(found) == pytest.approx(expected, abs=1e-12)
    assert expected > 0


def test_no_triplet_is_no_loss():
    x = doubles(4).requires_grad_()
    for labels in (torch.zeros(4, dtype=torch.int64), torch.arange(4)):
        loss = semi_hard_triplets(squared_distances(x, x), labels, 1.0, own=True)
        loss.backward()
        assert float(loss.detach()) == 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("margins", [(1.0, 1.0, 1.0), (0.5, 0.8, 1.2)])
def test_triplet_loss_is_equation_3_1_6(margins, reduction):
    """Printed as sums over the triplets; as their means by default."""
    of = {"mean": np.mean, "sum": np.sum}[reduction]
    x, y = torch.stack([doubles(N), doubles(N, 2)]), torch.stack([doubles(N, 1), doubles(N, 3)])
    gammas = (0.25, 0.35, 0.4)
    expected = 0.0
    for one, other in zip(x.numpy(), y.numpy(), strict=True):
        for a, b in ((one, other), (other, one)):
            within = [
                literal_triplets(v, v, LABELS.numpy(), m, True, of) for v, m in zip((a, b), margins, strict=False)
            ]
            between = literal_triplets(a, b, LABELS.numpy(), margins[2], False, of)
            expected += np.dot(gammas, [*within, between]) / 2
    assert float(triplet_loss(x, y, LABELS, margins, gammas, reduction)) == pytest.approx(expected, abs=1e-10)
    if reduction == "mean":
        assert float(triplet_loss(x, y, LABELS, margins, gammas)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("other_classes", ["none", "binary", "printed"])
def test_cross_entropy_is_equation_3_1_4(other_classes):
    logits = 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 1, 2])
    term = {"none": lambda f: 0.0, "binary": lambda f: np.log(1 - f), "printed": lambda f: 1 - np.log(f)}[other_classes]
    expected = 0.0
    for row, label in zip(logits.numpy(), labels.tolist(), strict=True):
        f = np.exp(row) / np.exp(row).sum()
        for k in range(4):
            expected -= (np.log(f[k]) if k == label else term(f[k])) / 5
    assert float(cross_entropy(logits, labels, other_classes)) == pytest.approx(expected, abs=1e-12)


def test_the_settings_choose_the_readings_of_the_losses():
    given = batch()
    found = {}
    for other_classes, triplets in (("none", "mean"), ("printed", "sum")):
        model = made("cvs", ("image", "text"), other_classes=other_classes, triplets=triplets)
        found[other_classes] = model.loss(given, 0.0, "model")
    assert found["printed"]["triplets"] > 10 * found["none"]["triplets"]  # hundreds of triplets in place of one
    assert found["printed"]["classes"] < found["none"]["classes"]  # what is added to be negated is above 1


def test_class_loss_is_over_the_classes_that_are_trained():
    context = base.Context({"image": (7,), "text": (9,)}, n_classes=CLASSES, trained=(1, 3))
    model = made("cvs", ("image", "text"), context=context)
    labels = torch.tensor([1, 3, 3, 1])
    vectors = F.normalize(torch.randn(2, 8, DIM, generator=torch.Generator().manual_seed(0)), dim=2)
    w, b = (p.detach().double().numpy() for p in model.classifier.parameters())
    expected = 0.0
    for part in vectors.double().numpy():
        for vector, label in zip(part, [*labels.tolist()] * 2, strict=True):
            scores = {k: np.exp(w[k] @ vector + b[k]) for k in (1, 3)}
            expected -= np.log(scores[label] / sum(scores.values())) / 8
    assert float(model.class_loss(vectors, labels)) == pytest.approx(expected, abs=1e-5)


def test_the_loss_adds_its_terms_with_their_weights():
    terms = made("cvs", class_weight=0.3, triplet_weight=2.0).loss(batch(), 0.0, "model")
    torch.testing.assert_close(terms["loss"], 0.3 * terms["classes"] + 2 * terms["triplets"])


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_blocks_and_parameters_follow_the_formulae(n):
    names = ALL[:n]
    branches = sum((SIZES[m] + 1) * DIM + (DIM + 1) * DIM for m in names)
    rest = branches + (DIM + 1) * CLASSES
    blocks = {"cvs": comb(n, 2), "mcvs": comb(n, 2), "rvs": n - 1}
    shared = {"cvs": 0, "mcvs": 0, "rvs": DIM**2}
    for name, expected in blocks.items():
        model = made(name, names)
        assert len(model.blocks) == expected
        assert count(model) == rest + 4 * DIM**2 * expected + shared[name]
        assert count(made(name, names, attention=False)) == rest
    if n > 2:  # a stage adds a block for each older modality, or one
        for name, expected in (("mcvs", n - 1), ("rvs", 1)):
            model = made(name, names)
            model.begin(model.stages()[-1])
            learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
            assert learning == (SIZES[names[-1]] + 1) * DIM + (DIM + 1) * DIM + 4 * DIM**2 * expected


@pytest.mark.parametrize("name", ["mcvs", "rvs"])
@pytest.mark.parametrize("attention", [True, False])
def test_older_encodings_keep_every_bit(name, attention):
    model = made(name, ALL[:2], attention=attention)
    steps(model, model.stages()[0])
    for n in (3, 4, 5):
        older = encodings(model, ALL[: n - 1])
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        model = made(name, ALL[:n], seed=n, attention=attention)
        model.inherit(weights)
        (stage,) = model.stages()
        new = model.branches[ALL[n - 1]].layers[0].weight.detach().clone()
        steps(model, stage)
        assert not torch.equal(new, model.branches[ALL[n - 1]].layers[0].weight)
        now = encodings(model, ALL[:n])
        assert all(torch.equal(now[pair], vectors) for pair, vectors in older.items())
        assert all(torch.equal(model.state_dict()[key], value) for key, value in weights.items())


@pytest.mark.parametrize("name", ["mcvs", "rvs"])
def test_stages_in_one_run_are_those_of_several(name):
    whole, parts = made(name, ALL[:3]), made(name, ALL[:2])
    first = {key: value for key, value in whole.state_dict().items() if key in parts.state_dict()}
    parts.load_state_dict(first)
    steps(parts, parts.stages()[0])
    for stage in whole.stages()[:1]:
        steps(whole, stage)
    grown = made(name, ALL[:3])
    grown.inherit(parts.state_dict())
    for model, stage in ((whole, whole.stages()[1]), (grown, grown.stages()[0])):
        steps(model, stage)
    assert [s.name for s in whole.stages()] == ["image+text", "video"]
    assert all(torch.equal(value, grown.state_dict()[key]) for key, value in whole.state_dict().items())


def test_what_does_not_fit_is_not_gone_on_from():
    weights = made("mcvs", ("image", "audio")).state_dict()
    with pytest.raises(ValueError, match="it has audio, image, this run is of image, text, video"):
        made("mcvs", ALL[:3]).inherit(weights)
    with pytest.raises(ValueError, match="have other shapes"):
        made("cvs", ("image", "text")).inherit(weights)
    with pytest.raises(ValidationError, match="none of the first two"):
        made("rvs", ALL, reference="mesh")


def test_cvs_of_two_is_the_first_stage():
    weights = made("cvs", ALL[:2]).state_dict()
    model = made("mcvs", ALL[:3])
    model.inherit(weights)
    assert [stage.name for stage in model.stages()] == ["video"]


def test_rvs_has_one_vector_for_all_partners_but_of_the_reference():
    model = made("rvs", reference="text")
    for stage in model.stages():
        steps(model, stage)
    found = encodings(model, ALL)
    for m in ALL:
        alike = [torch.equal(found[m, a], found[m, b]) for a, b in combinations([o for o in ALL if o != m], 2)]
        assert all(alike) != (m == "text")


def test_partners_stand_for_what_is_not_known():
    model, own = made("cvs"), made("cvs", partner="self")
    steps(model, model.stages()[0])
    own.load_state_dict(model.state_dict())
    g = model.branches["image"](batch().inputs["image"])
    centre = model.get_buffer("text_centre")
    assert centre.abs().sum() > 0
    for m, other in ((model, centre.expand_as(g)), (own, g)):
        expected = m.blocks["image-text"](g, other)[0]
        torch.testing.assert_close(m.eval().encode("image", batch(), "text"), expected)


@pytest.mark.parametrize("name", ["cvs", "mcvs", "rvs"])
def test_without_unit_length_vectors_are_compared_by_their_distance(name):
    model, unit = made(name, attention=False), made(name, attention=False, unit=True)
    unit.load_state_dict(model.state_dict())
    g = {m: model.branches[m](batch().inputs[m]).detach() for m in ALL}
    for (a, b), vectors in encodings(model, ALL).items():
        found = model.score(vectors, encodings(model, ALL)[b, a])
        torch.testing.assert_close(found, -(torch.cdist(g[a], g[b]) ** 2) / 2, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(encodings(unit, (a, b))[a, b], F.normalize(g[a], dim=1))


def test_centres_are_running_means():
    model = made("cvs", ALL[:2])
    mean = torch.zeros(DIM)
    for number in range(1, 15):
        given = batch(number)
        g = model.branches["text"](given.inputs["text"]).detach()
        mean = mean + (g.mean(0) - mean) * max(1 / number, 0.1)
        model.loss(given, 0.0, "model")
    torch.testing.assert_close(model.get_buffer("text_centre"), mean)


def test_features_are_standardised_by_training():
    x = torch.randn(50, 7) * 5 + 3
    x[:, 2] = 4.0
    context = base.Context(dict.fromkeys(ALL[:2], (7,)), n_classes=CLASSES, moments={"image": (x.mean(0), x.std(0))})
    model = made("cvs", ALL[:2], context=context)
    scaled = model.branches["image"].scaled(x)
    torch.testing.assert_close(scaled.std(0)[[0, 1, 3]], torch.ones(3))
    assert (scaled[:, 2] == 0).all()
    assert (made("cvs", ALL[:2], context=context, standardise=False).branches["image"].scaled.scale == 1).all()
