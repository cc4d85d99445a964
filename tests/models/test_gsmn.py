"""GSMN against its program's equations in float64, one pair, one node and one kernel at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, gsmn
from crossmodal.models.gsmn import matching_vectors, words_of
from tests.models.test_scan import COUNTS, LENGTHS, sets

F64 = torch.float64
SMALL = {"dim": 12, "word_dim": 4, "parts": 3, "kernels": 2, "graph_dim": 6, "smooth": 5.0}


def settings_of(**changed):
    return gsmn.Settings(**{**SMALL, **changed})


def model_of(**changed):
    torch.manual_seed(0)
    return gsmn.Model(settings_of(**changed), base.Context({"image": (5, 6)}, 20)).double().eval()


def boxes_of(n=3, most=5, seed=7):
    corners = torch.rand(n, most, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=F64).sort(2).values
    return corners.flatten(2)


def attended(queries, context, s):
    """(N, d) attended vectors of queries (N, d) over a context (M, d), as SCAN's eq. 1 to 3."""
    cosines = [[float(q @ c) for c in context] for q in queries]
    cosines = [[x if x > 0 else 0.1 * x for x in row] for row in cosines]
    out = []
    for i in range(len(queries)):
        weights = []
        for j in range(len(context)):
            norm = math.sqrt(sum(cosines[k][j] ** 2 for k in range(len(queries))))
            weights.append(math.exp(s.smooth * cosines[i][j] / norm))
        out.append(sum(w / sum(weights) * c for w, c in zip(weights, context, strict=True)))
    return torch.stack(out)


def blocks(x, y, k):
    """(N, K) cosines of the blocks of two (N, d) sets of vectors."""
    pairs = zip(x.unflatten(1, (k, -1)), y.unflatten(1, (k, -1)), strict=True)
    return torch.stack([F.cosine_similarity(a, b, dim=1) for a, b in pairs])


def test_matching_vectors_are_cosines_with_attended_vectors_in_blocks():
    (images, there), (words, spoken) = sets(COUNTS, 0, 12), sets(LENGTHS, 1, 12)
    s = settings_of()
    found = matching_vectors(images, words_of(words, spoken, s.parts), there, s)
    of_regions, of_words = found[0].permute(1, 2, 3, 0), found[1].permute(1, 3, 2, 0)
    for a, m in enumerate(COUNTS):
        for b, n in enumerate(LENGTHS):
            v, t = images[a, :m], words[b, :n]
            torch.testing.assert_close(of_regions[a, :m, b], blocks(v, attended(v, t, s), 3), atol=1e-6, rtol=0)
            torch.testing.assert_close(of_words[a, b, :n], blocks(t, attended(t, v, s), 3), atol=1e-6, rtol=0)


def edges_between(network, boxes):
    """(M, M, P) weights of the image's kernels between boxes, normalised over the kernels."""
    m, p = len(boxes), len(network.angle)
    weights = torch.zeros(m, m, p, dtype=F64)
    centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in boxes.tolist()]
    for i in range(m):
        for j in range(m):
            x, y = centres[i][0] - centres[j][0], centres[i][1] - centres[j][1]
            rho, theta = math.hypot(x, y), math.atan2(x, y)
            for n in range(p):
                turn = abs(theta - float(network.angle[n].detach()))
                turn = min(turn, abs(2 * math.pi - turn))
                of_rho = (rho - float(network.distance[n].detach())) ** 2 / (
                    1e-14 + float(network.distance_width[n].detach()) ** 2
                )
                of_theta = turn**2 / (1e-14 + float(network.angle_width[n].detach()) ** 2)
                weights[i, j, n] = math.exp(-0.5 * of_rho) * math.exp(-0.5 * of_theta)
    return weights / weights.sum(2, keepdim=True)


def node(part, per_kernel):
    """The score of a node from the matching vector that each kernel reads."""
    assert {kernel.bias is None for kernel in part.kernels} in ({True}, {False})
    pairs = zip(part.kernels, per_kernel, strict=True)
    hidden = torch.cat([kernel.weight @ value + (0 if kernel.bias is None else kernel.bias) for kernel, value in pairs])
    return part.out(torch.tanh(part.hidden(hidden)))


@pytest.mark.parametrize("propagation", ["own", "neighbours"])
@pytest.mark.parametrize("text_graph", ["dense", "sparse"])
def test_scores_follow_either_reading_of_the_propagation(propagation, text_graph):
    model = model_of(propagation=propagation, text_graph=text_graph)
    (network,) = model.networks.values()
    (images, there), (words, _) = sets(COUNTS, 0, 12), sets(LENGTHS, 1, 12)
    boxes = boxes_of() * there[..., None]
    found = model.score(torch.cat([images, boxes], 2), words).detach()
    for a, m in enumerate(COUNTS):
        for b, n in enumerate(LENGTHS):
            v, t = images[a, :m], words[b, :n]
            of_regions = blocks(v, attended(v, t, model.settings), 3)
            of_words = blocks(t, attended(t, v, model.settings), 3)
            edges = edges_between(network, boxes[a, :m])
            scores = []
            for i in range(m):
                from_whom = of_regions[i].expand(m, 3) if propagation == "own" else of_regions
                scores.append(node(network.visual, [edges[i, :, k] @ from_whom for k in range(2)]))
            between = torch.zeros(n, n, dtype=F64)
            for i in range(n):
                row = [math.exp(5.0 * float(t[i] @ t[j])) for j in range(n)]
                for j in range(n):
                    linked = text_graph == "dense" or abs(i - j) <= 1
                    between[i, j] = row[j] / sum(row) if linked else 0
            between = between / between.norm(dim=1, keepdim=True)  # as the program's sparse graph; it cancels
            between = between / between.sum(1, keepdim=True)
            told = []
            for i in range(n):
                from_whom = of_words[i].expand(n, 3) if propagation == "own" else of_words
                told.append(node(network.textual, [between[i] @ from_whom] * 2))
            expected = torch.stack(scores).mean() + torch.stack(told).mean()
            torch.testing.assert_close(found[a, b], expected.detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("propagation", ["own", "neighbours"])
def test_scores_are_the_same_whether_gradients_are_kept_or_not(propagation):
    """Without gradients products are overwritten, and sentences' own products are made once for all images."""
    model = model_of(propagation=propagation)
    (images, there), (words, _) = sets(COUNTS, 0, 12), sets(LENGTHS, 1, 12)
    given = torch.cat([images, boxes_of() * there[..., None]], 2), words
    kept = [x.clone() for x in given]
    with torch.no_grad():
        found = model.score(*given)
    torch.testing.assert_close(found, model.score(*given).detach())
    assert all(x.equal(y) for x, y in zip(given, kept, strict=True))


def test_dense_and_sparse_graphs_of_the_program_are_one_function():
    """Own matching vectors make the text's edges meaningless, and the published average that of two seeds."""
    (images, there), (words, _) = sets(COUNTS, 0, 12), sets(LENGTHS, 1, 12)
    given = torch.cat([images, boxes_of() * there[..., None]], 2), words
    dense, sparse = (model_of(text_graph=graph) for graph in ("dense", "sparse"))
    sparse.load_state_dict({name.replace("dense", "sparse"): value for name, value in dense.state_dict().items()})
    torch.testing.assert_close(dense.score(*given), sparse.score(*given))
    for model in (dense, sparse):
        model.settings.__dict__["propagation"] = "neighbours"
    assert not torch.allclose(dense.score(*given), sparse.score(*given))


def test_an_ensemble_averages_two_networks_that_are_trained_apart():
    model = model_of(ensemble=True)
    assert [*model.networks] == ["dense", "sparse"]
    assert [kernel.bias is None for kernel in model.networks["dense"].visual.kernels] == [True, True]
    assert [kernel.bias is None for kernel in model.networks["dense"].textual.kernels] == [False, False]
    optimisers = model.optimisers(model.stages()[0])
    for name, network in model.networks.items():
        (group,) = optimisers[name].param_groups
        assert {id(p) for p in group["params"]} == {id(p) for p in network.parameters()}
    features = torch.randn(3, 5, 6, dtype=F64)
    counts = torch.tensor([5, 2, 4])
    lengths = torch.tensor([4, 2, 3])
    ids = torch.randint(4, 20, (3, 4)) * (torch.arange(4) < lengths[:, None])
    image = base.PlacedRegions(features, counts, boxes_of())
    batch = base.Batch({"image": image, "text": base.Tokens(ids, lengths)}, torch.arange(3))
    found = model.score(model.encode("image", batch, ""), model.encode("text", batch, ""))
    alone = []
    for name, network in model.networks.items():
        single = model_of(text_graph=name)
        single.networks[name].load_state_dict(network.state_dict())
        alone.append(single.score(single.encode("image", batch, ""), single.encode("text", batch, "")))
        # The loss takes the scores of one network, and no blocks.
        hinges, s = 0.0, alone[-1].detach()
        for i in range(3):
            others = [j for j in range(3) if j != i]
            hinges += max(max(0, 0.2 - float(s[i, i] - s[i, j])) for j in others)
            hinges += max(max(0, 0.2 - float(s[i, i] - s[j, i])) for j in others)
        assert float(model.loss(batch, 0.0, name)["loss"].detach()) == pytest.approx(hinges, abs=1e-6)
    torch.testing.assert_close(found, (alone[0] + alone[1]) / 2)


def test_settings_that_do_not_fit_and_stand_ins():
    with pytest.raises(ValueError, match=r"12 dimensions do not make 5 equal blocks \(`parts`\)"):
        model_of(parts=5)
    assert gsmn.Settings(ensemble=True).fallbacks == []  # edges that count for nothing need no dependencies
    assert "CoreNLP" in gsmn.Settings(ensemble=True, propagation="neighbours").fallbacks[0]
    assert gsmn.Settings(propagation="neighbours").fallbacks == []
