"""CMR-SC: both directions of SCAN's attention over shared encoders, and the differences of their scores."""

from __future__ import annotations

import pytest
import torch

from crossmodal.models import base, cmrsc
from tests.models.test_scan import COUNTS, LENGTHS, literal, sets


def model_of(**settings):
    torch.manual_seed(0)
    return cmrsc.Model(cmrsc.Settings(dim=7, word_dim=4, **settings), base.Context({"image": (5, 6)}, 12)).double()


def test_scores_are_the_sums_of_both_attentions_one_pair_at_a_time():
    (images, _), (sentences, _) = sets(COUNTS, 0), sets(LENGTHS, 1)
    found = model_of().score(images, sentences)
    for a, m in enumerate(COUNTS):
        for b, n in enumerate(LENGTHS):
            x, y = images[a, :m], sentences[b, :n]
            expected = sum(literal(*sides, 9.0, "clipped_l2norm", 0.1, "mean", 6.0) for sides in ((x, y), (y, x)))
            assert float(found[a, b]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("differences", ["sum", "mean"])
def test_the_loss_adds_squared_differences_over_all_pairs(reduction, differences):
    model = model_of(consistency=0.3, reduction=reduction, differences=differences)
    generator = torch.Generator().manual_seed(2)
    counts = torch.tensor([5, 3, 4])
    features = torch.randn(3, 5, 6, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([4, 2, 3])
    ids = torch.randint(4, 12, (3, 4), generator=generator) * (torch.arange(4) < lengths[:, None])
    batch = base.Batch({"image": base.Regions(features, counts), "text": base.Tokens(ids, lengths)}, torch.arange(3))
    images, sentences = (model.encode(m, batch, "").detach() for m in ("image", "text"))
    a, b = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            x, y = images[i, : counts[i]], sentences[j, : lengths[j]]
            a[i, j] = literal(x, y, 9.0, "clipped_l2norm", 0.1, "mean", 6.0)
            b[i, j] = literal(y, x, 9.0, "clipped_l2norm", 0.1, "mean", 6.0)
    s, hinges = a + b, 0.0
    for i in range(3):
        others = [j for j in range(3) if j != i]
        hinges += max(max(0, 0.2 - s[i, i] + s[i, j]) for j in others)
        hinges += max(max(0, 0.2 - s[i, i] + s[j, i]) for j in others)
    squares = float(((a - b) ** 2).sum())
    hinges, term = (hinges, squares) if reduction == "sum" else (hinges / 3, squares / 3)
    expected = float(hinges) + 0.3 * (squares / 9 if differences == "mean" else term)
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(expected, abs=1e-6)
