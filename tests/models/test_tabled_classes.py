"""CM-GAN, CCL, Corr-AE, CBT, UNCSM, SC-ACMR and MCSM: their losses transcribed in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, cbt, ccl, cmgan, corrae, mcsm, scacmr, uncsm
from crossmodal.models.parts.labelled import of_another_class

F64 = torch.float64
LABELS = [0, 1, 0, 2, 1, 0]
MIXED = [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 1]]  # several classes per item


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def context_of(**shapes):
    return base.Context({m: (d,) for m, d in (shapes or {"image": 5, "text": 4}).items()}, n_classes=3)


def batch_of(labels=LABELS, **shapes):
    shapes = shapes or {"image": 5, "text": 4}
    inputs = {m: drawn(len(labels), d, seed=n) for n, (m, d) in enumerate(shapes.items())}
    return base.Batch(inputs, torch.arange(len(labels)), torch.tensor(labels))


def alike(labels):
    """(N, N) whether two items share a class."""
    if np.ndim(labels) == 1:
        return [[a == b for b in labels] for a in labels]
    return [[any(x and y for x, y in zip(a, b, strict=True)) for b in labels] for a in labels]


def built(module, **settings):
    torch.manual_seed(0)
    return module.Model(module.Settings(**settings), context_of()).double()


@pytest.mark.parametrize("labels", [LABELS, MIXED, [0, 0, 0, 0, 0, 0]])
def test_random_rows_are_of_another_class(labels):
    torch.manual_seed(0)
    same = alike(labels)
    seen = set()
    for _ in range(30):
        rows, available = of_another_class(torch.tensor(labels))
        for i, (j, there) in enumerate(zip(rows.tolist(), available.tolist(), strict=True)):
            assert there == (not all(same[i]))
            if there:
                assert not same[i][j]
                seen.add((i, j))
    assert len(seen) == sum(not x for row in same for x in row)  # each of them comes


# -- CM-GAN -----------------------------------------------------------------------------------------------------------


def bce(logits, target):
    p = torch.sigmoid(logits).squeeze(1)
    return float((-(p.log() if target else (1 - p).log())).mean().detach())


def test_the_turns_of_cmgan(monkeypatch):
    model, batch = built(cmgan, units=6, dim=3, judge_units=4), batch_of()
    x = batch.inputs
    z = {m: model.vectors(m, x[m]) for m in x}
    back = {m: model.decoders[m](z[m]) for m in x}
    wrong = torch.tensor([1, 0, 3, 0, 2, 4])
    monkeypatch.setattr(cmgan, "of_another_class", lambda labels: (wrong, torch.ones(6, dtype=torch.bool)))

    def judged(m, vectors, features):
        return model.between[m](torch.cat([vectors, features], 1))

    expected = {"within": 0.0, "between": 0.0}
    for m, other in (("image", "text"), ("text", "image")):
        expected["within"] += bce(model.within[m](x[m]), 1) + bce(model.within[m](back[m]), 0)
        expected["between"] += bce(judged(m, z[m], x[m]), 1) + 0.5 * bce(judged(m, z[other], x[m]), 0)
        expected["between"] += 0.5 * bce(judged(m, z[m][wrong], x[m][wrong]), 0)
    found = model.loss(batch, 0.0, "discriminators")
    assert {name: float(found[name].detach()) for name in expected} == pytest.approx(expected)
    found["loss"].backward()
    assert all(p.grad is None for p in model.shared.parameters())  # the encoders have turns of their own
    assert all(p.grad is not None for p in model.between.parameters())
    optimisers = model.optimisers(model.stages()[0])
    judges = {id(p) for part in (model.within, model.between) for p in part.parameters()}
    assert {id(p) for p in optimisers["discriminators"].param_groups[0]["params"]} == judges
    rest = {id(p) for p in optimisers["generator1"].param_groups[0]["params"]}
    assert rest | judges == {id(p) for p in model.parameters()}
    assert not rest & judges
    expected = {"within": 0.0, "between": 0.0, "classes": 0.0}
    for m, other in (("image", "text"), ("text", "image")):
        expected["within"] += bce(model.within[m](back[m]), 1)
        expected["between"] += bce(judged(m, z[other], x[m]), 1)
        expected["classes"] += float(F.cross_entropy(model.classifiers[m](z[m]), batch.labels).detach())
    for turn in ("generator1", "generator5"):
        terms = model.loss(batch, 0.0, turn)
        assert {name: float(terms[name].detach()) for name in expected} == pytest.approx(expected)
        assert float(terms["loss"].detach()) == pytest.approx(sum(expected.values()))
    assert not any(p.requires_grad for p in model.within.parameters())


def test_modalities_of_cmgan_are_encoded_as_they_are_trained():
    """Running statistics are each modality's own: far apart ones would otherwise be normalised by their mixture."""
    model = built(cmgan, units=6, dim=8)
    inputs = {"image": 9 + 5 * drawn(400, 5), "text": drawn(400, 4, seed=1)}
    with torch.no_grad():
        for _ in range(150):  # the running statistics converge
            trained = {m: model.vectors(m, x) for m, x in inputs.items()}
        model.eval()
        for m, x in inputs.items():
            torch.testing.assert_close(model.vectors(m, x), trained[m], atol=0.02, rtol=0)


def test_five_steps_of_the_generator_are_one_optimisers():
    model = built(cmgan, units=6, dim=3)
    turns = model.optimisers(model.stages()[0])
    assert [*turns] == [*(f"generator{n}" for n in range(1, 6)), "discriminators"]
    assert len({id(turn) for turn in turns.values()}) == 2
    assert turns["generator1"].defaults["betas"] == (0.5, 0.999)


def test_cmgan_of_several_labels_and_three_modalities():
    shapes = {"image": 5, "text": 4, "audio": 3}
    torch.manual_seed(0)
    settings = cmgan.Settings(modalities=tuple(shapes), units=6, dim=3, judge_units=4)
    model = cmgan.Model(settings, context_of(**shapes)).double()
    for turn in ("generator1", "discriminators"):
        assert torch.isfinite(model.loss(batch_of(MIXED, **shapes), 0.0, turn)["loss"])
    assert model.encode("audio", batch_of(MIXED, **shapes), "text").shape == (6, 3)


# -- CCL, Corr-AE -----------------------------------------------------------------------------------------------------


def codes_of(autoencoders, m, x):
    for n, layer in enumerate(layer for layer in autoencoders.into[m] if isinstance(layer, torch.nn.Linear)):
        x = layer(x if n == 0 else torch.tanh(x))
    return torch.sigmoid(x)


@pytest.mark.parametrize("module", [corrae, ccl])
def test_correspondence_autoencoders_by_hand(module):
    model, batch = built(module, hidden=(6,), dim=3, standardise=False), batch_of()
    reconstruction = distance = 0.0
    codes = {m: codes_of(model.autoencoders, m, x) for m, x in batch.inputs.items()}
    for m, x in batch.inputs.items():
        first, last = (layer for layer in model.autoencoders.out[m] if isinstance(layer, torch.nn.Linear))
        back = last(torch.tanh(first(codes[m])))
        reconstruction += float(((back - x) ** 2).mean().detach())
    for a, b in zip(codes["image"], codes["text"], strict=True):
        distance += float(((a - b) ** 2).sum().detach()) / 6
    if module is corrae:
        found, expected = model.loss(batch, 0.0, "model"), 0.8 * reconstruction + 0.2 * distance
        torch.testing.assert_close(model.encode("text", batch, ""), F.normalize(codes["text"], dim=1))
    else:
        model.begin(model.stages()[0])
        found, expected = model.loss(batch, 0.0, "model"), 0.3 * reconstruction + 0.7 * distance
    assert float(found["loss"].detach()) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [LABELS, MIXED])
def test_the_second_stage_of_ccl(labels):
    model, batch = built(ccl, hidden=(6,), dim=3, standardise=False), batch_of(labels)
    logits = {m: model._logits(m, batch).detach() for m in batch.inputs}
    x, y = (torch.sigmoid(logits[m]) for m in ("image", "text"))
    same, expected = alike(labels), 0.0
    for i in range(6):
        for j in range(6):
            d = float((x[i] - y[j]).norm())
            expected += (d**2 if same[i][j] else max(0.0, 1 - d) ** 2) / 12
    for m in batch.inputs:
        p = model.classifiers[m](logits[m]).log_softmax(1).detach()
        for i, label in enumerate(labels):
            shares = [label == c for c in range(3)] if np.ndim(label) == 0 else label
            expected -= sum(float(p[i, c]) * shares[c] for c in range(3)) / sum(shares) / 6
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(expected)
    model.train()
    for _ in range(200):  # the running statistics become those of the batch
        model.loss(batch, 0.0, "model")
    outputs = torch.sigmoid(logits["image"])
    expected = (outputs - outputs.mean(0)) / (outputs.var(0) + 1e-5).sqrt()
    found = model.eval().encode("image", batch, "text")
    torch.testing.assert_close(found, F.normalize(expected, dim=1), atol=1e-4, rtol=1e-3)


def test_the_contrastive_loss_has_a_gradient_at_no_distance():
    x = torch.ones(2, 3, dtype=F64, requires_grad=True)
    same = torch.eye(2, dtype=torch.bool)
    for loss in (ccl.contrastive_loss, uncsm.contrastive_loss):
        (gradient,) = torch.autograd.grad(loss(x, torch.ones(2, 3, dtype=F64), same, 1.0), x)
        assert torch.isfinite(gradient).all()


# -- CBT --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
@pytest.mark.parametrize("h", [0.0, 0.3])
def test_the_loss_of_cbt(output, h):
    model, batch = built(cbt, hidden=(6, 7), dim=3, inter_weight=h, output=output), batch_of()
    assert [model.into["image"][0].out_features, model.into["text"][0].out_features] == [6, 7]
    total = 0.0
    for m, to in (("image", "text"), ("text", "image")):
        x, partner = batch.inputs[m], batch.inputs[to]

        def middle(of, value):
            first, second = model.into[of][0], model.into[of][2]
            return torch.tanh(model.shared(torch.tanh(second(torch.tanh(first(value))))))

        def out(of, value):
            first, second = model.out[of][0], model.out[of][2]
            return second(torch.tanh(first(value)))

        translation = out(to, middle(m, x)).detach()
        shown = torch.sigmoid(translation) if output == "sigmoid" else translation
        again = out(m, middle(to, translation)).detach()
        inter = [
            math.log(0.5 + 0.5 * float(F.cosine_similarity(a, b, dim=0))) for a, b in zip(shown, partner, strict=True)
        ]
        intra = [math.log(0.5 + 0.5 * float(F.cosine_similarity(a, b, dim=0))) for a, b in zip(x, again, strict=True)]
        whole = sum(math.exp(-v) for v in inter)
        gains = [h * a + (1 - h) * b for a, b in zip(inter, intra, strict=True)]
        policy = -sum(g * math.exp(-v) / whole for g, v in zip(gains, inter, strict=True)) / 6
        classes = float(F.cross_entropy(model.classifier(middle(m, x)), batch.labels).detach())
        total += 0.1 * classes - (1 - h) * sum(intra) / 6 + h * policy
        torch.testing.assert_close(
            model.encode(m, batch, ""), F.normalize(model.classifier(middle(m, x)).softmax(1), dim=1)
        )
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(total)


def test_a_translation_is_held_constant_while_it_is_mapped_back():
    """With h = 0, as in the public program, only classes and the way back teach: nothing reaches the decoder alone."""
    model, batch = built(cbt, hidden=(6, 7), dim=3, inter_weight=0.0, class_weight=0.0), batch_of()
    model.loss(batch, 0.0, "model")["loss"].backward()
    # `intra` of images reads the encoder of texts and the decoder of images, and trains both.
    assert model.out["image"][0].weight.grad.abs().sum() > 0
    assert float(cbt.reward(torch.ones(1, 2), -torch.ones(1, 2))) == pytest.approx(math.log(1e-6))


# -- UNCSM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [LABELS, MIXED])
def test_the_three_stages_of_uncsm(labels):
    settings = {"hidden": (6,), "dim": 3, "metric_units": 4, "standardise": False}
    model, batch = built(uncsm, **settings), batch_of(labels)
    x, y = (model.vectors(m, batch).detach() for m in ("image", "text"))
    same, pairs = alike(labels), [(i, j) for i in range(6) for j in range(6)]
    near = [float((x[i] - y[j]).norm()) ** 2 for i, j in pairs if same[i][j]]
    far = [max(0.0, 1 - float((x[i] - y[j]).norm())) ** 2 for i, j in pairs if not same[i][j]]
    triplets = 0.0
    for s in (x @ y.T, y @ x.T):
        hinges = [
            max(0.0, 0.2 - float(s[i, j]) + float(s[i, k]))
            for i in range(6) for j in range(6) for k in range(6) if same[i][j] and not same[i][k]
        ]  # fmt: skip
        triplets += np.mean(hinges)
    logits = {}
    for i, j in pairs:
        hidden = model.of_sides["image"](x[i]) + model.of_sides["text"](y[j]) + model.of_product(x[i] * y[j])
        logits[i, j] = float(model.out(torch.relu(hidden)).detach())
    right = np.mean([math.log1p(math.exp(-v)) for (i, j), v in logits.items() if same[i][j]])
    false = np.mean([math.log1p(math.exp(v)) for (i, j), v in logits.items() if not same[i][j]])
    expected = {"contrastive": np.mean(near) + np.mean(far), "triplets": triplets, "train": (right + false) / 2}
    stages = model.stages()
    assert [stage.name for stage in stages] == [*expected]
    for stage in stages:
        model.begin(stage)
        assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(expected[stage.name])
        assert all(p.requires_grad != (stage.name == "train") for p in model.pathways.parameters())
        scores = model.score(model.encode("image", batch, ""), model.encode("text", batch, "")).detach()
        wanted = [[logits[i, j] for j in range(6)] for i in range(6)] if stage.name == "train" else (x @ y.T).tolist()
        np.testing.assert_allclose(scores, wanted, atol=1e-9)
    assert built(uncsm, **settings).stage == "train"  # of a run that is opened again


# -- SC-ACMR ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [LABELS, MIXED])
def test_the_terms_of_semantic_consistency(labels):
    z = {"image": drawn(6, 3), "text": drawn(6, 3, seed=1)}
    marks = [[float(label == c) for c in range(3)] if np.ndim(label) == 0 else label for label in labels]
    shares = np.array([[v / sum(row) for v in row] for row in marks])
    value = {m: x.numpy() for m, x in z.items()}
    centre = {m: [(shares[:, c] @ x) / shares[:, c].sum() for c in range(3)] for m, x in value.items()}

    def of(m, i):
        return sum(shares[i, c] * centre[m][c] for c in range(3))

    same = alike(labels)
    expected = {
        "within": sum(np.mean([((value[m][i] - of(m, i)) ** 2).sum() for i in range(6)]) for m in z),
        "across": sum(
            np.mean([((value[a][i] - of(b, i)) ** 2).sum() for i in range(6)])
            for a, b in (("image", "text"), ("text", "image"))
        ),
        "centre": np.mean([((centre["image"][c] - centre["text"][c]) ** 2).sum() for c in range(3)]),
        "similarity": np.mean(
            [
                (same[i][j] - value["image"][i] @ value["text"][j]
                 / np.linalg.norm(value["image"][i]) / np.linalg.norm(value["text"][j])) ** 2
                for i in range(6) for j in range(6)
            ]
        ),
    }  # fmt: skip
    found = scacmr.consistency_losses(z, torch.tensor(labels), 3)
    assert {name: float(v) for name, v in found.items()} == pytest.approx(expected)
    absent = scacmr.consistency_losses(z, torch.tensor(labels), 9)  # classes that the batch lacks have no centre
    if np.ndim(labels) == 1:
        assert {name: float(v) for name, v in absent.items()} == pytest.approx(expected)


# -- MCSM -------------------------------------------------------------------------------------------------------------


def test_fused_scores_of_mcsm_are_scaled_per_image():
    scores = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])
    torch.testing.assert_close(mcsm.scaled(scores), torch.tensor([[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]]))
    torch.manual_seed(0)
    settings = mcsm.Settings(dim=3, word_dim=4, units=2, widths=(4, 5), fusion=0.3)
    model = mcsm.Model(settings, base.Context({"image": (4, 6)}, 20, n_classes=3)).double()
    images, texts = drawn(2, 6), drawn(5, 6, seed=1)
    found = model.score(images, texts)
    one, two = images[:, :3] @ texts[:, :3].T, images[:, 3:] @ texts[:, 3:].T
    for i in range(2):
        for j in range(5):
            first = (one[i, j] - one[i].min()) / (one[i].max() - one[i].min())
            second = (two[i, j] - two[i].min()) / (two[i].max() - two[i].min())
            torch.testing.assert_close(found[i, j], 0.3 * first * two[i, j] + 0.7 * second * one[i, j])


@pytest.mark.parametrize("rescale", [True, False])
def test_cells_of_mcsm_have_a_mean_square_of_one(rescale):
    settings = mcsm.Settings(dim=3, word_dim=4, units=2, widths=(4, 5), rescale=rescale)
    model = mcsm.Model(settings, base.Context({"image": (4, 6)}, 20, n_classes=3))
    features = torch.tensor([[3.0, 0, 0, 4], [0, 0, 0, 0]], dtype=F64).repeat(2, 1, 1)
    cells, valid = model._local("image", base.Batch({"image": base.Regions(features, torch.tensor([2, 1]))}))
    expected = [1.2, 0, 0, 1.6] if rescale else [3.0, 0, 0, 4]  # 2 · (.6, .8), whose squares have a mean of one
    assert cells[1].tolist() == pytest.approx(np.array([expected, [0] * 4]))
    assert valid.tolist() == [[True, True], [True, False]]


def test_hinges_of_mcsm_take_one_item_of_another_class(monkeypatch):
    images, texts = F.normalize(drawn(4, 3), dim=1), F.normalize(drawn(4, 3, seed=1), dim=1)
    others = iter([(torch.tensor([1, 0, 1, 0]), torch.tensor([True, True, False, True]))] * 2)
    monkeypatch.setattr(mcsm, "of_another_class", lambda labels: next(others))
    expected = 0.0
    for x, y in ((images, texts), (texts, images)):
        for i, j in ((0, 1), (1, 0), (3, 0)):
            expected += max(0.0, 0.5 - float(images[i] @ texts[i]) + float(x[i] @ y[j])) / 4
    found = mcsm.one_negative_hinges(images, texts, torch.tensor([0, 1, 0, 1]), 0.5)
    assert float(found) == pytest.approx(expected)


def test_sentences_of_mcsm_do_not_feel_their_batch():
    torch.manual_seed(0)
    settings = mcsm.Settings(dim=3, word_dim=4, units=2, widths=(4, 5))
    model = mcsm.Model(settings, base.Context({"image": (4, 6)}, 20, n_classes=3)).double().eval()
    for norm in model.spaces["text"].norms:  # so that zeros do not stay zeros
        torch.nn.init.normal_(norm.bias)
    lengths = torch.tensor([9, 1, 5])
    ids = torch.randint(4, 20, (3, 9)) * (torch.arange(9) < lengths[:, None])
    together = model.encode("text", base.Batch({"text": base.Tokens(ids, lengths)}), "")
    for row, n in enumerate(lengths.tolist()):
        tokens = base.Tokens(ids[row : row + 1, :n], lengths[row : row + 1])
        torch.testing.assert_close(model.encode("text", base.Batch({"text": tokens}), "")[0], together[row])
    assert mcsm.of_the_same_class(torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="kernel: 4 words have no middle"):
        mcsm.Settings(kernel=4)
