"""mFSR against its equations, one item, word and pair at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch

from crossmodal.models import base, mfsr
from crossmodal.models.parts import dcgan
from crossmodal.models.parts.decoder import CaptionDecoder

F64 = torch.float64
SMALL = {"dim": 9, "word_dim": 4, "layers": 2, "image_size": 8, "channels": 3}


def built(**over):
    torch.manual_seed(0)
    context = base.Context({"image": (7,)}, 12)
    return mfsr.Model(mfsr.Settings(**{**SMALL, **over}), context).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([5, 3, 6, 4])
    ids = torch.randint(4, 12, (4, 6), generator=generator) * (torch.arange(6) < lengths[:, None])
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=generator)
    images = torch.randn(4, 7, generator=generator, dtype=F64)
    groups = torch.tensor([0, 1, 2, 2])
    return base.Batch({"image": images, "text": base.Tokens(ids, lengths)}, groups, second_form={"image": pixels})


def sigmoid(x):
    return 1 / (1 + math.exp(-float(x)))


def test_parting(batch):
    """Eq. 3: a map cut into three, each part over its own length."""
    model = built()
    v = model.encoders["image"].fc(batch.inputs["image"])
    (layer,) = model.separations["image"].layers
    parts = model.parts("image", batch)
    assert [part.shape for part in parts] == [(4, 3)] * 3
    for i in range(4):
        whole = layer.weight @ v[i] + layer.bias
        for k, part in enumerate(parts):
            cut = whole[3 * k : 3 * k + 3]
            torch.testing.assert_close(part[i], cut / math.sqrt(sum(float(x.detach()) ** 2 for x in cut)))
    assert torch.equal(model.encode("image", batch, "text"), parts.semantic)  # it alone is compared


def test_deeper_parting():
    separation = built(hidden_layers=2).separations["image"]
    assert [type(layer).__name__ for layer in separation.layers] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]


def test_the_modal_loss():
    """Eq. 7 as the text has it: to the own mean, and the means apart."""
    generator = torch.Generator().manual_seed(0)
    v, t = (torch.randn(5, 3, generator=generator, dtype=F64) for _ in "vt")
    means = [[sum(float(x[i, k]) for i in range(5)) / 5 for k in range(3)] for x in (v, t)]

    def distance(a, b):
        return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))

    near = sum(distance(v[i], means[0]) + distance(t[i], means[1]) for i in range(5)) / 5
    assert float(mfsr.modal_loss(v, t)) == pytest.approx(near + math.exp(-distance(*means)))


def test_modal_parts_that_are_all_the_same_have_a_gradient():
    v = torch.ones(4, 3, dtype=F64, requires_grad=True)
    t = torch.zeros(4, 3, dtype=F64, requires_grad=True)
    mfsr.modal_loss(v, t).backward()
    assert torch.isfinite(v.grad).all()
    assert torch.isfinite(t.grad).all()


@pytest.mark.parametrize("correlation", ["signed", "absolute"])
def test_the_specific_loss(batch, correlation):
    """Eq. 10, and with the absolute value of the inner product."""
    model = built()
    expected = 0.0
    for modality in ("image", "text"):
        parts = model.parts(modality, batch)
        for i in range(4):
            product = sum(a * b for a, b in zip(parts.specific[i].tolist(), parts.semantic[i].tolist(), strict=True))
            expected += math.exp(abs(product) if correlation == "absolute" else product) / 4
    found = mfsr.specific_loss(model.parts("image", batch), model.parts("text", batch), correlation)
    assert float(found) == pytest.approx(expected)


def test_where_the_specific_loss_is_least():
    """The printed one where the parts are opposite, that of the absolute value where they are orthogonal."""
    one, other = torch.eye(2, dtype=F64)

    def loss(specific, correlation):
        parts = mfsr.Parts(one[None], one[None], specific[None])
        return float(mfsr.specific_loss(parts, parts, correlation))

    assert loss(-one, "signed") < loss(other, "signed") < loss(one, "signed")
    assert loss(other, "absolute") < loss(one, "absolute") == loss(-one, "absolute")


def hinges(v, t, groups, margin):
    """Eq. 8 and 9, over the items that do not belong together."""
    total = 0.0
    for j in range(len(v)):
        others = [k for k in range(len(v)) if groups[k] != groups[j]]
        own = float(v[j] @ t[j])
        total += max(max(margin - own + float(v[j] @ t[k]), 0) for k in others)
        total += max(max(margin - own + float(t[j] @ v[k]), 0) for k in others)
    return total / len(v)


def caption_loss(model, tokens, parts):
    """Eq. 14, a caption and a word at a time: -log p of every word and of the end, given those before it."""
    total = 0.0
    for ids, length, vector in zip(tokens.ids, tokens.lengths, parts, strict=True):
        state = vector.expand(2, 1, -1).contiguous()
        for t in range(int(length) - 1):
            out, state = model.decoder.network(model.words(ids[t])[None, None], state)
            logits = model.decoder.fc(out[0, 0])
            total -= float(logits[ids[t + 1]]) - math.log(sum(math.exp(float(x)) for x in logits))
    return total


def verdicts(model, batch):
    """What D1 and D2 say of real and made images, each pair by itself but for the batch norms."""
    x = batch.second_form["image"].double() / 127.5 - 1
    made = model.generator(model.parts("image", batch).all)
    other = [1, 2, 0, 0]  # the next row of another group
    D1, D2 = model.discriminators["real"], model.discriminators["content"]
    pairs = D2(torch.cat([made, made[other]]), torch.cat([x, x]))
    found = {"real": D1(x), "made": D1(made), "own": pairs[:4], "other": pairs[4:]}
    return {name: [sigmoid(one) for one in value] for name, value in found.items()}


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_the_whole_loss(batch):
    """Eq. 6 with eq. 13 as the text has it: the generator is taken for real, and its images for their own."""
    model = built()
    image, text = model.parts("image", batch), model.parts("text", batch)
    d = verdicts(model, batch)
    generator = (
        mean(-math.log(p) for p in d["made"])
        + mean(-math.log(p) for p in d["own"])
        + mean(-math.log(1 - p) for p in d["other"])
    ) / 2
    expected = {
        "semantic": hinges(image.semantic.detach(), text.semantic.detach(), batch.groups, 0.2),
        "modal": float(mfsr.modal_loss(image.modal, text.modal)),
        "specific": float(mfsr.specific_loss(image, text)),
        "image": generator,
        "caption": caption_loss(model, batch.inputs["text"], text.all) / 4,
    }
    found = {name: float(value) for name, value in model.loss(batch, 0.5, "model").items()}
    assert found == pytest.approx({"loss": sum(expected.values()), **expected})


def test_the_discriminators_losses(batch):
    """Eq. 11 and 12 with -log(D) for their log(1 - D)."""
    model = built()
    d = verdicts(model, batch)
    real = mean(-math.log(p) for p in d["real"]) + mean(-math.log(1 - p) for p in d["made"])
    content = mean(-math.log(p) for p in d["own"]) + mean(-math.log(1 - p) for p in d["other"])
    found = {name: float(value) for name, value in model.loss(batch, 0.5, "discriminators").items()}
    assert found == pytest.approx({"loss": real + content, "real": real, "content": content})


def test_the_printed_losses(batch):
    """Eq. 11, 12 and 13 to the letter."""
    model = built(gan="printed", specific=0, modal=0, caption=0)
    d = verdicts(model, batch)
    real = mean(math.log(1 - p) for p in d["real"]) + mean(math.log(p) for p in d["made"])
    content = mean(math.log(1 - p) for p in d["own"]) + mean(math.log(p) for p in d["other"])
    generator = (
        mean(math.log(1 - p) for p in d["made"])
        + mean(math.log(p) for p in d["own"])
        + mean(math.log(1 - p) for p in d["other"])
    ) / 2
    found = {name: float(value) for name, value in model.loss(batch, 0.5, "discriminators").items()}
    assert found == pytest.approx({"loss": real + content, "real": real, "content": content})
    assert float(model.loss(batch, 0.5, "model")["image"]) == pytest.approx(generator)


def test_real_pairs_for_the_second_discriminator(batch):
    """Eq. 4 instead of eq. 12: [x; x] is what is of one content."""
    model = built(same="real")
    x = batch.second_form["image"].double() / 127.5 - 1
    own = mean(-math.log(sigmoid(one)) for one in model.discriminators["content"](x, x))
    other = mean(-math.log(1 - p) for p in verdicts(model, batch)["other"])
    assert float(model.loss(batch, 0.5, "discriminators")["content"]) == pytest.approx(own + other)


def test_turns_train_their_own(batch):
    model = built()
    optimisers = model.optimisers(base.Stage("train", 1, 1e-3, 15))
    assert list(optimisers) == ["model", "discriminators"]
    judges = {id(p) for p in model.discriminators.parameters()}
    groups = {name: {id(p) for g in o.param_groups for p in g["params"]} for name, o in optimisers.items()}
    assert groups["discriminators"] == judges
    assert groups["model"] | judges == {id(p) for p in model.parameters()}
    assert not groups["model"] & judges
    model.loss(batch, 0.5, "model")["loss"].backward()
    assert all(p.grad is None for p in model.discriminators.parameters())
    assert model.encoders["image"].fc.weight.grad.abs().sum() > 0
    model.zero_grad(set_to_none=True)
    model.loss(batch, 0.5, "discriminators")["loss"].backward()
    assert all(p.grad is not None for p in model.discriminators.parameters())
    assert model.encoders["image"].fc.weight.grad is None


def test_the_discriminators_judge_what_the_model_has_just_made(batch):
    """The same loss whether it is made again or kept of the model's turn; another batch is not taken for it."""
    kept, fresh = built(), built()
    kept.loss(batch, 0.5, "model")
    for one, other in zip(kept.generator.buffers(), fresh.generator.buffers(), strict=True):
        one.data, other.data = one.data.clone(), one.data.clone()
    assert kept._generated[0] is batch
    expected = fresh.loss(batch, 0.5, "discriminators")["real"]
    torch.testing.assert_close(kept.loss(batch, 0.5, "discriminators")["real"], expected)
    again = base.Batch(batch.inputs, batch.groups, second_form=batch.second_form)
    kept.loss(again, 0.5, "discriminators")
    assert kept._generated[0] is again


def test_the_ablation_leaves_out_what_has_no_weight(batch):
    model = built(modal=0, specific=0, image=0, caption=0)
    assert not hasattr(model, "generator")
    assert not hasattr(model, "decoder")
    assert list(model.optimisers(base.Stage("train", 1, 1e-3, 15))) == ["model"]
    assert set(model.loss(batch, 0.5, "model")) == {"loss", "semantic"}
    half = built(modal=0.5, image=0, caption=0).loss(batch, 0.5, "model")
    whole = built(image=0, caption=0).loss(batch, 0.5, "model")
    assert float(half["loss"]) == pytest.approx(float(whole["loss"]) - float(whole["modal"]) / 2)


def test_the_warm_up_counts_all_negatives(batch):
    model = built(modal=0, specific=0, image=0, caption=0, warm_up=0.5)
    v, t = (model.encode(m, batch, "").detach() for m in ("image", "text"))
    every = 0.0
    for j in range(4):
        for k in (k for k in range(4) if batch.groups[k] != batch.groups[j]):
            own = float(v[j] @ t[j])
            every += max(0.2 - own + float(v[j] @ t[k]), 0) + max(0.2 - own + float(t[j] @ v[k]), 0)
    assert float(model.loss(batch, 0.49, "model")["loss"]) == pytest.approx(every / 4)
    assert float(model.loss(batch, 0.5, "model")["loss"]) == pytest.approx(hinges(v, t, batch.groups, 0.2))


def test_word_vectors_to_begin_with():
    given = torch.arange(48.0).view(12, 4)
    model = mfsr.Model(mfsr.Settings(**SMALL), base.Context({"image": (7,)}, 12, word_vectors=given))
    assert torch.equal(model.words.weight, given)


def test_per_word(batch):
    tokens = batch.inputs["text"]
    model = built()
    sums = caption_loss(model, tokens, model.parts("text", batch).all)
    found = built(per_word=True).loss(batch, 0.5, "model")["caption"]
    assert float(found) == pytest.approx(sums / int((tokens.lengths - 1).sum()))


def test_a_decoder_learns_to_say_what_it_was_given():
    torch.manual_seed(0)
    words, decoder = torch.nn.Embedding(9, 8), CaptionDecoder(9, 8, 16)
    ids = torch.tensor([[2, 4, 5, 6, 3], [2, 7, 3, 0, 0], [2, 8, 4, 3, 0]])
    tokens = base.Tokens(ids, torch.tensor([5, 3, 4]))
    vectors = torch.randn(3, 16)
    adam = torch.optim.Adam([*words.parameters(), *decoder.parameters()], lr=0.02)
    for _ in range(100):
        adam.zero_grad()
        decoder.loss(words, tokens, vectors).backward()
        adam.step()
    assert decoder.say(words, vectors, 2, 3, 4).tolist() == [[4, 5, 6, 3], [7, 3, 3, 3], [8, 4, 3, 3]]


def test_other_images():
    places, there = dcgan.others(torch.tensor([0, 0, 1, 0]))
    assert places[:3].tolist() == [2, 2, 3]
    assert places[3] == 2  # around the end, past its own
    assert there.all()
    assert not dcgan.others(torch.zeros(3))[1].any()
    assert float(dcgan.mean_where(torch.ones(3), torch.zeros(3, dtype=bool))) == 0


@pytest.mark.parametrize("size", [8, 32, 64])
def test_sizes_of_images(size):
    made = dcgan.Generator(5, size, 4)(torch.randn(2, 5))
    assert made.shape == (2, 3, size, size)
    assert made.abs().max() <= 1
    assert dcgan.Discriminator(size, 4, images=2)(made, made).shape == (2,)


def test_dcgans_own_widths():
    """64 pixels from 512 features of 4 pixels, as DCGAN's figure 1 has them but for its first 1024."""
    widths = [m.out_channels for m in dcgan.Generator(100, 64, 64).modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert widths == [512, 256, 128, 64, 3]


@pytest.mark.parametrize("size", [4, 48])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match=f"image_size: {size} is no power of two"):
        mfsr.Settings(image_size=size)


def test_pixels_to_images_and_back():
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    images = dcgan.as_images(pixels, 16)
    assert images.min() >= -1
    assert images.max() <= 1
    assert torch.equal(dcgan.as_pixels(images), pixels)
    expected = pixels[0, 1, 2:4, 6:8].double().mean() / 127.5 - 1
    assert float(dcgan.as_images(pixels, 8)[0, 1, 1, 3]) == pytest.approx(float(expected), abs=1e-6)


def test_what_is_made_again(batch):
    found = built().eval().reconstruct(batch)
    assert found["pictures"].dtype == torch.uint8
    assert torch.equal(found["pictures"], batch.second_form["image"])
    assert found["pictures_made"].shape == (4, 3, 8, 8)
    assert found["words_made"].shape == (4, 6)
    torch.testing.assert_close(found["text_modal"].norm(dim=1), torch.ones(4, dtype=F64))
    assert set(built(image=0, caption=0).reconstruct(batch)) == {
        f"{m}_{part}" for m in ("image", "text") for part in ("modal", "semantic", "specific")
    }


def test_the_norm_of_the_separation_is_one_over_each_item_or_over_each_of_its_parts():
    vectors = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    for norm, expected in (("whole", 1.0), ("parts", 3.0)):
        parts = mfsr.Separation(6, 4, 1, norm)(vectors)
        total = sum(part.square().sum(1) for part in parts)
        torch.testing.assert_close(total, torch.full((5,), expected))
