"""CMPM, order embeddings, DSPE and RRF-Net: their losses transcribed literally in float64, and their special cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, cmpm, dspe, order_embeddings, rrfnet
from crossmodal.models.parts import order
from crossmodal.models.parts.losses import top_hinges
from crossmodal.models.parts.order import violations

F64 = torch.float64
GROUPS = [[0, 1, 2, 3, 4], [3, 3, 5, 5, 5], [7, 7, 7, 7, 7]]
"""Pairs of different images, several captions of one image, and a batch without a negative."""


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def unit(*shape, seed=0):
    return F.normalize(drawn(*shape, seed=seed), dim=1)


@pytest.mark.parametrize("groups", GROUPS)
def test_cmpm_is_the_printed_divergence(groups):
    images, texts = drawn(5, 4), drawn(5, 4, seed=1)
    expected = 0.0
    for x, z in ((images.numpy(), texts.numpy()), (texts.numpy(), images.numpy())):
        for i in range(5):
            projections = [x[i] @ z[j] / np.linalg.norm(z[j]) for j in range(5)]
            whole = sum(math.exp(v) for v in projections)
            matches = sum(g == groups[i] for g in groups)
            for j in range(5):
                p, q = math.exp(projections[j]) / whole, (groups[j] == groups[i]) / matches
                expected += p * math.log(1e-8 + p / (q + 1e-8)) / 5
    found = cmpm.matching_loss(images, texts, torch.tensor(groups))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_cmpm_is_zero_where_the_projections_have_the_true_distribution():
    """Two captions of one image and nothing else: equal projections are right, whatever their size."""
    same = torch.ones(2, 3, dtype=F64)
    assert float(cmpm.matching_loss(same, 5 * same, torch.tensor([4, 4]))) == pytest.approx(0, abs=1e-7)


def test_cmpc_is_the_printed_cross_entropy():
    images, texts, classes = drawn(4, 3), drawn(4, 3, seed=1), drawn(3, 5, seed=2)
    labels, expected = [4, 0, 0, 2], 0.0
    columns = classes.numpy() / np.linalg.norm(classes.numpy(), axis=0)
    for x, z in ((images.numpy(), texts.numpy()), (texts.numpy(), images.numpy())):
        for i, label in enumerate(labels):
            of_z = z[i] / np.linalg.norm(z[i])
            logits = ((x[i] @ of_z) * of_z) @ columns
            expected -= (logits[label] - math.log(np.exp(logits).sum())) / 4
    found = cmpm.classification_loss(images, texts, classes, torch.tensor(labels))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def captions(n=4, words=20, seed=3):
    lengths = torch.tensor([5, 2, 3, 5][:n])
    ids = torch.randint(4, words, (n, 5), generator=torch.Generator().manual_seed(seed))
    return base.Tokens(ids * (torch.arange(5) < lengths[:, None]), lengths)


def test_cmpm_classes_are_the_images_of_the_training_pairs():
    torch.manual_seed(0)
    context = base.Context({"image": (6,)}, 20, groups=torch.tensor([2, 5, 9]))
    settings = cmpm.Settings(dim=5, word_dim=4, units=3, classification=0.5, dropout=0.0)
    model = cmpm.Model(settings, context)
    batch = base.Batch({"image": torch.randn(4, 6), "text": captions()}, torch.tensor([9, 2, 2, 5]))
    terms = model.loss(batch, 0.0, "model")
    images, texts = model.vectors("image", batch), model.vectors("text", batch)
    expected = cmpm.classification_loss(images, texts, model.classes, torch.tensor([2, 0, 0, 1]))
    torch.testing.assert_close(terms["loss"], terms["matching"] + 0.5 * expected)
    with pytest.raises(ValueError, match="CMPC needs the groups"):
        cmpm.Model(settings, base.Context({"image": (6,)}, 20))


def test_padding_is_a_zero_in_the_maximum_over_time():
    """As in the program, whose padded states are zeros, and for every caption alike; or not at all."""
    torch.manual_seed(0)
    context = base.Context({"image": (6,)}, 20)
    tokens = captions()
    for pooled in ("padded", "words"):
        settings = cmpm.Settings(dim=5, word_dim=4, units=3, pooled=pooled, dropout=0.0, joint_norm=False)
        text = cmpm.Model(settings, context).text
        for row, length in enumerate(tokens.lengths.tolist()):
            alone = base.Tokens(tokens.ids[row : row + 1, :length], tokens.lengths[row : row + 1])
            states = text.words(alone)[0]
            assert states.shape == (length, 6)
            longest = states.amax(0) if pooled == "words" else torch.cat([states, torch.zeros(1, 6)]).amax(0)
            torch.testing.assert_close(text.joint(longest), text(tokens)[row])


def test_the_common_space_of_cmpm_is_batch_normalised():
    """As in the program: no bias, and .003 of a batch's statistics, of which the variance is the unbiased one."""
    torch.manual_seed(0)
    settings = cmpm.Settings(dim=5, word_dim=4, units=3, dropout=0.0)
    model = cmpm.Model(settings, base.Context({"image": (6,)}, 20))
    assert model.image.fc.bias is None
    assert model.text.joint.fc.bias is None
    images = 3 + torch.randn(4, 6)
    batch = base.Batch({"image": images, "text": captions()}, torch.arange(4))
    mapped = (images @ model.image.fc.weight.T).double()
    expected = (mapped - mapped.mean(0)) / (mapped.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(model.vectors("image", batch).double(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.image.norm.running_mean.double(), 0.003 * mapped.mean(0), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(
        model.image.norm.running_var.double(), 0.997 + 0.003 * mapped.var(0), atol=1e-6, rtol=1e-4
    )
    texts = model.vectors("text", batch)
    torch.testing.assert_close(texts.mean(0), torch.zeros(5), atol=1e-5, rtol=0)


def test_cmpm_decays_the_maps_to_the_common_space_alone():
    torch.manual_seed(0)
    settings = cmpm.Settings(dim=5, word_dim=4, units=3, dropout=0.0, weight_decay=0.5)
    model = cmpm.Model(settings, base.Context({"image": (6,)}, 20))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser = model.optimisers(model.stages()[0])["model"]
    optimiser.step()
    changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert changed == {"image.fc.weight", "text.joint.fc.weight"}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(before)


def test_order_violations_by_hand():
    images = torch.tensor([[0.5, 0.1, 0.9], [0.0, 1.0, 0.0]])
    texts = torch.tensor([[0.5, 0.2, 0.8], [0.6, 0.0, 0.0]])
    expected = torch.tensor([[0.01, 0.01], [0.25 + 0.64, 0.36]])  # only what exceeds the image counts
    torch.testing.assert_close(violations(images, texts), expected)


def test_order_scores_do_not_depend_on_their_blocks(monkeypatch):
    model = order_embeddings.Model(order_embeddings.Settings(dim=3, word_dim=2), base.Context({"image": (4,)}, 9))
    images, texts = drawn(7, 3).abs(), drawn(5, 3, seed=1).abs()
    expected = -violations(images, texts)
    for budget in (1, 40, 10**6):
        monkeypatch.setattr(order, "BUDGET", budget)
        torch.testing.assert_close(model.score(images, texts), expected)


def test_the_loss_of_order_embeddings_is_the_programs():
    """Every other image's pair is a negative, both ways, in one sum over the batch."""
    torch.manual_seed(0)
    model = order_embeddings.Model(
        order_embeddings.Settings(dim=6, word_dim=4), base.Context({"image": (5,)}, 20)
    ).double()
    groups = [1, 1, 2, 3]
    batch = base.Batch({"image": drawn(4, 5), "text": captions()}, torch.tensor(groups))
    images, texts = (model.encode(m, batch, "").detach().numpy() for m in ("image", "text"))
    assert (images >= 0).all()
    assert (texts >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1)
    error = [[float((np.maximum(0, t - i) ** 2).sum()) for i in images] for t in texts]
    expected = 0.0
    for a in range(4):
        for b in range(4):
            if groups[a] != groups[b]:
                expected += max(0, 0.05 - error[a][b] + error[b][b]) + max(0, 0.05 - error[a][b] + error[a][a])
    assert float(model.loss(batch, 0.7, "model")["loss"].detach()) == pytest.approx(expected, rel=1e-9)
    signed = order_embeddings.Settings(dim=6, word_dim=4, absolute=False)
    bare = order_embeddings.Model(signed, base.Context({"image": (5,)}, 20)).double()
    assert (bare.encode("image", batch, "") < 0).any()


def test_the_gradient_of_each_parameter_is_clipped_by_itself():
    model = order_embeddings.Model(order_embeddings.Settings(dim=6, word_dim=4), base.Context({"image": (5,)}, 20))
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    assert [group["name"] for group in optimiser.param_groups] == [name for name, _ in model.named_parameters()]


def test_top_hinges_by_hand():
    matching = torch.tensor([0.5, 0.9])
    others = torch.tensor([[9.0, 0.6, 0.45, 0.1], [0.2, 9.0, 0.1, 0.85]])
    own = torch.tensor([[True, False, False, False], [False, True, False, False]])
    values, columns = top_hinges(matching, others, own, 0.1, 2)
    torch.testing.assert_close(values, torch.tensor([[0.2, 0.05], [0.05, 0.0]]))
    assert columns[0].tolist() == [1, 2]
    assert columns[1, 0] == 3
    assert top_hinges(matching, others, own, 0.1, 9)[0].shape == (2, 4)
    assert not top_hinges(matching, others, torch.ones_like(own), 0.1, 9)[0].any()


def structure_by_loops(images, texts, groups, m, k):
    """The three terms of DSPE, caption by caption, with every image once among the candidates."""
    n = len(groups)

    def d(x, y):
        return math.sqrt(float(((x - y) ** 2).sum()) + 1e-4)

    def largest(values, count):
        values = sorted(values, reverse=True) + [0.0] * count
        return values[:count]

    distinct = [i for i in range(n) if groups[i] not in groups[:i]]
    sums = {"against_images": [], "against_texts": [], "among_texts": []}
    for t in range(n):
        own = d(texts[t], images[t])
        far = max(d(texts[t], texts[u]) for u in range(n) if groups[u] == groups[t])
        others = [u for u in range(n) if groups[u] != groups[t]]
        count = min(k, n)
        sums["against_images"] += largest(
            [max(0, m + own - d(texts[t], images[i])) for i in distinct if groups[i] != groups[t]],
            min(k, len(distinct)),
        )
        sums["against_texts"] += largest([max(0, m + own - d(images[t], texts[u])) for u in others], count)
        sums["among_texts"] += largest([max(0, m + far - d(texts[t], texts[u])) for u in others], count)
    return {name: sum(values) / len(values) for name, values in sums.items()}


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("k", [1, 2, 10])
def test_dspe_is_the_printed_sums(groups, k):
    images, texts = unit(5, 3), unit(5, 3, seed=1)
    for row, group in enumerate(groups):  # a group's rows show the same image
        images[row] = images[groups.index(group)]
    found = dspe.structure_losses(images, texts, torch.tensor(groups), 0.4, k)
    expected = structure_by_loops(images.numpy(), texts.numpy(), groups, 0.4, k)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-9)


def test_dspe_weighs_its_terms():
    torch.manual_seed(0)
    settings = dspe.Settings(hidden=(6,), dim=4, dropout=0.0, margin=0.5, image_weight=3, text_weight=7)
    model = dspe.Model(settings, base.Context({"image": (5,), "text": (3,)})).double()
    batch = base.Batch({"image": drawn(5, 5), "text": drawn(5, 3)}, torch.tensor([0, 0, 1, 2, 3]))
    terms = model.loss(batch, 0.0, "model")
    expected = 3 * terms["against_images"] + terms["against_texts"] + 7 * terms["among_texts"]
    torch.testing.assert_close(terms["loss"], expected)
    for modality in ("image", "text"):
        torch.testing.assert_close(model.encode(modality, batch, "").norm(dim=1), torch.ones(5, dtype=F64))
    names = [type(layer).__name__ for layer in model.branches["image"]]
    assert names == ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]


def fusion_by_loops(images, texts, groups, m, k):
    n = len(groups)
    found = dict.fromkeys(("image_to_text", "text_structure", "text_to_image", "image_structure"), 0.0)
    for a in range(n):
        own = float(images[a] @ texts[a])
        for x, other, among, name, structure in (
            (images, texts, texts, "image_to_text", "text_structure"),
            (texts, images, images, "text_to_image", "image_structure"),
        ):
            violating = [
                (m - own + float(x[a] @ other[b]), b) for b in range(n) if groups[b] != groups[a]
            ]  # fmt: skip
            violating = sorted([v for v in violating if v[0] > 0], reverse=True)[:k]
            found[name] += sum(v for v, _ in violating) / (k * n)
            found[structure] += sum(max(0, m - own + float(among[a] @ among[b])) for _, b in violating) / (k * n)
    return found


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("k", [1, 3, 50])
def test_rrfnet_divides_by_k_however_few_negatives_violate(groups, k):
    images, texts = unit(5, 3, seed=4), unit(5, 3, seed=5)
    found = rrfnet.fusion_losses(images, texts, torch.tensor(groups), 0.3, k)
    expected = fusion_by_loops(images.numpy(), texts.numpy(), groups, 0.3, k)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_branch_of_rrfnet_step_by_step():
    torch.manual_seed(0)
    settings = rrfnet.Settings(hidden=(6,), dim=4, steps=2, dropout=0.0)
    model = rrfnet.Model(settings, base.Context({"image": (5,), "text": (3,)})).double()
    branch, x = model.branches["text"], drawn(7, 3)

    def normed(value, norm):
        value = (value - value.mean(0)) / (value.var(0, correction=0) + norm.eps).sqrt()
        return value * norm.weight + norm.bias

    norm_in, first, _, _, second, norm_out, _ = branch.begin
    h = torch.relu(normed(second(torch.relu(first(normed(x, norm_in)))), norm_out))
    states = []
    for norm in branch.norms:
        h = h + torch.relu(normed(branch.shared(h), norm))
        states.append(h)
    assert len(states) == 3
    weight, bias = branch.fusion.weight[0, :, 0], branch.fusion.bias
    fused = sum(w * s for w, s in zip(weight, states, strict=True)) + bias
    one = branch.end[0]
    fused = (fused - fused.mean()) / (fused.var(correction=0) + one.eps).sqrt() * one.weight + one.bias
    expected = F.normalize(normed(branch.end[3](torch.relu(fused)), branch.last), dim=1)
    torch.testing.assert_close(branch(x), expected)


def test_biases_of_rrfnet_are_trained_faster_and_without_decay():
    model = rrfnet.Model(rrfnet.Settings(hidden=(6,), dim=4), base.Context({"image": (5,), "text": (3,)}))
    (optimiser,) = model.optimisers(model.stages()[0]).values()
    weights, biases = optimiser.param_groups
    assert (weights["lr"], weights["weight_decay"]) == (0.1, 5e-4)
    assert (biases["lr"], biases["weight_decay"]) == (0.2, 0)
    assert {p.ndim for p in biases["params"]} == {1}


def test_stand_ins_of_fisher_vectors_are_named():
    for module in (dspe, rrfnet):
        assert "HGLMM" in module.Settings().fallbacks[0]
        assert module.Settings(fisher_vectors=True).fallbacks == []
