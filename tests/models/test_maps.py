"""PVSE, DSVE and DVSA against their equations in float64, item by item, and their special cases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, dsve, dvsa, pvse

F64 = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def batch_of(n=4, cells=5, dim=6, words=20, groups=None):
    lengths = torch.tensor([5, 2, 3, 5][:n])
    ids = torch.randint(4, words, (n, 5), generator=torch.Generator().manual_seed(3))
    tokens = base.Tokens(ids * (torch.arange(5) < lengths[:, None]), lengths)
    counts = torch.tensor([5, 3, 4, 5][:n])
    features = drawn(n, cells, dim) * (torch.arange(cells) < counts[:, None])[..., None]
    image = base.Regions(features, counts)
    return base.Batch({"image": image, "text": tokens}, torch.arange(n) if groups is None else torch.tensor(groups))


def alone(batch, row):
    """The items of one row, without padding."""
    image, text = batch.inputs["image"], batch.inputs["text"]
    m, length = int(image.counts[row]), int(text.lengths[row])
    return base.Batch(
        {
            "image": base.Regions(image.features[row : row + 1, :m], image.counts[row : row + 1]),
            "text": base.Tokens(text.ids[row : row + 1, :length], text.lengths[row : row + 1]),
        }
    )


CONTEXT = base.Context({"image": (5, 6)}, 20)
SYSTEMS = {
    "pvse": lambda **s: pvse.Model(pvse.Settings(dim=8, word_dim=4, **s), CONTEXT),
    "dsve": lambda **s: dsve.Model(dsve.Settings(dim=8, word_dim=4, units=7, layers=2, **s), CONTEXT),
    "dvsa": lambda **s: dvsa.Model(dvsa.Settings(dim=8, word_dim=4, **s), CONTEXT),
}


def built(name, **settings):
    torch.manual_seed(0)
    return SYSTEMS[name](**settings).double().eval()


@pytest.mark.parametrize("name", SYSTEMS)
def test_items_do_not_feel_the_padding_of_their_batch(name):
    model, batch = built(name), batch_of()
    for modality, size in (("image", "counts"), ("text", "lengths")):
        together = model.encode(modality, batch, "")
        for row in range(4):
            one = model.encode(modality, alone(batch, row), "")[0]
            n = int(getattr(batch.inputs[modality], size)[row])
            torch.testing.assert_close(one, together[row][:n] if name == "dvsa" else together[row])


# -- PVSE -------------------------------------------------------------------------------------------------------------


def test_the_vectors_of_pvse_head_by_head():
    model, batch = built("pvse"), batch_of()
    for modality in ("image", "text"):
        found, residuals = model.vectors(modality, batch.inputs[modality])
        part = model.embeddings[modality]
        for row in range(4):
            one = alone(batch, row).inputs[modality]
            if modality == "image":
                local = one.features[0]
                of_all = model.image(local.mean(0))
            else:
                local = model.words(one.ids)[0]
                states, _ = model.gru(local[None])
                of_all = torch.cat([states[0, -1, :4], states[0, 0, 4:]])  # each way's last state
            for k in range(2):
                logits = torch.tanh(local @ part.into.weight.T) @ part.heads.weight[k]
                attended = (
                    sum(math.exp(v) * x for v, x in zip(logits.tolist(), local, strict=True)) / logits.exp().sum()
                )
                residual = torch.sigmoid(part.fc(attended))
                z = F.layer_norm(of_all + residual, (8,), part.norm.weight, part.norm.bias)
                torch.testing.assert_close(residuals[row, k], residual)
                torch.testing.assert_close(found[row, k], z / z.norm())


def test_pvse_begins_as_its_program_does():
    """Words: Xavier's uniform weights; the map of global features: PyTorch's own of a linear layer."""
    torch.manual_seed(0)
    context = base.Context({"image": (5, 400)}, 300)
    model = pvse.Model(pvse.Settings(dim=64, word_dim=100), context)
    for weights, bound in (
        (model.words.weight, math.sqrt(6 / (300 + 100))),
        (model.image.weight, 1 / math.sqrt(400)),
        (model.image.bias, 1 / math.sqrt(400)),
    ):
        assert 0.9 * bound < weights.abs().max() <= bound
    vectors = torch.rand(300, 100)
    vectors[0] = 0
    given = pvse.Model(pvse.Settings(dim=64, word_dim=100), replace(context, word_vectors=vectors))
    assert given.words.weight.equal(vectors)


def test_scores_of_pvse_are_the_best_of_all_pairs_of_vectors():
    images, texts = F.normalize(drawn(3, 2, 5), dim=2), F.normalize(drawn(4, 2, 5, seed=1), dim=2)
    found = built("pvse").score(images, texts)
    for a in range(3):
        for b in range(4):
            best = max(float(images[a, j] @ texts[b, k]) for j in range(2) for k in range(2))
            assert float(found[a, b]) == pytest.approx(best)


def test_the_regularisers_of_pvse_by_loops():
    residuals = drawn(3, 2, 4)
    expected = 0.0
    for r in residuals.numpy():
        cosine = float(r[0] @ r[1] / np.linalg.norm(r[0]) / np.linalg.norm(r[1]))
        expected += math.sqrt(2 * cosine**2) / 4 / 3
    assert float(pvse.diversity_loss(residuals)) == pytest.approx(expected)
    x, y = drawn(4, 3).numpy(), drawn(4, 3, seed=1).numpy()

    def kernel(a, b):
        return np.mean([[math.exp(-0.5 * np.linalg.norm(u - v)) for v in b] for u in a])

    expected = kernel(x, x) - 2 * kernel(x, y) + kernel(y, y)
    assert float(pvse.discrepancy(torch.tensor(x), torch.tensor(y))) == pytest.approx(expected)
    point = torch.ones(3, 2, dtype=F64, requires_grad=True)
    pvse.discrepancy(point, point.detach()).backward()  # equal vectors have no direction to move in
    assert torch.isfinite(point.grad).all()


def test_the_loss_of_pvse_and_its_ablation_of_one_vector():
    batch = batch_of(groups=[0, 0, 1, 2])
    model = built("pvse", diversity=0.3, discrepancy=0.7)
    terms = model.loss(batch, 0.0, "model")
    scores = model.score(model.encode("image", batch, ""), model.encode("text", batch, "")).detach()
    hinges = 0.0
    for i in range(4):  # the second caption of the same image is a negative, as in the program
        others = [j for j in range(4) if j != i]
        hinges += max(max(0, 0.1 - float(scores[i, i] - scores[i, j])) for j in others) / 4
        hinges += max(max(0, 0.1 - float(scores[i, i] - scores[j, i])) for j in others) / 4
    assert float(terms["hinges"].detach()) == pytest.approx(hinges)
    torch.testing.assert_close(terms["loss"], terms["hinges"] + 0.3 * terms["diversity"] + 0.7 * terms["discrepancy"])
    single = built("pvse", heads=1).loss(batch, 0.0, "model")
    assert {*single} == {"loss", "hinges"}
    assert model.words.weight.requires_grad is False
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    assert optimiser.defaults["amsgrad"]


# -- DSVE -------------------------------------------------------------------------------------------------------------


def test_weldon_by_hand():
    cells = torch.tensor([[[5.0, 0], [1, 3], [4, 1], [-2, 7]], [[5.0, 0], [1, 3], [-9, -9], [-9, -9]]])
    found = dsve.weldon(cells, torch.tensor([4, 2]), 2)
    # (5 + 4) / 2 + (1 - 2) / 2, (7 + 3) / 2 + (0 + 1) / 2; of two cells all are the largest and the smallest
    torch.testing.assert_close(found, torch.tensor([[4.0, 5.5], [6.0, 3.0]]))
    torch.testing.assert_close(dsve.weldon(cells[:1], torch.tensor([4]), 15), 2 * cells[:1].mean(1))


def test_simple_recurrent_units_step_by_step():
    torch.manual_seed(0)
    for in_dim in (3, 4):
        layer = dsve.SRU(in_dim, 4).double()
        torch.nn.init.normal_(layer.biases)
        x = drawn(2, 6, in_dim)
        w = layer.maps.weight.detach().split(4)
        c = torch.zeros(2, 4, dtype=F64)
        found = layer(x)
        for t in range(6):
            f = torch.sigmoid(x[:, t] @ w[1].T + layer.biases[0])
            r = torch.sigmoid(x[:, t] @ w[2].T + layer.biases[1])
            c = f * c + (1 - f) * (x[:, t] @ w[0].T)
            shortcut = x[:, t] if in_dim == 4 else x[:, t] @ w[3].T
            torch.testing.assert_close(found[:, t], r * torch.tanh(c) + (1 - r) * shortcut)


def test_a_pair_with_a_negative_score_may_be_its_own_negative_as_in_the_program():
    scores = torch.tensor([[0.5, 0.6], [0.1, 0.9]])
    assert float(dsve.lowered_hinges(scores, 0.2)) == pytest.approx(0.3)  # as for VSE++, in test_losses
    scores = torch.tensor([[-0.4, -0.9], [-0.9, 0.8]])
    # the pair's own .4 is the hardest: .2 + .4 + .4, both ways; the second pair has no violation
    assert float(dsve.lowered_hinges(scores, 0.2)) == pytest.approx(2.0)
    batch = batch_of(groups=[0, 0, 1, 1])
    model = built("dsve")
    scores = (model.encode("image", batch, "") @ model.encode("text", batch, "").T).detach()
    for settings, same in (
        ({}, None),
        ({"negatives": "other_groups"}, torch.eye(2).repeat_interleave(2, 0).repeat_interleave(2, 1) > 0),
    ):
        found = built("dsve", reduction="mean", **settings).loss(batch, 0.5, "model")["loss"]
        torch.testing.assert_close(found.detach(), dsve.lowered_hinges(scores, 0.2, same) / 4)
    with_other = dsve.lowered_hinges(torch.tensor([[0.5, 0.6], [0.1, 0.9]]), 0.2, torch.ones(2, 2, dtype=torch.bool))
    assert float(with_other) == 0


def test_stages_of_dsve_follow_the_programs_schedule():
    """Halved at the ends of the third to the seventh epoch; the captions' network is fixed in the first two."""
    model = built("dsve")
    rates = []
    for stage in model.stages():
        model.begin(stage)
        assert all(p.requires_grad == (stage.name != "images") for p in model.text.layers.parameters())
        rates += [stage.lr * stage.lr_factor ** (epoch // stage.lr_drop) for epoch in range(stage.epochs)]
    assert rates == pytest.approx([1e-3, 1e-3, *(1e-3 / 2**n for n in range(5)), *([1e-3 / 32] * 53)])
    assert not model.text.words.weight.requires_grad
    with pytest.raises(ValueError, match="leave none for the last stage"):
        dsve.Settings(epochs=7)
    for cell in ("gru", "lstm"):
        batch = batch_of()
        together = built("dsve", cell=cell).encode("text", batch, "")
        torch.testing.assert_close(built("dsve", cell=cell).encode("text", alone(batch, 1), "")[0], together[1])


# -- DVSA -------------------------------------------------------------------------------------------------------------


def test_the_words_of_dvsa_step_by_step():
    model, batch = built("dvsa"), batch_of()
    text = model.text
    found = model.encode("text", batch, "")
    for row in range(4):
        ids = alone(batch, row).inputs["text"].ids[0]
        e = torch.relu(text.words(ids) @ text.into.weight.T + text.into.bias)
        n = len(ids)
        ahead, back = [None] * n, [None] * n
        for t in range(n):
            before = ahead[t - 1] if t else torch.zeros(8, dtype=F64)
            ahead[t] = torch.relu(e[t] + text.ways[0].weight @ before + text.ways[0].bias)
        for t in reversed(range(n)):
            after = back[t + 1] if t + 1 < n else torch.zeros(8, dtype=F64)
            back[t] = torch.relu(e[t] + text.ways[1].weight @ after + text.ways[1].bias)
        for t in range(n):
            torch.testing.assert_close(found[row, t], torch.relu(text.out(ahead[t] + back[t])))


def test_the_regions_of_dvsa_are_mapped_and_not_normalised():
    model, batch = built("dvsa"), batch_of()
    images, value = model.encode("image", batch, ""), batch.inputs["image"]
    for row, count in enumerate(value.counts.tolist()):
        expected = value.features[row, :count] @ model.image.fc.weight.T + model.image.fc.bias
        torch.testing.assert_close(images[row, :count], expected)


def test_places_are_reached_up_to_the_last_that_is_not_zeros():
    encodings = torch.tensor([[1, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 4]])[..., None]
    expected = [[True, True, True, False], [True, False, False, False], [True] * 4]
    assert dvsa.reached(encodings).tolist() == expected


def test_scores_of_dvsa_sum_over_words_the_best_region():
    model, batch = built("dvsa"), batch_of()
    images, words = model.encode("image", batch, ""), model.encode("text", batch, "")
    words[0, 2] = 0  # as a ReLU may leave it: still a word, which adds nothing
    found = model.score(images, words)
    for a in range(4):
        for b in range(4):
            v, s = images[a, : batch.inputs["image"].counts[a]], words[b, : batch.inputs["text"].lengths[b]]
            expected = sum(max(float((x @ y).detach()) for x in v) for y in s)
            assert float(found[a, b].detach()) == pytest.approx(expected, abs=1e-12)
    expected = 0.0
    scores = model.score(images, model.encode("text", batch, "")).detach()
    for i in range(4):
        for j in set(range(4)) - {i}:
            expected += max(0, float(scores[i, j] - scores[i, i]) + 1) + max(0, float(scores[j, i] - scores[i, i]) + 1)
    assert float(model.loss(batch, 0.9, "model")["loss"].detach()) == pytest.approx(expected)


def test_the_maps_of_pvses_attention_begin_as_its_program_has_them():
    """Within the bounds of Glorot and Bengio (2010), and reaching near to them."""
    torch.manual_seed(0)
    part = pvse.PolysemousEmbedding(40, 600, 8, 0.0)
    for layer, bound in ((part.into, (6 / 60) ** 0.5), (part.heads, (6 / 28) ** 0.5), (part.fc, (6 / 640) ** 0.5)):
        assert 0.95 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert not part.fc.bias.any()
