"""UGACH: neighbours that are found before the training, both turns of its game, and codes."""

from __future__ import annotations

import math

import pytest
import torch

from crossmodal.models import base, ugach

F64 = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def built(**settings):
    torch.manual_seed(0)
    context = base.Context({"image": (5,), "text": (4,)})
    return ugach.Model(ugach.Settings(**{"bits": 8, "hidden": (6,), **settings}), context).double()


def batch_of(groups):
    n = len(groups)
    return base.Batch({"image": drawn(n, 5), "text": drawn(n, 4, seed=1)}, torch.tensor(groups))


def test_neighbours_are_those_of_all_training_pairs_in_either_modality():
    model, batch = built(neighbours=2), batch_of([7, 3, 5, 1, 3, 9])
    halves = [
        base.Batch({m: x[part] for m, x in batch.inputs.items()}, batch.groups[part])
        for part in (slice(0, 4), slice(4, 6))
    ]
    model.prepare(halves)
    assert model.groups.tolist() == [1, 3, 5, 7, 9]
    first = {1: 3, 3: 1, 5: 2, 7: 0, 9: 5}  # the first row of each group stands for it
    for place, group in enumerate(model.groups.tolist()):
        expected = []
        for m in ("image", "text"):
            x = batch.inputs[m].float()
            far = {other: float((x[first[group]] - x[row]).norm()) for other, row in first.items()}
            expected += sorted(far, key=far.__getitem__)[:2]
        assert sorted(model.near[place].tolist()) == sorted(expected)
        assert group in expected  # itself counts
    positive = model.positives(torch.tensor([7, 3, 3]))
    assert positive[1, 2]
    assert positive[0].tolist() == [True, *([3 in model.near[3]] * 2)]
    assert built().positives(torch.tensor([7, 3, 3])).tolist() == [
        [True, False, False], [False, True, True], [False, True, True]
    ]  # fmt: skip


def distances(network, query, other, features):
    x, y = network(query, features[query]).detach(), network(other, features[other]).detach()
    return [[float(((a - b) ** 2).sum()) for b in y] for a in x]


def test_both_turns_of_the_game(monkeypatch):
    """Draws are replaced by given ones: negatives first, then positives, images as queries first."""
    model, batch = built(), batch_of([0, 1, 2, 3])
    places = {"image": ([1, 2, 0, 0], [0, 1, 2, 3]), "text": ([2, 0, 1, 1], [0, 1, 2, 3])}
    given = {"discriminator": 0.0, "generator1": 0.0}
    for query, other in (("image", "text"), ("text", "image")):
        negative, positive = places[query]
        far = distances(model.discriminator, query, other, batch.inputs)
        hinges = [max(0.0, 1 + far[i][positive[i]] - far[i][negative[i]]) for i in range(4)]  # β = 8 bits / 8
        chances = distances(model.generator, query, other, batch.inputs)
        for i in range(4):
            p = math.exp(-chances[i][negative[i]]) / sum(math.exp(-v) for v in chances[i])
            given["generator1"] -= math.log(p) / (1 + math.exp(-hinges[i])) / 4
        given["discriminator"] += sum(hinges) / 4
    for turn, expected in (*given.items(), ("against_generator", given["discriminator"])):
        draws = iter([torch.tensor(one) for query in places for one in places[query]])
        monkeypatch.setattr(ugach, "drawn", lambda logits, d=draws: (next(d), torch.ones(4, dtype=torch.bool)))
        loss = model.loss(batch, 0.0, turn)["loss"]
        assert float(loss.detach()) == pytest.approx(expected)
        model.zero_grad()
        loss.backward()
        trained = model.generator if turn == "generator1" else model.discriminator
        spared = model.discriminator if turn == "generator1" else model.generator
        assert all(p.grad is not None for p in trained.parameters())
        assert all(p.grad is None for p in spared.parameters())


def test_draws_follow_the_softmax_and_positives_are_no_negatives():
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, math.log(3), -torch.inf], [-torch.inf] * 3])
    places = torch.stack([ugach.drawn(logits)[0] for _ in range(2000)])
    assert ugach.drawn(logits)[1].tolist() == [True, False]
    assert set(places[:, 0].tolist()) == {0, 1}
    assert float((places[:, 0] == 1).float().mean()) == pytest.approx(0.75, abs=0.03)
    model = built()
    for turn in ("discriminator", "against_generator", "generator2"):
        assert float(model.loss(batch_of([4, 4, 4]), 0.0, turn)["loss"].detach()) == 0  # no pair is a negative


def test_codes_rank_by_their_hamming_distance():
    model, batch = built(), batch_of([0, 1, 2])
    images, texts = (model.encode(m, batch, "") for m in ("image", "text"))
    assert images.abs().eq(1).all()
    bits = {m: model.discriminator(m, batch.inputs[m]) > 0.5 for m in ("image", "text")}
    hamming = (bits["image"][:, None] != bits["text"]).sum(2)
    torch.testing.assert_close(images @ texts.T, (8 - 2 * hamming).double())
    real = built(codes="real")
    x, y = (real.discriminator(m, batch.inputs[m]) for m in ("image", "text"))
    scores = real.encode("image", batch, "text") @ real.encode("text", batch, "image").T
    torch.testing.assert_close(scores, -(x[:, None] - y).square().sum(2) / 2)


def test_stages_and_turns():
    model = built()
    first, second = model.stages()
    assert [*model.optimisers(first)] == ["discriminator"]
    turns = model.optimisers(second)
    assert [*turns] == ["against_generator", "generator1", "generator2"]
    assert turns["generator1"] is turns["generator2"]
    assert turns["against_generator"].param_groups[0]["lr"] == pytest.approx(1e-3)
    assert len(built(pretrain_epochs=0).stages()) == 1
