"""Weights, sizes and lengths of stages that no other test gives another value than their default, each switched."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossmodal.core import registry
from crossmodal.models import (
    adapter,
    adaptive,
    base,
    cbt,
    ccl,
    cgan,
    cmpm,
    corrae,
    cvs,
    cvs_adversarial,
    dckt,
    devise,
    dsve,
    kulkarni,
    mcsm,
    rrfnet,
    rvs,
    scacmr,
    sgm,
    socher,
    ugach,
    uncsm,
    vdr,
    vse0,
)
from crossmodal.models.parts import captioner, decoding, objectives, words
from tests.models import test_farhadi as of_farhadi
from tests.models import test_realisers as of_realisers
from tests.models.captioners import small

F64 = torch.float64
TWO = base.Context({"image": (5,), "text": (4,)}, n_classes=3)
STAGE = base.Stage("train", 1, 0.5, 1)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def labelled(n: int = 6) -> base.Batch:
    labels = torch.arange(n) % 3
    return base.Batch({"image": drawn(n, 5), "text": drawn(n, 4, seed=1)}, torch.arange(n), labels)


def built(module, context: base.Context = TWO, **settings) -> base.Model:
    torch.manual_seed(0)
    return module.Model(module.Settings(**settings), context).double()


def numbers(terms: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in terms.items()}


# -- weights of terms: each term is checked literally elsewhere -------------------------------------------------------


def test_the_weights_of_semantic_consistency():
    weights = {"label": 2.0, "within": 3.0, "centre": 5.0, "across": 7.0, "similarity": 11.0, "adversarial": 13.0}
    chosen = {f"{name}_weight": value for name, value in weights.items()}
    terms = numbers(built(scacmr, hidden=(6,), dim=4, **chosen).loss(labelled(), 0.5, "model"))
    named = {"label": "classes", "adversarial": "modality"}
    assert len({round(value, 6) for value in terms.values()}) == len(terms)
    assert terms["loss"] == pytest.approx(sum(w * terms[named.get(name, name)] for name, w in weights.items()))


def test_the_weights_and_the_biases_rate_of_rrfnet():
    weights = {"image_to_text": 2.0, "text_to_image": 3.0, "text_structure": 5.0, "image_structure": 7.0}
    model = built(rrfnet, hidden=(6,), dim=4, margin=2.0, hardest=1, bias_lr=0.25, **weights)
    batch = base.Batch({"image": drawn(6, 5), "text": drawn(6, 4, seed=1)}, torch.arange(6))
    terms = numbers(model.loss(batch, 0.0, "model"))
    assert len({round(value, 6) for value in terms.values()}) == len(terms)
    assert terms["loss"] == pytest.approx(sum(weight * terms[name] for name, weight in weights.items()))
    assert [group["lr"] for group in model.optimisers(STAGE)["model"].param_groups] == [0.5, 0.125]


@pytest.mark.parametrize(
    ("module", "settings", "expected"),
    [(ccl, {"reconstruction": 2.0, "distance": 3.0}, (2.0, 3.0)), (corrae, {"distance": 0.7}, (0.3, 0.7))],
)
def test_the_weights_of_correspondence(module, settings, expected):
    model = built(module, hidden=(6,), dim=3, standardise=False, **settings)
    model.begin(model.stages()[0])
    terms = numbers(model.loss(labelled(), 0.0, "model"))
    assert terms["loss"] == pytest.approx(expected[0] * terms["reconstruction"] + expected[1] * terms["distance"])


def test_the_weights_of_cmpm_and_cmpc():
    context = base.Context({"image": (5,)}, 12, groups=torch.arange(4))
    model = built(cmpm, context, dim=3, word_dim=4, units=3, dropout=0.0, matching=3.0, classification=2.0)
    ids = torch.randint(4, 12, (4, 5), generator=torch.Generator().manual_seed(0))
    batch = base.Batch({"image": drawn(4, 5), "text": base.Tokens(ids, torch.full((4,), 5))}, torch.arange(4))
    terms = numbers(model.loss(batch, 0.0, "model"))
    assert terms["loss"] == pytest.approx(3 * terms["matching"] + 2 * terms["classification"])


# -- margins, shares and gates ----------------------------------------------------------------------------------------


def test_the_margin_of_uncsms_triplets():
    model, batch = built(uncsm, hidden=(6,), dim=3, standardise=False, triplet_margin=0.9), labelled()
    model.begin(next(stage for stage in model.stages() if stage.name == "triplets"))
    x, y = (model.vectors(m, batch) for m in ("image", "text"))
    same = batch.labels[:, None] == batch.labels
    expected = float(uncsm.double_triplets(x @ y.T, same, 0.9).detach())
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(expected)
    assert expected > float(uncsm.double_triplets(x @ y.T, same, 0.2).detach()) + 0.1


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.25), (0.4, 0.625), (0.8, 1.0), (0.9, 1.0)])
def test_when_all_pairs_take_part_in_dckt(monkeypatch, progress, share):
    """A quarter at first, growing evenly until .8 of the training."""
    shares = []
    monkeypatch.setattr(dckt, "easiest", lambda x, y, labels, s: shares.append(s) or torch.arange(len(labels)))
    model, batch = (
        built(dckt, base.Context(TWO.shapes, n_classes=3, source=TWO), dim=4, start=0.25, whole=0.8),
        labelled(),
    )
    batch.source = labelled()
    model.loss(batch, progress, "model")
    assert shares == pytest.approx([share])


def test_socher_without_its_gate_ranks_by_gaussians_alone():
    labels = torch.arange(40) % 4
    batch = base.Batch({"image": drawn(40, 3).float(), "class": torch.eye(4)[labels]}, labels=labels)
    context = base.Context({"image": (3,), "class": (4,)}, n_classes=4)
    model = socher.Model(socher.Settings(units=5, neighbours=3, gate=False), context)
    model.fit([batch])
    images, classes = model.encode("image", batch, "class"), model.encode("class", batch, "image")
    squares = (images[:, None, :4] - classes[None, :, :4]).square().sum(2)
    torch.testing.assert_close(model.score(images, classes), -squares / (2 * model.get_buffer("variance")))


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [cvs, rvs])
def test_the_products_of_attention_that_are_left_out(module):
    """Figure 25 of the thesis: the blocks have the weights of the terms that are left, and their sum alone."""
    model = built(module, dim=4, terms=("s", "is"), modalities=("image", "text"))
    (block,) = model.blocks.values()
    assert [*block.weights] == ["s", "is"]
    g_i, g_s = drawn(2, 4), drawn(2, 4, seed=1)
    expected = torch.tanh(g_s @ block.weights["s"].weight.T + (g_i * g_s) @ block.weights["is"].weight.T)
    torch.testing.assert_close(block.hidden(g_i, g_s), expected)


def test_the_cells_that_dsve_pools_and_the_dropout_of_its_sentences():
    small_dsve = {"dim": 4, "units": 6, "word_dim": 4, "layers": 2, "extremes": 1, "text_dropout": 0.4, "dropout": 0.0}
    model = built(dsve, base.Context({"image": (9, 5)}, 12), **small_dsve).eval()
    regions = base.Regions(drawn(2, 9, 5), torch.tensor([9, 9]))
    cells = model.map(regions.features)
    expected = F.normalize(model.image(cells.amax(1) + cells.amin(1)), dim=1)  # the largest and the smallest value
    torch.testing.assert_close(model.encode("image", base.Batch({"image": regions}), "text"), expected)
    assert model.text.dropout.p == 0.4


@pytest.mark.parametrize("phrase", [2, 4])
def test_the_windows_of_words_of_sgm(phrase):
    model = built(sgm, base.Context({"image": (3, 5)}, 12), dim=4, units=6, word_dim=4, phrase=phrase)
    tokens = base.Tokens(torch.randint(4, 12, (2, 6)), torch.tensor([6, 6]))
    _, phrases = model.text(tokens, model.words)
    assert phrases.shape == (2, 6 - phrase + 1 + 1, 4)  # the whole sentence is one more
    vectors = model.words(tokens.ids)
    last = model.text.phrase(vectors[:, -phrase:])[1][-1]
    torch.testing.assert_close(phrases[:, -2], F.normalize(last, dim=1))


def test_the_bottleneck_of_an_adapter():
    context = base.Context({"image": (12,), "text": (12,)})
    for factor, inner in ((3, 4), (100, 1)):
        model = adapter.Model(adapter.Settings(reduction_factor=factor), context)
        assert [layer.weight.shape for layer in model.heads["image"].bottleneck[::2]] == [(inner, 12), (12, inner)]


# -- stages, turns and optimisers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("uncsm", {"contrastive_epochs": 2, "triplet_epochs": 3, "epochs": 5}, [2, 3, 5]),
        ("uncsm", {"contrastive_epochs": 0, "triplet_epochs": 0, "epochs": 5}, [5]),
        ("gxn", {"caption_epochs": 2, "image_epochs": 3, "epochs": 5}, [2, 3, 5]),
        ("gxn", {"caption_epochs": 2, "image_epochs": 3, "epochs": 5, "caption": 0}, [3, 5]),
        ("sco", {"concept_epochs": 2, "epochs": 5}, [2, 5]),
        ("sco", {"concept_epochs": 0, "epochs": 5}, [5]),
        ("cgan", {"generator_epochs": 2, "evaluator_epochs": 3, "epochs": 5}, [2, 3, 5]),
        ("ccl", {"pretrain_epochs": 2, "epochs": 5}, [2, 5]),
        ("ugach", {"pretrain_epochs": 2, "epochs": 5}, [2, 5]),
    ],
)
def test_the_epochs_of_each_stage(name, settings, expected):
    module = registry.module("models", name)
    stages = module.Model.stages(SimpleNamespace(settings=module.Settings(**settings)))
    assert [stage.epochs for stage in stages] == expected


@pytest.mark.parametrize("name", ["cmgan", "ugach"])
def test_the_steps_of_the_generator(name):
    module = registry.module("models", name)
    sizes = {"cmgan": {"units": 6, "dim": 3, "judge_units": 4}, "ugach": {"hidden": (6,), "bits": 4}}[name]
    model = built(module, generator_steps=3, **sizes)
    turns = [turn for turn in model.optimisers(model.stages()[-1]) if turn.startswith("generator")]
    assert turns == ["generator1", "generator2", "generator3"]


@pytest.mark.parametrize("name", ["adaptive", "contrastive_captions", "twod"])
def test_the_first_moment_of_adam(name):
    model, _ = small(name, first_moment=0.3)
    assert model.optimisers(STAGE)["model"].defaults["betas"] == (0.3, 0.999)


# -- captioners -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sentinel", [True, False])
def test_without_a_sentinel_every_word_looks_at_the_image_alone(sentinel):
    model, batch = small("adaptive", sentinel=sentinel)
    assert isinstance(model.settings, adaptive.Settings)
    share = model.image_share(batch, batch.inputs["text"].ids[:, 1:3])
    assert (share < 0.99).all() if sentinel else torch.allclose(share, torch.ones_like(share))


def test_a_captioner_hands_its_settings_to_the_beam_and_to_the_choice_of_other_captions(monkeypatch):
    model, batch = small("nic", length_power=0.25, longest=6)
    asked = []
    monkeypatch.setattr(decoding, "beam", lambda *given: asked.append(given))
    model.generate(batch, 3)
    assert asked[0][3:5] == (6, 3)
    assert asked[0][-1] == 0.25
    original = objectives.mismatched
    for kind in ("random", "similar"):
        model, batch = small("nic", objective="contrastive", mismatched=2, mismatches=kind)
        model.inherit(model.state_dict())
        seen = []
        with monkeypatch.context() as patch:
            patch.setattr(objectives, "mismatched", lambda *given, to=seen: to.append(given[2:]) or original(*given))
            model.contrastive(batch)
        assert seen == [(2, kind)]


def test_other_captions_are_of_random_images_or_of_the_most_similar_ones():
    looks, groups = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.5]]), torch.tensor([0, 1, 2, 0])
    assert objectives.mismatched(looks, groups, 1, "similar").tolist() == [[1], [0], [3], [1]]
    torch.manual_seed(0)
    seen = {objectives.mismatched(looks, groups, 1, "random")[0].item() for _ in range(40)}
    assert seen == {1, 2}


def test_farhadis_edges_and_smoothing():
    model = of_farhadi.fitted(edge=0.0, smoothing=2.0, values=2)
    nodes = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model.marginals(nodes), nodes.softmax(2))  # slots that know nothing of each other
    model = of_farhadi.fitted(smoothing=2.0, neighbours=1)
    (row,) = model._nodes(of_farhadi.IMAGES[:1])  # one neighbour with one caption: a value once, the others never
    size = model.settings.values + 1
    assert sorted(set(row.exp().flatten().tolist())) == pytest.approx([2 / (1 + 2 * size), 3 / (1 + 2 * size)])


def test_the_smoothing_of_systems_that_count_words():
    model = of_realisers.fitted(kulkarni, smoothing=0.5, sentence="n-gram", glued=3)
    assert len(model.frequent) == 3
    a, tree = (of_realisers.PLACE[word] for word in ("a", "tree"))
    words = model.counts("words")
    expected = (model.counts("bigrams").get((a, tree), 0) + 0.5) / (words[a,] + 0.5 * len(words))
    assert model._log(a, tree) == pytest.approx(np.log(expected))
    model = of_realisers.fitted(vdr, smoothing=0.5)
    seen = of_realisers.objects([("house", "", (0, 0, 10, 10), 0.8), ("dog", "", (0, 40, 10, 60), 0.5)])
    (seen,) = model.seen(seen)  # no caption begins with a house, or tells where it is of a dog
    number = vdr.relation(seen.boxes[0], seen.boxes[1])
    assert model._score(seen, 0, number, 1) == pytest.approx(2 * np.log(0.5) + np.log(0.4))


@pytest.mark.parametrize("unit", [True, False])
def test_images_of_vse0_are_mapped_with_or_without_a_norm(unit):
    torch.manual_seed(0)
    model = vse0.Model(vse0.Settings(dim=5, word_dim=3, unit_images=unit), base.Context({"image": (4,)}, 9)).double()
    features = torch.randn(3, 4, dtype=torch.float64)
    tokens = base.Tokens(torch.randint(1, 9, (3, 4)), torch.tensor([4, 2, 3]))
    batch = base.Batch({"image": features, "text": tokens}, torch.arange(3))
    mapped = features @ model.image.fc.weight.T + model.image.fc.bias
    images, texts = model.encode("image", batch, "text"), model.encode("text", batch, "image")
    torch.testing.assert_close(images, mapped / mapped.norm(dim=1, keepdim=True) if unit else mapped)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(model.score(images, texts), images @ texts.T)


@pytest.mark.parametrize(("optimiser", "momentum"), [("plain_sgd", 0.0), ("sgd", 0.9), ("nesterov", 0.9)])
def test_momentum_of_the_optimisers(optimiser, momentum):
    context = base.Context({"image": (4,), "text": (3,)}, n_classes=2)
    model = cbt.Model(cbt.Settings(hidden=(5,), dim=4, optimiser=optimiser), context)
    (group,) = model.optimisers(model.stages()[0])["model"].param_groups
    assert (group["momentum"], group["nesterov"]) == (momentum, optimiser == "nesterov")


# -- parts that are trained, rates and stages -------------------------------------------------------------------------


def test_word_vectors_are_trained_or_stay():
    context = base.Context({}, 6)
    for trained in (True, False):
        layer = words.embedding(context, words.WordVectors(word_dim=3, train_words=trained))
        assert layer.weight.requires_grad is trained
        assert not layer.weight[0].any()


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_how_fast_cmpm_learns_the_statistics_of_its_common_space(decay):
    model = built(cmpm, base.Context({"image": (5,)}, 12), dim=3, word_dim=4, units=3, norm_decay=decay)
    images = drawn(4, 5)
    mapped = images @ model.image.fc.weight.T
    model.vectors("image", base.Batch({"image": images}))
    torch.testing.assert_close(model.image.norm.running_mean, (1 - decay) * mapped.mean(0))


@pytest.mark.parametrize(
    ("activation", "function"),
    [("none", lambda x: x), ("tanh", torch.tanh), ("leaky", lambda x: x.where(x > 0, x / 100))],
)
def test_the_activation_of_objects_and_relations(activation, function):
    torch.manual_seed(0)
    s = sgm.Settings(dim=4, units=6, word_dim=3, activation=activation)
    part = sgm.Objects(s, 5)
    fused, related = torch.randn(2, 6), torch.randn(2, 18)
    for layer, given in ((part.object, fused), (part.relation, related)):
        torch.testing.assert_close(layer(given), function(given @ layer[0].weight.T + layer[0].bias))


def test_how_many_words_mcsm_pools(monkeypatch):
    torch.manual_seed(0)
    space = mcsm.TextSpace(mcsm.Settings(word_dim=3, widths=(4,), kernel=1, pool=3), 5).eval()
    given = {}
    monkeypatch.setattr(mcsm.Recurrent, "forward", lambda _, x, valid: given.update(x=x, valid=valid))
    local = torch.randn(2, 7, 3)
    valid = torch.arange(7) < torch.tensor([7, 2])[:, None]
    space("text", local * valid[..., None], valid)
    (layer,), (norm,) = space.convolutions, space.norms
    plain = (local @ layer.weight[..., 0].T + layer.bias) / (norm.running_var + norm.eps).sqrt()
    plain = plain.relu() * valid[..., None]
    expected = torch.stack([plain[:, first : first + 3].amax(1) for first in (0, 3, 6)], 1)
    torch.testing.assert_close(given["x"], expected)
    assert given["valid"].tolist() == [[True, True, True], [True, False, False]]


def test_the_rate_of_ugachs_discriminator_beside_the_generator():
    model = ugach.Model(ugach.Settings(hidden=(4,), bits=8, discriminator_lr=0.3), TWO)
    first, both = model.stages()
    assert model.optimisers(first)["discriminator"].param_groups[0]["lr"] == first.lr
    found = model.optimisers(replace(both, lr=0.5))
    assert found["against_generator"].param_groups[0]["lr"] == pytest.approx(0.15)
    assert found["generator1"].param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("hidden", [0, 1, 3])
def test_the_hidden_layers_of_generators(hidden):
    model = built(cvs_adversarial, dim=4, hidden_layers=hidden)
    for generator in model.generators.values():
        assert [(m.in_features, m.out_features) for m in generator.modules() if isinstance(m, torch.nn.Linear)] == [
            (4, 4)
        ] * (hidden + 1)


def test_the_rate_of_an_adversarial_captioner_falls_in_each_stage():
    settings = cgan.Settings(lr_drop=2, lr_factor=0.25)
    stages = cgan.Model.stages(SimpleNamespace(settings=settings))
    assert [(stage.lr_drop, stage.lr_factor) for stage in stages] == [(2, 0.25)] * 3


@pytest.mark.parametrize(("every", "shares"), [(2, [0.0, 0.0, 0.05, 0.05, 0.1]), (3, [0.0, 0.0, 0.0, 0.05, 0.05])])
def test_words_are_drawn_the_more_the_longer_a_captioner_is_trained(every, shares):
    settings = SimpleNamespace(epochs=5, scheduled_every=every, scheduled_most=0.25)
    of = SimpleNamespace(settings=settings)
    found = [captioner.Captioner._share_drawn(of, (epoch + 0.5) / 5) for epoch in range(5)]
    assert found == pytest.approx(shares)


def test_the_stages_of_dsve():
    settings = dsve.Settings(epochs=9, fixed_epochs=1, halvings=5, lr=0.8, lr_drop=2, lr_factor=0.5)
    stages = dsve.Model.stages(SimpleNamespace(settings=settings))
    # Halved after the second and the fourth of five epochs, and then as it is.
    assert [(stage.name, stage.epochs, stage.lr) for stage in stages] == [
        ("images", 1, 0.8), ("falling", 5, 0.8), ("train", 3, pytest.approx(0.2)),
    ]  # fmt: skip
    without = dsve.Settings(epochs=9, fixed_epochs=0, halvings=5)
    assert [stage.name for stage in dsve.Model.stages(SimpleNamespace(settings=without))] == ["falling", "train"]


@pytest.mark.parametrize("standardise", [True, False])
def test_images_of_devise_are_standardised_or_not(standardise):
    moments = {"image": (torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0]))}
    context = base.Context({"image": (2,), "class": (3,)}, moments=moments)
    model = devise.Model(devise.Settings(standardise=standardise), context)
    images = torch.tensor([[2.0, 6.0]])
    expected = (torch.tensor([[2.0, 1.0]]) if standardise else images) @ model.map.weight.T
    torch.testing.assert_close(model.encode("image", base.Batch({"image": images}), "class"), expected)
