"""What systems share, and the small systems: by hand, word by word and layer by layer, or against a library."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crossmodal.models import base
from crossmodal.models.parts import attention, closed_form, dcgan, encoders, mmd, optimisers, triplets, zero_shot
from crossmodal.models.parts.decoder import CaptionDecoder

F64 = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# ---- encoders


def test_a_linear_map_of_unit_length_or_not():
    torch.manual_seed(0)
    unit = encoders.ImageEncoder(400, 200).double()
    x = drawn(3, 5, 400)
    expected = x @ unit.fc.weight.T + unit.fc.bias
    torch.testing.assert_close(unit(x), expected / expected.norm(dim=2, keepdim=True))
    bare = encoders.ImageEncoder(400, 200, unit=False).double()
    torch.testing.assert_close(bare(x), x @ bare.fc.weight.T)  # the bias begins as 0
    # Glorot and Bengio 2010: uniform within the root of 6 over the sum of both widths.
    limit = math.sqrt(6 / 600)
    assert 0.99 * limit < float(bare.fc.weight.detach().abs().max()) <= limit
    assert float(bare.fc.weight.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.02)


def test_regions_that_are_not_there_are_zeros():
    torch.manual_seed(0)
    model = encoders.RegionEncoder(4, 3)
    nn.init.ones_(model.fc.bias)
    regions = base.Regions(torch.randn(2, 3, 4), torch.tensor([1, 3]))
    found = model(regions)
    assert (found[0, 1:] == 0).all()
    torch.testing.assert_close(found.norm(dim=2), torch.tensor([[1.0, 0, 0], [1, 1, 1]]))
    torch.testing.assert_close(found[1], F.normalize(model.fc(regions.features[1]), dim=1))


TOKENS = base.Tokens(torch.tensor([[3, 1, 4], [5, 0, 0], [2, 6, 0]]), torch.tensor([3, 1, 2]))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("unit", [True, False])
def test_a_caption_is_the_state_after_its_own_last_word(layers, unit):
    torch.manual_seed(0)
    model = encoders.CaptionEncoder(7, 4, 5, layers, unit=unit).double()
    found = model(TOKENS)
    for row, ids, length in zip(found, TOKENS.ids, TOKENS.lengths.tolist(), strict=True):
        states, _ = model.gru(model.words(ids[None, :length]))
        expected = states[0, -1]
        torch.testing.assert_close(row, expected / expected.norm() if unit else expected)
    assert model.gru.num_layers == layers
    assert model.words.weight.detach().abs().max() <= 0.1
    assert model.words.weight.detach().std() > 0.04  # uniform within .1: .058


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_states_at_every_word(cell, bidirectional, unit):
    torch.manual_seed(0)
    model = encoders.WordEncoder(7, 4, 5, cell=cell, bidirectional=bidirectional, unit=unit).double()
    found = model(TOKENS)
    assert found.shape == (3, 3, 5)
    assert isinstance(model.network, {"gru": nn.GRU, "lstm": nn.LSTM}[cell])
    for row, ids, length in zip(found, TOKENS.ids, TOKENS.lengths.tolist(), strict=True):
        states, _ = model.network(model.words(ids[None, :length]))
        expected = (states[0, :, :5] + states[0, :, 5:]) / 2 if bidirectional else states[0]
        torch.testing.assert_close(row[:length], F.normalize(expected, dim=1) if unit else expected)
        assert (row[length:] == 0).all()
    assert model.words.weight.detach().abs().max() <= 0.1


def test_features_are_scaled_by_the_training_items_moments():
    mean, deviation = torch.tensor([1.0, -2.0, 500.0]), torch.tensor([2.0, 0.0, 1e-4])
    context = base.Context({"image": (3,)}, moments={"image": (mean, deviation)})
    x = torch.tensor([[5.0, -1.0, 501.0]])
    torch.testing.assert_close(encoders.Standardiser(context, "image")(x), torch.tensor([[2.0, 1.0, 1.0]]))
    assert torch.equal(encoders.Standardiser(context, "image", wanted=False)(x), x)
    assert torch.equal(encoders.Standardiser(base.Context({"image": (3,)}), "image")(x), x)


def test_layers_with_an_activation_between_them():
    kinds = [type(layer) for layer in encoders.MLP(4, 3, 2, 1, activation=nn.Tanh, dropout=0.25)]
    assert kinds == [nn.Linear, nn.Tanh, nn.Dropout, nn.Linear, nn.Tanh, nn.Dropout, nn.Linear]
    assert encoders.MLP(4, 3, 2, dropout=0.25)[2].p == 0.25
    assert [type(layer) for layer in encoders.MLP(4, 3, 2)] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in encoders.MLP(4, 3)] == [nn.Linear]
    assert [(m.in_features, m.out_features) for m in [*encoders.MLP(4, 3, 2)][::2]] == [(4, 3), (3, 2)]


def test_means_and_masks_of_what_is_there():
    vectors = torch.tensor([[[1.0, 2], [3, 4], [50, 60]], [[5, -5], [9, 9], [9, 9]]])
    there = encoders.mask(torch.tensor([2, 1]), 3)
    assert there.tolist() == [[True, True, False], [True, False, False]]
    torch.testing.assert_close(encoders.mean_of(vectors, there), torch.tensor([[2.0, 3], [5, -5]]))
    assert encoders.valid_mask(torch.tensor([[[0.0, 0], [0, -1], [2, 0]]])).tolist() == [[False, True, True]]


# ---- the decoder


@pytest.mark.parametrize(("cell", "layers"), [("gru", 1), ("gru", 2), ("rnn", 2)])
def test_a_captions_loss_is_that_of_its_words_one_by_one(cell, layers):
    """-Σ log p(w_t | w_0 ... w_{t-1}), every layer's first state being the vector."""
    torch.manual_seed(0)
    words, decoder = nn.Embedding(7, 4).double(), CaptionDecoder(7, 4, 5, layers, cell).double()
    assert isinstance(decoder.network, {"gru": nn.GRU, "rnn": nn.RNN}[cell])
    tokens = base.Tokens(torch.tensor([[1, 4, 5, 2], [1, 6, 2, 0], [1, 2, 0, 0]]), torch.tensor([4, 3, 2]))
    vectors = drawn(3, 5)
    total = 0.0
    for ids, length, vector in zip(tokens.ids.tolist(), tokens.lengths.tolist(), vectors, strict=True):
        state = torch.stack([vector] * layers)[:, None]
        for told, asked in pairwise(ids[:length]):
            out, state = decoder.network(words(torch.tensor([[told]])), state)
            total -= torch.log_softmax(decoder.fc(out[0, 0]), 0)[asked].item()
    assert float(decoder.loss(words, tokens, vectors)) == pytest.approx(total / 3)
    assert float(decoder.loss(words, tokens, vectors, per_word=True)) == pytest.approx(total / 6)


def test_the_likeliest_words_are_said_until_the_end():
    torch.manual_seed(3)
    words, decoder = nn.Embedding(6, 4), CaptionDecoder(6, 4, 5, 2)
    vectors = 3 * torch.randn(20, 5)
    said = decoder.say(words, vectors, 1, 2, 7)
    assert said.shape == (20, 7)
    for vector, row in zip(vectors, said.tolist(), strict=True):
        state, last = torch.stack([vector, vector])[:, None], 1
        for word in row:
            out, state = decoder.network(words(torch.tensor([[last]])), state)
            last = int(decoder.fc(out[0, 0]).argmax()) if last != 2 else 2
            assert word == last
    assert not said.requires_grad


# ---- discrepancy


def test_layers_discrepancies_are_added():
    x, y = [drawn(4, 3), drawn(4, 2, seed=1)], [drawn(5, 3, seed=2), drawn(5, 2, seed=3)]
    expected = sum(float(mmd.squared_mmd(a, b)) for a, b in zip(x, y, strict=True))
    assert float(mmd.layerwise_mmd(x, y)) == pytest.approx(expected)


def test_the_discrepancy_by_hand():
    """Of 0 and 1 on a line all different pairs are 1 apart: k = mean over widths of exp(-1 / width), and 2 - 2 k."""
    kernel = np.mean([math.exp(-1 / width) for width in (0.25, 0.5, 1, 2, 4)])
    x, y = torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64)
    assert float(mmd.squared_mmd(x, y)) == pytest.approx(2 - 2 * kernel)
    assert float(mmd.squared_mmd(10 * x, 10 * y)) == pytest.approx(2 - 2 * kernel)  # in any unit


def test_the_widths_have_no_gradient():
    """At (0, 1) the widths' mean is 1; d/dy of 2 - 2 exp(-(x - y)²) with it held is 4 (y - x) exp(-1)."""
    x, y = torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64, requires_grad=True)
    mmd.squared_mmd(x, y, (1.0,)).backward()
    assert float(y.grad) == pytest.approx(4 * math.exp(-1))


# ---- closed forms


class Kept(closed_form.ClosedForm):
    """Keeps what `fit` hands on."""

    def fit_modality(self, modality, x, labels):
        self.seen[modality] = (x, labels)
        return 2 * x

    def fit_pair(self, a, x, b, y, labels):
        self.pairs.append((a, x, b, y, labels))


@pytest.mark.parametrize("standardise", [True, False])
def test_what_closed_forms_are_given(standardise):
    modalities = ("image", "text", "audio")
    model = Kept(closed_form.Settings(modalities=modalities, standardise=standardise), base.Context({}))
    model.seen, model.pairs = {}, []
    x = {m: (3 * drawn(9, 4, seed=n) + n).float() for n, m in enumerate(modalities)}
    x["text"][:, 1] = 7.0
    labels = torch.arange(9) % 2
    parts = [base.Batch({m: v[part] for m, v in x.items()}, labels=labels[part]) for part in (slice(0, 5), slice(5, 9))]
    model.fit(parts)
    assert [(a, b) for a, _, b, *_ in model.pairs] == [("image", "text"), ("image", "audio"), ("text", "audio")]
    for m in modalities:
        values = x[m].double().numpy()
        spread = values.std(0) if standardise else np.ones(4)
        expected = (values - values.mean(0)) / np.where(spread == 0, 1, spread)
        np.testing.assert_allclose(model.seen[m][0], expected, atol=1e-12)
        assert model.seen[m][1].tolist() == labels.tolist()
        torch.testing.assert_close(model.features(m, base.Batch(x)), torch.from_numpy(expected).float())
        assert model.get_buffer(f"{m}_mean").dtype == model.get_buffer(f"{m}_scale").dtype == torch.float32
    a, left, b, right, told = model.pairs[0]
    np.testing.assert_allclose(left, 2 * model.seen[a][0])
    np.testing.assert_allclose(right, 2 * model.seen[b][0])
    assert told.tolist() == labels.tolist()


def test_one_modality_is_no_pair():
    with pytest.raises(ValueError, match="modalities"):
        closed_form.Settings(modalities=("image",))


def test_projections_of_each_pair():
    model = closed_form.LinearProjection(closed_form.Settings(), base.Context({}))
    for m in ("image", "text"):
        model.scaled(m, drawn(6, 3).numpy())
    of_image, of_text = drawn(3, 2, seed=5), drawn(3, 2, seed=6)
    model.keep_pair("image", of_image, "text", of_text)
    batch = base.Batch({m: drawn(4, 3, seed=7).float() for m in ("image", "text")})
    for m, partner, projection in (("image", "text", of_image), ("text", "image", of_text)):
        expected = F.normalize(model.features(m, batch) @ projection.float(), dim=1)
        torch.testing.assert_close(model.encode(m, batch, partner), expected)


def test_vectors_of_classes_stand_in_the_order_of_the_labels():
    labels = np.array([3, 1, 3, 0, 1])
    found = zero_shot.vectors_of(np.array([[3.0], [1.0], [3.0], [0.0], [1.0]]), labels)
    assert found.tolist() == [[0.0], [1.0], [3.0]]


# ---- distances and triplets


def test_squared_distances_are_those_of_vectors():
    x, y = drawn(2, 5, 3), drawn(2, 4, 3, seed=1)
    torch.testing.assert_close(triplets.squared_distances(x, y), torch.cdist(x, y) ** 2)
    many = drawn(200, 64).float()  # rounding leaves some vectors less than nothing from themselves
    assert ((many**2).sum(1) * 2 - 2 * (many @ many.T).diagonal() < 0).any()
    assert (triplets.squared_distances(many, many) >= 0).all()
    products = triplets.with_squares(x[0], True) @ triplets.with_squares(y[0], False).T
    torch.testing.assert_close(products, -(torch.cdist(x[0], y[0]) ** 2) / 2)


def test_semi_hard_negatives_by_hand():
    """Points on a line at 0, 1 (class 0), 1.2, 4 (class 1): each anchor's positive and the next negative beyond it."""
    x = torch.tensor([[0.0], [1.0], [1.2], [4.0]], dtype=F64)
    labels = torch.tensor([0, 0, 1, 1])
    distances = triplets.squared_distances(x, x)
    # 0: positive 1, nearest negative beyond it 1.44. 1: positive 1, negatives .04 and 9, so 9.
    # 1.2: positive 7.84, negatives .04 and 1.44, none beyond: the farthest, 1.44. 4: positive 7.84, then 9.
    hinges = [max(0, 1 - 1.44 + m) for m in (2.0,)] + [max(0, 1 - 9 + 2.0), 7.84 - 1.44 + 2, 7.84 - 9 + 2]
    found = triplets.semi_hard_triplets(distances, labels, 2.0, own=True)
    assert float(found) == pytest.approx(sum(hinges) / 4)
    # With the item itself as a positive too (of another modality at the same place) there are twice as many pairs.
    # The nearest negative of each is at 1.44, .04, .04 and 9.
    more = [max(0, 0 - near + 2.0) for near in (1.44, 0.04, 0.04, 9.0)]
    both = triplets.semi_hard_triplets(distances, labels, 2.0, own=False)
    assert float(both) == pytest.approx((sum(hinges) + sum(more)) / 8)


def test_a_tie_with_the_positive_is_no_farther_negative():
    """The negative must be farther than the positive, not as far: the next one is taken."""
    distances = torch.tensor([[0.0, 1, 1, 3], [1, 0, 5, 6], [1, 5, 0, 9], [3, 6, 9, 0]], dtype=F64)
    labels = torch.tensor([0, 0, 1, 2])
    # Anchor 0: positive at 1, negatives at 1 and 3: 3. Anchor 1: positive at 1, negatives at 5 and 6: 5. Others: none.
    found = triplets.semi_hard_triplets(distances, labels, 5.0, own=True)
    assert float(found) == pytest.approx(((1 - 3 + 5) + (1 - 5 + 5)) / 2)


# ---- optimisers


class Choice(base.Schedule):
    optimiser: str = "sgd"


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_momentum_or_adam(kind):
    model = optimisers.Chosen(Choice(optimiser=kind, weight_decay=0.25), base.Context({}))
    model.weight = nn.Parameter(torch.ones(2))
    (optimiser,) = model.optimisers(base.Stage("one", 1, 0.5, 1)).values()
    assert type(optimiser) is {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind]
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    if kind == "sgd":
        assert (group["momentum"], group["nesterov"], group["dampening"]) == (0.9, False, 0)


# ---- DCGAN


def test_losses_of_the_discriminators_by_hand():
    """Logits 0 are 1/2; only the pairs that are there count for the second term of D2."""
    zero, two = torch.zeros(2, dtype=F64), torch.full((2,), 2.0, dtype=F64)
    there = torch.tensor([True, False])
    other = torch.tensor([1.0, 100.0], dtype=F64)

    def minus_log(p):
        return -math.log(1 / (1 + math.exp(-p)))  # of a logit

    found = dcgan.discriminator_losses(two, zero, zero, other, there)
    assert float(found["real"]) == pytest.approx(minus_log(2) + math.log(2))
    assert float(found["content"]) == pytest.approx(math.log(2) + minus_log(-1))
    made = dcgan.generator_loss(two, zero, other, there)
    assert float(made) == pytest.approx((minus_log(2) + math.log(2) + minus_log(-1)) / 2)
    printed = dcgan.printed_discriminator_losses(two, zero, zero, other, there)
    assert float(printed["real"]) == pytest.approx(-minus_log(-2) - math.log(2))
    assert float(printed["content"]) == pytest.approx(-math.log(2) - minus_log(1))
    printed = dcgan.printed_generator_loss(two, zero, other, there)
    assert float(printed) == pytest.approx((-minus_log(-2) - math.log(2) - minus_log(-1)) / 2)


def test_layers_of_dcgan():
    """Its published recipe: 4 x 4 kernels that double or halve, batch norm but at both ends, leaky .2, N(0, .02)."""
    torch.manual_seed(0)
    generator, judge = dcgan.Generator(6, 32, 16), dcgan.Discriminator(32, 16, images=2)
    ups = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.out_channels for m in ups] == [64, 32, 16, 3]
    assert [(m.kernel_size[0], m.stride[0], m.padding[0]) for m in ups] == [(4, 1, 0)] + [(4, 2, 1)] * 3
    assert [m.bias is not None for m in ups] == [False, False, False, True]
    assert [type(m) for m in generator.layers][-1] is nn.Tanh
    assert [m.num_features for m in generator.modules() if isinstance(m, nn.BatchNorm2d)] == [64, 32, 16]
    downs = [m for m in judge.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in downs] == [(6, 16), (16, 32), (32, 64), (64, 1)]
    assert [(m.kernel_size[0], m.stride[0], m.padding[0]) for m in downs] == [(4, 2, 1)] * 3 + [(4, 1, 0)]
    assert [m.bias is not None for m in downs] == [True, False, False, True]
    slopes = [m.negative_slope for m in judge.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.2] * 3
    assert [m.num_features for m in judge.modules() if isinstance(m, nn.BatchNorm2d)] == [32, 64]
    for module in (*ups[:3], *downs[1:3]):
        assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
        assert abs(float(module.weight.detach().mean())) < 0.002
    scales = torch.cat([m.weight.detach() for m in generator.modules() if isinstance(m, nn.BatchNorm2d)])
    assert float(scales.mean()) == pytest.approx(1, abs=0.01)
    assert 0.01 < float(scales.std()) < 0.03


def test_the_next_of_another_group():
    places, there = dcgan.others(torch.tensor([5, 5, 7, 7, 5]))
    assert places.tolist() == [2, 2, 4, 4, 2]
    assert there.all()
    assert float(dcgan.mean_where(torch.tensor([1.0, 2, 30]), torch.tensor([True, True, False]))) == 1.5


# ---- attention


def test_relevances_are_pooled_over_the_queries_that_are_there():
    relevance = torch.tensor([[[0.5, -1.0], [0.25, 9.0]]], dtype=F64)  # one image, two words, two sentences
    there = torch.tensor([[True, True], [True, False]])
    expected = {
        "mean": (0.375, -1),
        "sum": (0.75, -1),
        "max": (0.5, -1),
        "logsumexp": (math.log(math.exp(1) + math.exp(0.5)) / 2, -1),
    }
    for kind, values in expected.items():
        assert attention.pool(relevance, there, kind, 2.0)[0].tolist() == pytest.approx(values)


def test_defaults_are_the_papers():
    """SCAN: norms of clipped cosines over the queries, log-sum-exp with λ2 = 6 (its Flickr30K, text to image)."""
    x, y = (F.normalize(drawn(2, 3, 4, seed=n), dim=2) for n in (0, 1))
    all_there = torch.ones(2, 3, dtype=torch.bool)
    told = attention.cross_attention_scores(
        x, y, all_there, all_there, smooth=9, normalisation="clipped_l2norm", slope=0, pooling="logsumexp", sharpness=6
    )
    torch.testing.assert_close(attention.cross_attention_scores(x, y, all_there, all_there, smooth=9), told)
