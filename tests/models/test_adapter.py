from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crossmodal.models import adapter
from crossmodal.models.base import Batch, Context

CONTEXT = Context({"image": (8,), "text": (8,)})


def built(context=CONTEXT, **given) -> adapter.Model:
    torch.manual_seed(0)
    return adapter.Model(adapter.Settings(**given), context)


def batch(n=6, **widths) -> Batch:
    rng = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(n, widths.get(m, 8), generator=rng) for m in ("image", "text")}
    return Batch(inputs, groups=torch.tensor([0, 0, 1, 2, 3, 4][:n]))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.9])
def test_a_residual_head_is_that_of_the_paper(ratio):
    model = built(ratio=ratio)
    given = batch()
    x = given.inputs["image"].double().numpy()
    weights = {k: v.detach().double().numpy() for k, v in model.heads["image"].bottleneck.state_dict().items()}
    assert weights["0.weight"].shape == (2, 8)  # a quarter of eight
    inner = np.maximum(x @ weights["0.weight"].T, 0)
    mapped = np.maximum(inner @ weights["2.weight"].T, 0)
    found = model.encode("image", given, "text").detach().numpy()
    np.testing.assert_allclose(found, unit(ratio * mapped + (1 - ratio) * x), atol=1e-6)


def test_each_loss_is_its_own():
    given = batch()
    values = {}
    for loss in ("infonce", "sigmoid", "hinges"):
        model = built(loss=loss)
        scores = (model.encode("image", given, "text") @ model.encode("text", given, "image").T).detach().double()
        values[loss] = model.loss(given, 0.5, "model")["loss"].item()
        s = scores.numpy()
        if loss == "infonce":
            z = 100 * s  # CLIP's own scale, near which a residual head starts
            rows = np.log(np.exp(z).sum(1)) - z.diagonal()
            columns = np.log(np.exp(z).sum(0)) - z.diagonal()
            expected = (rows.mean() + columns.mean()) / 2
        elif loss == "sigmoid":
            signs = 2 * np.eye(6) - 1
            expected = np.log1p(np.exp(-signs * (10 * s - 10))).sum() / 6
        else:
            matching = s.diagonal()
            off = ~np.eye(6, dtype=bool)
            hinges = [np.where(off, np.maximum(0, 0.2 + s - m), 0) for m in (matching[:, None], matching[None])]
            expected = hinges[0].max(1).sum() + hinges[1].max(0).sum()
        assert values[loss] == pytest.approx(expected, rel=1e-5)
    assert len(set(values.values())) == 3


@pytest.mark.parametrize(
    ("given", "scale"),
    [
        ({}, 100),
        ({"scale": 13.5}, 13.5),
        ({"loss": "sigmoid"}, 10),
        ({"head": "linear"}, 1 / 0.07),
        ({"head": "linear", "scale": 3}, 3),
    ],
)
def test_residual_heads_start_at_the_scale_of_their_encoders(given, scale):
    assert float(built(**given).log_scale.detach().exp()) == pytest.approx(scale, rel=1e-6)


def test_captions_of_the_same_image_are_left_out_where_that_is_asked():
    given = batch()
    every, others = (float(built(negatives=n).loss(given, 0.5, "model")["loss"]) for n in ("all", "other_groups"))
    assert others < every


def test_three_modalities_give_the_sum_of_their_pairs():
    model = built(Context(dict.fromkeys(("image", "text", "audio"), (8,))), modalities=("image", "text", "audio"))
    given = batch()
    given.inputs["audio"] = given.inputs["text"].flip(0)
    total = float(model.loss(given, 0.5, "model")["loss"])
    pairs = []
    for kept in (("image", "text"), ("image", "audio"), ("text", "audio")):
        one, other = (model.encode(m, given, "").detach() for m in kept)
        z = 100 * (one @ other.T).double()
        target = torch.arange(6)
        pairs.append(float(sum(torch.nn.functional.cross_entropy(x, target) for x in (z, z.T)) / 2))
    assert total == pytest.approx(math.fsum(pairs), rel=1e-5)


def test_linear_heads_take_features_of_any_size():
    model = built(Context({"image": (8,), "text": (5,)}), head="linear", dim=3)
    given = batch(text=5)
    assert model.encode("image", given, "text").shape == model.encode("text", given, "image").shape == (6, 3)
    with pytest.raises(ValueError, match="different dimensions"):
        built(Context({"image": (8,), "text": (5,)}))
