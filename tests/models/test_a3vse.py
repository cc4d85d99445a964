"""A3VSE against its equations, one item and one head at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crossmodal.models import a3vse, base
from crossmodal.models.parts.adversaries import Discriminator, reversal_strength, reverse_gradient

F64 = torch.float64


def test_the_heads_of_attention():
    """Eq. 1, a head, an item and a region at a time; λ is 2, of which the sharpness is the fivefold."""
    torch.manual_seed(0)
    attention = a3vse.ContextAttention(5, 3, 10.0).double()
    vectors = torch.randn(2, 4, 5, dtype=F64)
    vectors[1, 3] = 0  # is not there
    found, effective = attention(vectors)
    found, alike = found.detach(), []
    for row, v in zip(found, (vectors[0], vectors[1, :3]), strict=True):
        mean = sum(v) / len(v)
        parts = []
        for k in range(3):
            P, Q = attention.of_mean.weight[5 * k : 5 * k + 5], attention.of_each.weight[5 * k : 5 * k + 5]
            alpha = [float((torch.tanh(P @ mean) @ torch.tanh(Q @ one)).detach()) for one in v]
            total = sum(math.exp(2.0 * a) for a in alpha)
            parts.append(sum(math.exp(2.0 * a) / total * one for a, one in zip(alpha, v, strict=True)))
            alike.append(1 / sum((math.exp(2.0 * a) / total) ** 2 for a in alpha))
        torch.testing.assert_close(row, torch.cat(parts).detach())
    assert float(effective) == pytest.approx(sum(alike) / 6)


def test_attention_over_raw_features_begins_spread():
    """Detector features are not negative and not normalised: with λ = 1 each head begins as a choice of one."""
    torch.manual_seed(0)
    regions = base.Regions(torch.randn(4, 36, 2048).relu(), torch.full((4,), 36))  # norms of some 32
    model = a3vse.Model(a3vse.Settings(), base.Context({"image": (36, 2048)}, 12))
    vectors = model.image(regions)

    def effective(attention):
        weights = attention.weights(vectors).detach()
        torch.testing.assert_close(weights.sum(2), torch.ones(4, 3))
        return float(torch.exp(-torch.xlogy(weights, weights).sum(2)).mean())

    assert effective(model.image_attention) > 24
    model.image_attention.temperature = 1.0
    assert effective(model.image_attention) < 6


def test_the_discriminators_loss_is_the_negative_of_the_papers():
    """Eq. 4: the mean of log D over one domain and of log(1 - D) over the other."""
    torch.manual_seed(0)
    judge = Discriminator(5, 8).double()
    a, b = torch.randn(6, 5, dtype=F64), torch.randn(4, 5, dtype=F64)
    D = torch.sigmoid(judge(a)), torch.sigmoid(judge(b))
    expected = sum(math.log(p) for p in D[0].tolist()) / 6 + sum(math.log(1 - p) for p in D[1].tolist()) / 4
    assert float(judge.loss(a, b, 1.0)) == pytest.approx(-expected)


def test_gradients_are_reversed_for_what_made_the_vectors():
    torch.manual_seed(0)
    judge = Discriminator(5, 8).double()
    a, b = torch.randn(6, 5, dtype=F64, requires_grad=True), torch.randn(4, 5, dtype=F64)

    def gradients(strength):
        wanted = [a, *judge.parameters()]
        return torch.autograd.grad(judge.loss(a, b, strength), wanted)

    plain, reversed_ = gradients(-1.0), gradients(0.3)
    torch.testing.assert_close(reversed_[0], -0.3 * plain[0])
    for one, other in zip(plain[1:], reversed_[1:], strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(reverse_gradient(a, 5.0), a)


def test_the_reversals_strength():
    assert reversal_strength(0) == 0
    assert reversal_strength(0.5) == pytest.approx(math.tanh(2.5))  # 2 / (1 + exp(-x)) - 1 is tanh(x / 2)
    assert reversal_strength(1) == pytest.approx(0.9999, abs=1e-4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return a3vse.Model(a3vse.Settings(dim=6, word_dim=4), base.Context({"image": (3, 7)}, 12)).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)

    def tokens(n):
        lengths = torch.randint(2, 6, (n,), generator=generator)
        return base.Tokens(
            torch.randint(4, 12, (n, 5), generator=generator) * (torch.arange(5) < lengths[:, None]), lengths
        )

    def regions(n):
        return base.Regions(torch.randn(n, 3, 7, generator=generator, dtype=F64), torch.tensor([3, 2, 3, 1])[:n])

    pairs = {"image": regions(4), "text": tokens(4)}
    others, named = regions(4), tokens(4)
    named.ids[3], named.lengths[3] = named.ids[0], named.lengths[0]  # two images whose regions have the same names
    return base.Batch(
        pairs,
        torch.tensor([0, 1, 2, 2]),
        None,
        {"image": others, "semantics": named},
    )


def triplet(a, b, groups, margin):
    """Eq. 2 without its 1/L, over the items that do not belong together."""
    total = 0.0
    for i in range(len(a)):
        others = [j for j in range(len(a)) if groups[j] != groups[i]]
        own = float(a[i] @ b[i] / a[i].norm() / b[i].norm())
        first = max(float(a[i] @ b[j] / a[i].norm() / b[j].norm()) for j in others)
        second = max(float(a[j] @ b[i] / a[j].norm() / b[i].norm()) for j in others)
        total += max(0, margin - own + first) + max(0, margin - own + second)
    return total


def test_the_whole_loss(model, batch):
    """Eq. 3 and 5 to 9 with their published weights, on vectors of unit length."""

    def unit(modality, value):
        return F.normalize(model.features(modality, value)[0], dim=1)

    v, t = unit("image", batch.inputs["image"]), unit("text", batch.inputs["text"])
    vu, s = unit("image", batch.unannotated["image"]), unit("text", batch.unannotated["semantics"])
    strong = triplet(v.detach(), t.detach(), batch.groups, 0.2)
    weak = triplet(vu.detach(), s.detach(), [0, 1, 2, 0], 0.3)  # the last is named as the first
    judge = model.discriminators
    adversary = (
        0.2 * judge["image_unannotated"].loss(v, vu, 1)
        + 0.1 * judge["text_semantics"].loss(t, s, 1)
        + 0.5 * judge["image_text"].loss(v, t, 1)
        + 0.5 * judge["unannotated_semantics"].loss(vu, s, 1)
        + 0.3 * judge["image_semantics"].loss(v, s, 1)
        + 0.3 * judge["unannotated_text"].loss(vu, t, 1)
    )
    found = model.loss(batch, 0.5, "model")
    assert float(found["triplet"]) == pytest.approx(0.8 * strong + 0.2 * weak)
    assert float(found["adversary"]) == pytest.approx(float(adversary))
    assert float(found["loss"]) == pytest.approx(0.8 * strong + 0.2 * weak + float(adversary))


def test_ablations(batch):
    def loss(**over):
        torch.manual_seed(0)
        settings = a3vse.Settings(dim=6, word_dim=4, **over)
        model = a3vse.Model(settings, base.Context({"image": (3, 7)}, 12)).double()
        return model, model.loss(batch, 0.5, "model")

    model, found = loss(semantics="none", image_text=0)
    (v, _), (t, _) = (model.features(m, batch.inputs[m]) for m in ("image", "text"))
    assert float(found["loss"]) == pytest.approx(triplet(v.detach(), t.detach(), batch.groups, 0.2))
    _, mean = loss(semantics="none", image_text=0, reduction="mean")
    assert float(mean["loss"]) == pytest.approx(triplet(v.detach(), t.detach(), batch.groups, 0.2) / 4)  # eq. 2
    assert "effective_regions" in found
    model, without = loss(attention=False)
    assert "effective_regions" not in without
    features = batch.inputs["image"]
    mean = model.image.fc(features.features[1, :2]).mean(0)
    torch.testing.assert_close(model.features("image", features)[0][1], mean)


def test_weaker_adversaries_on_features_as_they_are(batch):
    """`adversary` weighs all of eq. 8, and `discriminate: features` shows the discriminators lengths too."""

    def adversary(**over):
        torch.manual_seed(0)
        settings = a3vse.Settings(dim=6, word_dim=4, **over)
        model = a3vse.Model(settings, base.Context({"image": (3, 7)}, 12)).double()
        return model, model.loss(batch, 0.5, "model")["adversary"].detach()

    _, whole = adversary()
    torch.testing.assert_close(adversary(adversary=0.25)[1], 0.25 * whole)
    assert adversary(adversary=0)[1] == 0
    only = dict.fromkeys(a3vse.DOMAINS, 0.0) | {"image_text": 1.0}
    model, found = adversary(discriminate="features", **only)
    v, t = (model.features(m, batch.inputs[m])[0] for m in ("image", "text"))
    torch.testing.assert_close(found, model.discriminators["image_text"].loss(v, t, 1.0).detach())


def test_discriminators_have_a_learning_rate_of_their_own():
    torch.manual_seed(0)
    settings = a3vse.Settings(dim=6, word_dim=4, discriminator_lr=5.0)
    model = a3vse.Model(settings, base.Context({"image": (3, 7)}, 12))
    encoders, judges = model.optimisers(model.stages()[0])["model"].param_groups
    assert (encoders["lr"], judges["lr"]) == (5e-4, 2.5e-3)
    assert {id(p) for p in judges["params"]} == {id(p) for p in model.discriminators.parameters()}
    assert len(encoders["params"]) + len(judges["params"]) == len(list(model.parameters()))


def test_words_begin_alike_however_many_there_are():
    """Xavier's rule over the table of words would shrink them with the vocabulary: by ten from 300 to 30,000 words."""
    for words in (300, 30_000):
        torch.manual_seed(0)
        model = a3vse.Model(a3vse.Settings(dim=6, word_dim=4), base.Context({"image": (3, 7)}, words))
        assert float(model.text.words.weight.detach().std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)  # uniform to ±.1


def test_one_sharpness_means_the_same_in_every_width():
    """Of vectors that agree to one degree in each of H coordinates, weights follow from λ·H, not from H."""
    vectors = torch.tensor([[[1.0], [2.0], [0.5]]])
    found = []
    for dim in (4, 64):
        attention = a3vse.ContextAttention(dim, 1, 8.0)
        for layer in (attention.of_mean, attention.of_each):
            nn.init.eye_(layer.weight)
        found.append(attention.weights(vectors.expand(1, 3, dim)).detach())
    torch.testing.assert_close(found[0], found[1])
    mean = math.tanh(3.5 / 3)
    expected = [math.exp(8 * mean * math.tanh(x)) for x in (1.0, 2.0, 0.5)]
    torch.testing.assert_close(found[0].flatten(), torch.tensor([x / sum(expected) for x in expected]))
