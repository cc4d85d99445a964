import numpy as np
import pytest
import torch

from crossmodal.models import a3vse, base, mfsr, scan, vse0, vsepp
from crossmodal.models.parts.losses import batch_hinges, hinge_triplet


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


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"\(B, B\)"):
        hinge_triplet(torch.zeros(2, 3), 0.2, hardest=True)


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
