"""The equations of the captioners with attention, 2-D states or two gates per input, transcribed in float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.captioners import small

PLACES = 4  # of the third caption, which has five words


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def arrays(model):
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def linear(n, name, x):
    return n[f"{name}.weight"] @ x + n.get(f"{name}.bias", 0.0)


def lstm(n, name, x, h, c):
    gates = n[f"{name}.weight_ih"] @ x + n[f"{name}.bias_ih"] + n[f"{name}.weight_hh"] @ h + n[f"{name}.bias_hh"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def third(model, batch):
    """The arrays, regions, words and logits of the third caption, and its attention if there is one."""
    tokens = batch.inputs["text"]
    logits = model.logits(batch, tokens)[2, :PLACES].detach().numpy()
    image = batch.inputs["image"]
    regions = image.features[2, : int(image.counts[2])].numpy()
    said = tokens.ids[:, 1:].masked_fill(tokens.ids[:, 1:] < 4, 0)
    attention = model.attend(batch, said) if hasattr(model, "attend") else None
    return arrays(model), regions, tokens.ids[2, :PLACES].tolist(), logits, attention


def test_soft_attention_by_its_equations():
    """Xu et al., 2015, eq. 1 to 7, with the gate β of section 4.2.1."""
    model, batch = small("sat")
    n, regions, words, logits, attention = third(model, batch)
    h, c = (np.tanh(linear(n, name, regions.mean(0))) for name in ("first_h", "first_c"))
    for place, word in enumerate(words):
        e = [
            linear(n, "look.weight", np.tanh(linear(n, "look.of_region", a) + linear(n, "look.of_state", h)))[0]
            for a in regions
        ]
        alpha = softmax(np.array(e))
        z = sigmoid(linear(n, "gate", h)) * (alpha @ regions)
        y = n["words.weight"][word]
        h, c = lstm(n, "network", np.concatenate([y, z]), h, c)
        out = y + linear(n, "of_state", h) + linear(n, "of_seen", z)
        assert logits[place] == pytest.approx(linear(n, "word", np.tanh(out)))
        if place < PLACES - 1:
            assert attention[2, place].numpy() == pytest.approx(alpha)


@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_the_doubly_stochastic_penalty(kind):
    """λ Σ_i (1 - Σ_t α_ti)² of each caption, over the number of all words; the regions that are not there have none.

    The reproduction's is the mean over captions and regions.
    """
    model, batch = small("sat", stochastic=2.0, penalty=kind)
    batch.inputs["image"] = batch.inputs["image"]._replace(counts=torch.tensor([4, 2, 3]))
    spoken = model.spoken(batch, batch.inputs["text"])
    expected = 0.0
    for caption, count in enumerate((4, 2, 3)):
        total = spoken.attention[spoken.caption == caption].sum(0)
        penalty = ((1 - total[:count]) ** 2).sum().item()
        expected += penalty / (5 + 3 + 4) if kind == "sum" else penalty / count / 3
        assert total[count:].eq(0).all()
    with_it = model.loss(batch, 0.0, "model")["loss"].item()
    without = small("sat", stochastic=0.0)[0].loss(batch, 0.0, "model")["loss"].item()
    assert with_it - without == pytest.approx(2.0 * expected)


def test_without_attention_all_regions_weigh_the_same():
    model, batch = small("sat", attends=False)
    *_, attention = third(model, batch)
    assert attention[2, :3].numpy() == pytest.approx(np.full((3, 4), 0.25))
    seen = batch.inputs["image"].features
    batch.inputs["image"] = batch.inputs["image"]._replace(features=seen.mean(1, keepdim=True).expand_as(seen))
    assert third(model, batch)[3] == pytest.approx(third(*small("sat", attends=False))[3])


@pytest.mark.parametrize("reads_image", [True, False])
def test_adaptive_attention_by_its_equations(reads_image):
    """Lu et al., 2017, eq. 6 to 13; the weights of the regions sum to 1 - β."""
    model, batch = small("adaptive", reads_image=reads_image)
    n, regions, words, logits, attention = third(model, batch)
    assert not {"of_read.bias", "of_before.bias", "of_sentinel.bias"} & set(n)  # eq. 9 and 12 have none
    whole = np.maximum(linear(n, "whole", regions.mean(0)), 0) if reads_image else []
    v = np.maximum(regions @ n["region.weight"].T + n["region.bias"], 0)
    h = c = np.zeros(8)
    for place, word in enumerate(words):
        x = np.concatenate([n["words.weight"][word], whole])
        gate = sigmoid(linear(n, "of_read", x) + linear(n, "of_before", h))
        h, c = lstm(n, "network", x, h, c)
        s = gate * np.tanh(c)
        query = linear(n, "look.of_state", h)
        z = [linear(n, "look.weight", np.tanh(linear(n, "look.of_region", one) + query))[0] for one in v]
        z.append(linear(n, "look.weight", np.tanh(linear(n, "of_sentinel", s) + query))[0])
        alpha = softmax(np.array(z))
        seen = alpha[:-1] @ v + alpha[-1] * s
        # The paper's own form: β s + (1 - β) c with the softmax over the regions alone.
        context = softmax(np.array(z[:-1])) @ v
        assert seen == pytest.approx(alpha[-1] * s + (1 - alpha[-1]) * context)
        assert logits[place] == pytest.approx(linear(n, "word", seen + h))
        if place < PLACES - 1:
            assert attention[2, place].numpy() == pytest.approx(alpha[:-1])
            said = batch.inputs["text"].ids[:, 1:5]
            assert model.image_share(batch, said)[2, place].item() == pytest.approx(1 - alpha[-1])


def test_att2in_by_its_equations():
    """Rennie et al., 2017, section 2: the attended region enters the cell's input alone, a maximum of two maps."""
    model, batch = small("scst")
    n, regions, words, logits, _ = third(model, batch)
    v = np.maximum(regions @ n["region.weight"].T + n["region.bias"], 0)
    h = c = np.zeros(8)
    for place, word in enumerate(words):
        x = np.maximum(n["words.weight"][word], 0)
        e = [
            linear(n, "look.weight", np.tanh(linear(n, "look.of_region", one) + linear(n, "look.of_state", h)))[0]
            for one in v
        ]
        seen = linear(n, "of_seen", softmax(np.array(e)) @ v)
        i, f, o, one, other = np.split(linear(n, "of_read", x) + linear(n, "of_state", h), 5)
        c = sigmoid(f) * c + sigmoid(i) * np.maximum(one + seen[:8], other + seen[8:])
        h = sigmoid(o) * np.tanh(c)
        assert logits[place] == pytest.approx(linear(n, "word", h))


def convolved(x, weight, bias, pad):
    """(C, H, W) by (D, C, k, k) with zeros around."""
    k = weight.shape[-1]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    high, wide = x.shape[1] - k + 1, x.shape[2] - k + 1
    out = np.empty((len(weight), high, wide))
    for i in range(high):
        for j in range(wide):
            out[:, i, j] = (weight * x[None, :, i : i + k, j : j + k]).sum((1, 2, 3)) + bias
    return out


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_states_with_two_dimensions_by_their_equations(cell, flat):
    """Dai et al., 2018: H_t = ReLU(K_h * H + K_x * X + K_v * V), and the forms with gates.

    The twin with 1-D states has one place, the mean of the image's cells, word vectors as they are, and tanh.
    """
    model, batch = small("twod", cell=cell, flat=flat)
    n, regions, words, logits, _ = third(model, batch)
    shape, pad = ((24, 1, 1), 0) if flat else ((8, 2, 2), 1)
    squash = np.tanh if flat else lambda x: np.maximum(x, 0)
    regions = regions.mean(0, keepdims=True) if flat else regions
    image = np.maximum(regions @ n["image.weight"].T + n["image.bias"], 0).T.reshape(shape)
    v = convolved(image, n["of_image.weight"], n["of_image.bias"], pad)
    h, c = np.zeros(shape), np.zeros(shape)
    for place, word in enumerate(words):
        x = n["words.weight"][word].reshape(shape if flat else (6, 10, 10))
        for layer in () if flat else ("enlarge.0", "enlarge.1"):
            x = np.maximum(convolved(x, n[f"{layer}.weight"], n[f"{layer}.bias"], 0), 0)
        given = v + convolved(x, n["of_word.weight"], n["of_word.bias"], pad)
        before = convolved(h, n["of_state.weight"], n["of_state.bias"], pad)
        if cell == "rnn":
            h = squash(given + before)
        elif cell == "gru":
            (z, r, new), (own_z, own_r, own) = np.split(given, 3), np.split(before, 3)
            z = sigmoid(z + own_z)
            h = (1 - z) * squash(new + sigmoid(r + own_r) * own) + z * h
        else:
            i, f, o, new = np.split(given + before, 4)
            c = sigmoid(f) * c + sigmoid(i) * squash(new)
            h = sigmoid(o) * squash(c)
        assert logits[place] == pytest.approx(linear(n, "word", h.mean((1, 2))))


def test_places_of_a_map_are_dropped_before_their_mean():
    """The layers of the authors' program: dropout, then the mean over 2 x 2 places, then the words."""
    model, batch = small("twod", dropout=0.5)
    state = model.first_state(batch)
    model.train()
    torch.manual_seed(0)
    means, after = model.advance(model.read(torch.full((len(batch.inputs["image"].features),), 5)), state)
    shares = (means / after["h"].mean((2, 3)))[after["h"].amin((2, 3)) > 0]
    assert len(shares.unique()) > 3  # not the 0 and 2 of means that are dropped as a whole
    assert model.logits_of(means).equal(model.word(means))


def test_the_flat_twin_has_as_many_weights_between_states():
    """Three times 8 channels in one place: 24 x 24 weights, as 8 x 8 x 3 x 3."""
    maps, flat = small("twod")[0], small("twod", flat=True)[0]
    assert maps.of_state.weight.numel() == flat.of_state.weight.numel() == 576


def test_a_grid_that_is_no_square():
    from crossmodal.models import base, twod

    with pytest.raises(ValueError, match="images have 12 cells; give a grid of n x n cells"):
        twod.Model(twod.Settings(), base.Context({"image": (12, 10)}, vocabulary_size=12))


def test_bottom_up_attention_with_the_layers_of_its_reproduction():
    """Regions, their mean and word vectors pass ReLU; all else is as without these layers."""
    model, batch = small("updown", projected=7)
    plain, _ = small("updown")
    n = arrays(model)
    regions = torch.relu(model.region(batch.inputs["image"].features))
    assert model.first_state(batch)["images"]["regions"].equal(regions)
    mean = batch.inputs["image"].features[1, :2].mean(0).numpy()
    assert model.first_state(batch)["mean"][1].detach().numpy() == pytest.approx(np.maximum(linear(n, "mean", mean), 0))
    assert model.read(torch.tensor([5])).detach().numpy() == pytest.approx(np.maximum(n["words.weight"][[5]], 0))
    assert model.language.input_size == 7 + 8
    assert plain.language.input_size == 10 + 8
