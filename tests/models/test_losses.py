import math

import numpy as np
import pytest
import torch

from crossmodal.models import a3vse, base, contrastive, mfsr, scan, vse0, vsepp
from crossmodal.models.parts.losses import batch_hinges, hinge_triplet, info_nce, pairwise_sigmoid


def by_loops(scores, margin, hardest, groups):
    """Eq. 8 and 9 of mFSR, without the 1/B, as sums over pairs in float64."""
    n, total = len(scores), 0.0
    for j in range(n):
        others = [k for k in range(n) if groups[k] != groups[j]]
        rows = [max(0.0, margin - scores[j, j] + scores[j, k]) for k in others] or [0.0]
        columns = [max(0.0, margin - scores[j, j] + scores[k, j]) for k in others] or [0.0]
        total += (max(rows) + max(columns)) if hardest else (sum(rows) + sum(columns))
    return total


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 2, 2], [7, 7, 7, 7, 7, 7]])
def test_equals_the_printed_sums(hardest, groups):
    scores = np.random.default_rng(0).normal(size=(6, 6))
    for reduction, pairs in (("sum", 1), ("mean", 6)):  # the programs of VSE++ and SCAN; eq. 8
        found = hinge_triplet(
            torch.from_numpy(scores), 0.2, hardest=hardest, groups=torch.tensor(groups), reduction=reduction
        )
        assert float(found) == pytest.approx(by_loops(scores, 0.2, hardest, groups) / pairs)


def test_by_hand():
    scores = torch.tensor([[0.5, 0.6], [0.1, 0.9]])
    # row 0: .2 + .6 - .5 = .3; column 1: .2 + .6 - .9 < 0; row 1, column 0: .2 + .1 - .9 and .2 + .1 - .5 < 0
    assert float(hinge_triplet(scores, 0.2, hardest=True, reduction="sum")) == pytest.approx(0.3)
    assert float(hinge_triplet(scores, 0.2, hardest=True, reduction="mean")) == pytest.approx(0.15)


@pytest.mark.parametrize(
    "loss",
    [
        lambda scores: hinge_triplet(scores, 0.2, hardest=True, reduction="sum"),
        lambda scores: info_nce(scores, 1.0),
        lambda scores: pairwise_sigmoid(scores, 1.0, 0.0),
    ],
)
def test_shape_is_checked(loss):
    with pytest.raises(ValueError, match=r"\(B, B\)"):
        loss(torch.zeros(2, 3))


def info_nce_by_loops(scores, log_scale, groups):
    """CLIP's figure 3 in float64, with its gradients: of each score, and of the logarithm of the scale."""
    n, scale, total, slopes = len(scores), math.exp(log_scale), 0.0, np.zeros_like(scores)
    for j in range(n):
        others = [k for k in range(n) if k == j or groups[k] != groups[j]]
        for cells in ([(j, k) for k in others], [(k, j) for k in others]):  # an image's texts, a text's images
            sizes = {cell: math.exp(scale * scores[cell]) for cell in cells}
            whole = sum(sizes.values())
            total -= math.log(sizes[j, j] / whole) / (2 * n)
            for cell in cells:
                slopes[cell] += (sizes[cell] / whole - (cell == (j, j))) * scale / (2 * n)
    return total, slopes, (slopes * scores).sum()


def sigmoid_by_loops(scores, log_scale, bias, groups):
    """SigLIP's algorithm 1 in float64, with its gradients: of each score, of log t and of the bias."""
    n, scale, total, logits = len(scores), math.exp(log_scale), 0.0, np.zeros_like(scores)
    for i in range(n):
        for j in range(n):
            if i == j or groups[i] != groups[j]:
                z = 1 if i == j else -1
                x = z * (scale * scores[i, j] + bias)
                total += math.log(1 + math.exp(-x)) / n
                logits[i, j] = -z / (1 + math.exp(x)) / n
    return total, logits * scale, (logits * scale * scores).sum(), logits.sum()


BATCHES = [[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 2, 2], [7, 7, 7, 7, 7, 7]]


@pytest.mark.parametrize("groups", BATCHES)
def test_info_nce_is_the_printed_one(groups):
    scores = np.random.default_rng(1).uniform(-1, 1, (6, 6))
    for chosen in (groups, None):  # with no groups, each pair is one
        given, log_scale = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (scores, math.log(10)))
        loss = info_nce(given, log_scale.exp(), None if chosen is None else torch.tensor(chosen))
        loss.backward()
        expected = info_nce_by_loops(scores, math.log(10), range(6) if chosen is None else chosen)
        assert float(loss.detach()) == pytest.approx(expected[0], rel=1e-12)
        np.testing.assert_allclose(given.grad, expected[1], atol=1e-12)
        assert float(log_scale.grad) == pytest.approx(expected[2], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("groups", BATCHES)
def test_the_sigmoid_loss_is_the_printed_one(groups):
    scores = np.random.default_rng(2).uniform(-1, 1, (6, 6))
    for chosen in (groups, None):
        values = (scores, math.log(10), -3.0)
        given, log_scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values)
        loss = pairwise_sigmoid(given, log_scale.exp(), bias, None if chosen is None else torch.tensor(chosen))
        loss.backward()
        expected = sigmoid_by_loops(*values, range(6) if chosen is None else chosen)
        assert float(loss.detach()) == pytest.approx(expected[0], rel=1e-12)
        np.testing.assert_allclose(given.grad, expected[1], atol=1e-12)
        assert float(log_scale.grad) == pytest.approx(expected[2], rel=1e-9)
        assert float(bias.grad) == pytest.approx(expected[3], rel=1e-9)


def test_contrastive_losses_by_hand():
    assert float(info_nce(torch.ones(8, 8), 14.3)) == pytest.approx(math.log(8))  # nothing tells the eight apart
    assert float(pairwise_sigmoid(torch.ones(8, 8), 3.0, -3.0)) == pytest.approx(8 * math.log(2))  # 64 cells over 8
    far = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert float(info_nce(far, 1e4)) == float(pairwise_sigmoid(far, 1e4, 0.0)) == 0  # without overflow
    assert float(info_nce(-far, 1e4)) == 2e4
    assert float(pairwise_sigmoid(-far, 1e4, 0.0)) == 2e4


def contrasted(**settings):
    """A contrastive model and a batch of four pairs, of which the first two are of one image."""
    torch.manual_seed(0)
    model = contrastive.Model(contrastive.Settings(dim=6, word_dim=4, **settings), base.Context({"image": (5,)}, 9))
    text = base.Tokens(torch.randint(1, 9, (4, 5)), torch.tensor([5, 2, 3, 4]))
    return model, base.Batch({"image": torch.rand(4, 5), "text": text}, torch.tensor([3, 3, 4, 5]))


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_contrastive_begins_at_the_published_constants(loss):
    model, batch = contrasted(loss=loss)
    terms = model.loss(batch, 0.0, "model")
    assert float(terms["scale"]) == pytest.approx(1 / 0.07 if loss == "infonce" else 10)
    scores = model.score(model.encode("image", batch, "text"), model.encode("text", batch, "image"))
    scores = scores.detach().double().numpy()
    if loss == "infonce":
        assert "bias" not in terms
        expected = info_nce_by_loops(scores, math.log(1 / 0.07), range(4))[0]
    else:
        assert float(terms["bias"]) == -10
        expected = sigmoid_by_loops(scores, math.log(10), -10.0, range(4))[0]
    assert float(terms["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    spared, _ = contrasted(loss=loss, negatives="other_groups")
    groups = [3, 3, 4, 5]
    expected = (info_nce_by_loops(scores, math.log(1 / 0.07), groups) if loss == "infonce"
                else sigmoid_by_loops(scores, math.log(10), -10.0, groups))[0]  # fmt: skip
    assert float(spared.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_scale_is_learned_and_clipped():
    """It grows where pairs are told apart, up to 100 and not beyond; at the bound it can still fall."""
    model, batch = contrasted(scale=2.0)
    image, text = torch.eye(4, 6), torch.eye(4, 6)
    model.encode = lambda modality, batch, partner: image if modality == "image" else text
    optimiser = torch.optim.SGD([model.log_scale], lr=1e3)
    for shown, expected in ((0, 2.0), (1, 100.0), (2, 100.0)):
        terms = model.loss(batch, 0.0, "model")
        assert float(terms["scale"]) == pytest.approx(expected, rel=1e-6), shown
        optimiser.zero_grad()
        terms["loss"].backward()
        if shown == 0:
            # 3 wrong ones of e^0 beside e^s: d/d log s of log(1 + 3 e^-s) is -3 s / (e^s + 3)
            assert float(model.log_scale.grad) == pytest.approx(-3 * 2 / (math.exp(2) + 3), rel=1e-5)
            optimiser.step()
            assert float(model.log_scale.detach()) > math.log(100)
    text = torch.eye(4, 6).roll(1, 0)  # every pair is wrong
    loss = model.loss(batch, 0.0, "model")["loss"]
    optimiser.zero_grad()
    loss.backward()
    assert float(model.log_scale.grad) == pytest.approx(100, rel=1e-4)  # the loss is s, nearly: it falls with s
    unclipped, _ = contrasted(largest_scale=1e6, scale=1e4)
    assert float(unclipped.loss(batch, 0.0, "model")["scale"]) == pytest.approx(1e4, rel=1e-5)


def test_the_sigmoid_loss_clips_no_scale():
    model, batch = contrasted(loss="sigmoid", scale=500)
    assert float(model.loss(batch, 0.0, "model")["scale"]) == pytest.approx(500)


SMALL = {"dim": 6, "word_dim": 4, "warm_up": 0.5}
WARMED = {
    "vsepp": vsepp.Model(vsepp.Settings(**SMALL), base.Context({"image": (5,)}, 9)),
    "scan": scan.Model(scan.Settings(**SMALL), base.Context({"image": (3, 5)}, 9)),
    "a3vse": a3vse.Model(a3vse.Settings(**SMALL, semantics="none", adversary=0.0), base.Context({"image": (3, 5)}, 9)),
}


@pytest.mark.parametrize("name", WARMED)
@pytest.mark.parametrize(("progress", "hardest"), [(0.0, False), (0.49, False), (0.5, True)])
def test_all_negatives_count_while_a_model_warms_up(name, progress, hardest):
    torch.manual_seed(0)
    model = WARMED[name].eval()
    image = torch.rand(4, 5) if name == "vsepp" else base.Regions(torch.rand(4, 3, 5), torch.tensor([3, 2, 3, 1]))
    text = base.Tokens(torch.randint(1, 9, (4, 5)), torch.tensor([5, 2, 3, 4]))
    batch = base.Batch({"image": image, "text": text}, torch.arange(4))
    scores = model.score(model.encode("image", batch, "text"), model.encode("text", batch, "image"))
    expected = by_loops(scores.detach().double().numpy(), 0.2, hardest, range(4))
    (turn,) = model.optimisers(model.stages()[0])
    assert float(model.loss(batch, progress, turn)["loss"].detach()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("name", "spared"), [("vsepp", False), ("scan", False), ("a3vse", True), ("mfsr", True)])
def test_captions_of_one_image_are_negatives_where_the_programs_have_them(name, spared):
    """By default of VSE++ and SCAN, as their programs do; mFSR and A3VSE speak of what does not match the query."""
    settings = {"vsepp": vsepp, "scan": scan, "a3vse": a3vse, "mfsr": mfsr}[name].Settings
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.7, 0.9, 0.2], [0.3, 0.1, 0.6]])
    groups = torch.tensor([5, 5, 6])  # the first two captions are of one image
    for negatives, expected in (("all", 0.2), ("other_groups", 0.0)):  # .2 - .9 + .8, both ways
        chosen = settings(reduction="sum", negatives=negatives)
        assert float(batch_hinges(scores, chosen, groups, 0.5)) == pytest.approx(expected, abs=1e-6)
    assert (settings().negatives == "other_groups") is spared


def test_vse0_warms_up_for_good():
    assert vse0.Settings().warm_up == 1
    with pytest.raises(ValueError, match="warm_up"):
        vse0.Settings(warm_up=0.5)
