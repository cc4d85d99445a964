"""Settings that no other test gives another value than their default: each does what its description says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crossmodal.core import registry
from crossmodal.models import a3vse, acmr, base, cca, cvs, dan, dpc, mfsr, scan, socher
from tests.models.test_scan import LENGTHS, literal, sets

F64 = torch.float64


def tokens(lengths, longest, seed=1):
    ids = torch.randint(4, 12, (len(lengths), longest), generator=torch.Generator().manual_seed(seed))
    return base.Tokens(ids * (torch.arange(longest) < torch.tensor(lengths)[:, None]), torch.tensor(lengths))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# -- DPC --------------------------------------------------------------------------------------------------------------

SMALL_DPC = {"dim": 6, "word_dim": 4, "widths": (8, 12), "inner": (5, 3), "blocks": (1, 1), "length": 8, "max_words": 6}


def test_the_weights_of_dpcs_losses():
    torch.manual_seed(0)
    weights = {"image_weight": 3.0, "text_weight": 5.0, "ranking_weight": 7.0, "ranking_text_weight": 11.0}
    context = base.Context({"image": (7,)}, 12, groups=torch.arange(4))
    model = dpc.Model(dpc.Settings(**SMALL_DPC, **weights, negatives="hardest", shift=False), context).double().eval()
    batch = base.Batch({"image": drawn(4, 7), "text": tokens([5, 2, 4, 3], 5)}, torch.arange(4))
    first, second = model.stages()
    for stage, of_text, of_ranking in ((first, 5, 0), (second, 11, 7)):
        model.begin(stage)
        terms = {name: float(value.detach()) for name, value in model.loss(batch, 0.0, "model").items()}
        assert len({round(value, 6) for value in terms.values()}) == len(terms)
        expected = 3 * terms["image_instance"] + of_text * terms["text_instance"] + of_ranking * terms.get("ranking", 0)
        assert terms["loss"] == pytest.approx(expected)


def test_the_rates_of_dpcs_parts_and_stages():
    """Each part's rate is a multiple of its stage's; without a bias of the classifier there is none to be trained."""
    chosen = {"norm_lr": 3.0, "word_lr": 0.2, "classifier_lr": 0.4, "image_network_lr": 0.6, "classifier_bias": False}
    stages = {"lr": 0.5, "lr_drop": 9, "ranking_lr": 0.25, "ranking_lr_drop": 7, "ranking_epochs": 3, "lr_factor": 0.3}
    context = base.Context({"image": (7,)}, 12, groups=torch.arange(4))
    model = dpc.Model(dpc.Settings(**SMALL_DPC, **chosen, **stages), context)
    model.image_network = nn.Linear(2, 2)
    first, second = model.stages()
    assert (first.lr, first.lr_drop, first.epochs, first.lr_factor) == (0.5, 9, 240, 0.3)
    assert (second.lr, second.lr_drop, second.epochs, second.lr_factor) == (0.25, 7, 3, 0.3)
    assert model.classifier.bias is None
    for stage in (first, second):
        groups = model.optimisers(stage)["model"].param_groups
        rates = {id(p): group["lr"] / stage.lr for group in groups for p in group["params"]}
        assert len(rates) == len([*model.parameters()])
        assert rates[id(model.image[0][1].weight)] == pytest.approx(3)
        assert rates[id(model.text.words.weight)] == pytest.approx(0.2)
        assert rates[id(model.classifier.weight)] == pytest.approx(0.4)
        assert rates[id(model.image_network.bias)] == pytest.approx(0.6)
        assert rates[id(model.image[0][0].weight)] == pytest.approx(1)


# -- DAN and SCAN -----------------------------------------------------------------------------------------------------


def test_the_second_stage_of_dan():
    settings = dan.Settings(dim=6, word_dim=4, later_lr=0.125, later_epochs=3, lr_drop=2, lr_factor=0.25)
    model = dan.Model(settings, base.Context({"image": (3, 7)}, 12))
    later = model.stages()[1]
    assert (later.lr, later.epochs, later.lr_drop, later.lr_factor) == (0.125, 3, 2, 0.25)
    assert model.optimisers(later)["model"].param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize("pooling", ["mean", "logsumexp"])
def test_the_second_network_of_an_ensemble_attends_by_its_own_settings(pooling):
    first = {"smooth": 4.0, "pooling": "max"}
    second = {"other_smooth": 3.0, "other_sharpness": 2.0, "other_pooling": pooling}
    context = base.Context({"image": (5, 9)}, 12)
    model = scan.Model(scan.Settings(dim=7, word_dim=4, ensemble=True, **first, **second), context).double()
    counts = [3, 5, 4]
    (regions, _), (words, _) = sets(counts, 0), sets(LENGTHS, 1)
    found = model.score(torch.cat([regions, regions], 2), torch.cat([words, words], 2))  # both networks see the same
    for a, m in enumerate(counts):
        for b, n in enumerate(LENGTHS):
            forth = literal(regions[a, :m], words[b, :n], 4.0, "clipped_l2norm", 0.1, "max", 6.0)
            back = literal(words[b, :n], regions[a, :m], 3.0, "clipped_l2norm", 0.1, pooling, 2.0)
            assert float(found[a, b]) == pytest.approx((forth + back) / 2, abs=1e-10)


# -- mFSR and CVS -----------------------------------------------------------------------------------------------------


def test_the_sizes_of_parts_and_the_rates_of_the_adversaries():
    small = {"dim": 9, "word_dim": 4, "layers": 1, "image_size": 8, "channels": 2, "weight_decay": 0.01}
    context = base.Context({"image": (7,)}, 12)
    for chosen, part, rate, beta in (
        ({}, 3, 0.25, 0.5),
        ({"part_dim": 5, "gan_lr": 0.125, "beta": 0.3}, 5, 0.125, 0.3),
    ):
        model = mfsr.Model(mfsr.Settings(**small, **chosen), context)
        assert model.encode("image", base.Batch({"image": torch.randn(2, 7)}), "text").shape == (2, part)
        optimisers = model.optimisers(base.Stage("train", 1, 0.25, 1))
        encoders, generator = optimisers["model"].param_groups
        (judges,) = optimisers["discriminators"].param_groups
        assert (encoders["lr"], encoders["betas"], encoders["weight_decay"]) == (0.25, (0.9, 0.999), 0.01)
        for group, decay in ((generator, 0.01), (judges, 0)):
            assert (group["lr"], group["betas"], group["weight_decay"]) == (rate, (beta, 0.999), decay)
        assert {id(p) for p in generator["params"]} == {id(p) for p in model.generator.parameters()}


def test_cvs_gives_its_margins_and_weights_to_the_triplets():
    torch.manual_seed(0)
    labels = torch.arange(12) % 3
    given = base.Batch({"image": torch.randn(12, 7), "text": torch.randn(12, 5)}, torch.arange(12), labels)
    chosen = {"margins": (0.5, 0.8, 1.2), "gammas": (0.2, 0.3, 0.7), "class_weight": 3.0, "triplet_weight": 5.0}
    context = base.Context({"image": (7,), "text": (5,)}, n_classes=3)
    model = cvs.Model(cvs.Settings(dim=8, attention=False, **chosen), context)
    x, y = (model.branches[m](given.inputs[m])[None] for m in ("image", "text"))
    expected = cvs.triplet_loss(x, y, labels, (0.5, 0.8, 1.2), (0.2, 0.3, 0.7))
    found = model.loss(given, 0.0, "model")
    torch.testing.assert_close(found["triplets"], expected)
    torch.testing.assert_close(found["loss"], 3 * found["classes"] + 5 * expected)


# -- gradient reversal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steepness", "progress"), [(2.0, 0.5), (10.0, 0.1), (0.0, 1.0)])
def test_acmrs_reversal_grows_by_its_steepness(steepness, progress):
    """2 / (1 + exp(-x)) - 1 is tanh(x / 2): a share of the gradient that is reversed with all its strength."""
    labels = torch.arange(8) % 2
    batch = base.Batch({"image": drawn(8, 7), "text": drawn(8, 5, seed=1)}, torch.arange(8), labels)
    context = base.Context({"image": (7,), "text": (5,)}, n_classes=2)

    def reversed_gradient(steep, at):
        torch.manual_seed(0)
        only = {"label_weight": 0.0, "triplet_weight": 0.0, "hidden": (6,), "dim": 8}
        model = acmr.Model(acmr.Settings(**only, steepness=steep), context).double()
        model.loss(batch, at, "model")["loss"].backward()
        return next(model.projectors["image"].parameters()).grad

    whole = reversed_gradient(1e6, 1.0)
    assert float(whole.abs().max()) > 1e-4
    torch.testing.assert_close(reversed_gradient(steepness, progress), math.tanh(steepness * progress / 2) * whole)


DOMAINS = {"image_unannotated": 0.9, "text_semantics": 0.8, "image_text": 0.7, "unannotated_semantics": 0.6,
           "image_semantics": 0.4, "unannotated_text": 0.35}  # fmt: skip


def sparse_batch():
    counts = torch.tensor([3, 2, 3, 1])
    pairs = {"image": base.Regions(drawn(4, 3, 7), counts), "text": tokens([5, 2, 4, 3], 5)}
    bare = {"image": base.Regions(drawn(4, 3, 7, seed=2), counts), "semantics": tokens([2, 3, 4, 5], 5, seed=3)}
    return base.Batch(pairs, torch.arange(4), None, bare)


def sparse_model(**over):
    torch.manual_seed(0)
    return a3vse.Model(a3vse.Settings(dim=6, word_dim=4, **over), base.Context({"image": (3, 7)}, 12)).double()


def hinges(a, b, margin):
    """Sum of the hardest hinges of either side, where item i of both belongs together."""
    s = (F.normalize(a, dim=1) @ F.normalize(b, dim=1).T).tolist()
    n = range(len(s))
    one = sum(max(0, margin - s[i][i] + max(s[i][j] for j in n if j != i)) for i in n)
    return one + sum(max(0, margin - s[i][i] + max(s[j][i] for j in n if j != i)) for i in n)


def test_all_weights_and_margins_of_a3vse():
    chosen = {"margin": 0.15, "margin_semantics": 0.6, "beta": 0.35, "adversary": 0.5, **DOMAINS}
    model, batch = sparse_model(**chosen, discriminator_dim=5), sparse_batch()
    shapes = [tuple(p.shape) for p in model.discriminators["image_text"].parameters()]
    assert shapes == [(5, 6 * model.settings.heads), (5,), (1, 5), (1,)]
    of = {
        "image": model.features("image", batch.inputs["image"])[0],
        "text": model.features("text", batch.inputs["text"])[0],
        "unannotated": model.features("image", batch.unannotated["image"])[0],
        "semantics": model.features("text", batch.unannotated["semantics"])[0],
    }
    triplet = 0.35 * hinges(of["image"], of["text"], 0.15) + 0.65 * hinges(of["unannotated"], of["semantics"], 0.6)
    adversary = 0.0
    for name, weight in DOMAINS.items():
        judge = model.discriminators[name]
        first, second = (torch.sigmoid(judge(F.normalize(of[part], dim=1))) for part in name.split("_"))
        adversary -= 0.5 * weight * float((first.log().mean() + (1 - second).log().mean()).detach())
    found = {name: value.detach() for name, value in model.loss(batch, 0.5, "model").items()}
    assert float(found["triplet"]) == pytest.approx(triplet)
    assert float(found["adversary"]) == pytest.approx(adversary)


def test_a3vses_sharpness_of_each_modality_and_its_reversal():
    model = sparse_model(sharpness_image=3.0, sharpness_text=12.0)
    assert (model.image_attention.temperature, model.text_attention.temperature) == (0.5, 2.0)  # λ·H over H

    def reversed_gradient(steepness, progress):
        model = sparse_model(steepness=steepness)
        model.loss(sparse_batch(), progress, "model")["adversary"].backward()
        return model.image.fc.weight.grad

    whole = reversed_gradient(1e6, 1.0)
    assert float(whole.abs().max()) > 1e-6
    torch.testing.assert_close(reversed_gradient(2.0, 0.25), math.tanh(0.25) * whole)


# -- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sm", "scm", "conse", "socher"])
def test_a_classifiers_penalty_and_iterations_are_the_settings(name, monkeypatch):
    module, asked = registry.module("models", name), []

    def logistic(x, labels, inverse_penalty, iterations):
        asked.append((inverse_penalty, iterations))
        return np.zeros((x.shape[1], 2)), np.zeros(2)

    monkeypatch.setattr(module, "logistic", logistic)
    other = "class" if name in ("conse", "socher") else "text"
    model = module.Model(
        module.Settings(inverse_penalty=0.5, iterations=7), base.Context({"image": (3,), other: (2,)}, n_classes=2)
    )
    labels = torch.arange(30) % 2
    of_class = torch.eye(2)[labels] if other == "class" else torch.randn(30, 2)
    model.fit([base.Batch({"image": torch.randn(30, 3), other: of_class}, labels=labels)])
    assert asked
    assert set(asked) == {(0.5, 7)}


def test_a_larger_penalty_leaves_sochers_network_smaller_weights():
    labels = torch.arange(40) % 4
    batch = base.Batch({"image": drawn(40, 3).float(), "class": torch.eye(4)[labels]}, labels=labels)
    context = base.Context({"image": (3,), "class": (4,)}, n_classes=4)
    norms = []
    for penalty in (0.0, 100.0):
        model = socher.Model(socher.Settings(units=5, epochs=800, neighbours=3, penalty=penalty), context)
        model.fit([batch])
        norms.append(float(model.get_buffer("theta1").norm()))
    assert norms[1] < norms[0] / 3


def test_landmarks_of_a_kernel_are_so_many_items_and_exact_at_themselves():
    """Nyström: inner products of the features of two landmarks are their kernel, exp(-d² / w²) for rbf."""
    x, y = drawn(30, 3), drawn(30, 2, seed=1)
    context = base.Context({"image": (3,), "text": (2,)})
    chosen = cca.Settings(kernel="rbf", landmarks=6, dim=2, regularisation=0.1, standardise=False, width=2.0)
    model = cca.Model(chosen, context)
    batch = base.Batch({"image": x.float(), "text": y.float()})
    model.fit([batch])
    landmarks = model.get_buffer("image_landmarks")
    assert landmarks.shape == (6, 3)
    model.double()
    features = model.features("image", base.Batch({"image": landmarks.double() + x.float().double().mean(0)}))
    features = features + model.get_buffer("image_features_mean")
    squares = torch.cdist(landmarks.double(), landmarks.double()) ** 2
    some = torch.pdist(x - x.mean(0))
    width = 2 * float(np.median(some.numpy()))
    torch.testing.assert_close(features @ features.T, torch.exp(-squares / width**2), rtol=1e-3, atol=1e-4)
