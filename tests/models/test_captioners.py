"""Captioners: their words one by one and all at once, their equations, and what a beam finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from crossmodal.core import registry
from crossmodal.language.tokens import END, PAD, START, UNKNOWN
from crossmodal.models import base, nic, updown
from crossmodal.models.parts import decoding
from tests.models.captioners import small

CAPTIONERS = [name for name in registry.names("models") if "first_state" in registry.methods(name)]
DIFFERENT = [name for name in CAPTIONERS if name not in ("contrastive_captions", "updown_grid")]


def turn(model: base.Model) -> str:
    """The optimiser of the training by likelihood."""
    return next(iter(model.optimisers(model.stages()[0])))


@pytest.mark.parametrize("name", CAPTIONERS)
def test_words_one_by_one_are_as_all_at_once(name):
    model, batch = small(name)
    tokens = batch.inputs["text"]
    state = model.first_state(batch)
    for place in range(5):
        logits, state = model.next_word(tokens.ids[:, place], state)
        said = place < tokens.lengths - 1  # padding is not computed
        assert torch.allclose(logits[said], model.logits(batch, tokens)[said, place])


@pytest.mark.parametrize("name", CAPTIONERS)
def test_the_loss_is_the_mean_over_the_true_words(name):
    model, batch = small(name, **({"stochastic": 0.0} if name == "sat" else {}))
    tokens = batch.inputs["text"]
    logs = torch.log_softmax(model.logits(batch, tokens), 2)
    total = sum(-logs[i, t - 1, tokens.ids[i, t]] for i in range(3) for t in range(1, int(tokens.lengths[i])))
    loss = model.loss(batch, 0.0, turn(model))["loss"]
    assert loss.item() == pytest.approx(total.item() / (5 + 3 + 4))


@pytest.mark.parametrize("name", [name for name in CAPTIONERS if name != "cgan"])
def test_scheduled_sampling_reads_what_the_network_would_say(name):
    """A network that is sure of one word reads that one behind the start mark, where all words are drawn."""
    model, batch = small(name)
    tokens = batch.inputs["text"]
    with torch.no_grad():
        model.word.bias[7] = 1000.0
    said = tokens.ids.clone()
    said[:, 1:][said[:, 1:] != PAD] = 7
    drawn, read = model.spoken(batch, tokens, 1.0), model.spoken(batch, base.Tokens(said, tokens.lengths))
    true = model.spoken(batch, tokens)
    places = [place.long() * 3 + caption for caption, place in ((x.caption, x.place) for x in (drawn, read, true))]
    outs = [x.out[place.argsort()] for x, place in zip((drawn, read, true), places, strict=True)]
    assert torch.allclose(outs[0], outs[1])
    assert not torch.allclose(outs[0], outs[2])
    assert drawn.word[places[0].argsort()].equal(true.word[places[2].argsort()])  # the true words are to be said


def test_the_share_of_words_that_are_drawn():
    """Rennie et al., 2017: 5 % more every five epochs, up to 25 %; the first five epochs read true words."""
    model, batch = small("scst", epochs=60)
    shares = [model._share_drawn(epoch / 60) for epoch in (0, 4, 5, 12, 24, 25, 59)]
    assert shares == pytest.approx([0.0, 0.0, 0.05, 0.10, 0.20, 0.25, 0.25])
    assert small("scst", epochs=60, scheduled_most=0.1)[0]._share_drawn(0.9) == pytest.approx(0.1)
    assert small("nic", epochs=60)[0]._share_drawn(0.9) == 0.0
    asked = []
    spoken = model.spoken
    model.spoken = lambda batch, tokens, drawn=0.0: asked.append(drawn) or spoken(batch, tokens, drawn)
    model.loss(batch, 0.5, "model")
    assert asked == [0.25]


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("name", CAPTIONERS)
def test_a_caption_does_not_depend_on_the_others_of_its_batch(name, beam):
    model, batch = small(name)
    whole = model.eval().generate(batch, beam)
    for i in range(3):
        image = batch.inputs["image"]
        one = base.Regions(*(x[i : i + 1] for x in image)) if isinstance(image, base.Regions) else image[i : i + 1]
        alone = model.generate(base.Batch({"image": one}), beam)[0]
        assert [w for w in alone.tolist() if w] == [w for w in whole[i].tolist() if w]
    assert not np.isin(whole.numpy(), [UNKNOWN, START, END]).any()


@pytest.mark.parametrize("name", DIFFERENT)
def test_it_learns_to_say_three_captions(name):
    model, batch = small(name)
    model = model.float()
    image = batch.inputs["image"]
    image = image._replace(features=image.features.float()) if isinstance(image, base.Regions) else image.float()
    batch.inputs["image"] = image
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimiser.zero_grad()
        model.loss(batch, 0.0, turn(model))["loss"].backward()
        optimiser.step()
    tokens = batch.inputs["text"]
    for beam in (1, 4):
        said = model.eval().generate(batch, beam)
        for i, length in enumerate(tokens.lengths.tolist()):
            assert [w for w in said[i].tolist() if w] == tokens.ids[i, 1 : length - 1].tolist()


def test_nic_reads_the_image_once_as_the_first_word():
    """Show and Tell, eq. 10 to 12, in float64: x_{-1} = image, x_t = W_e S_t, p_{t+1} = LSTM(x_t).

    The image's features are normalised by the running mean and variance of batches.
    """
    model, batch = small("nic")
    model.eval()
    model.even.running_mean.copy_(torch.linspace(-1, 1, 10))
    model.even.running_var.copy_(torch.linspace(0.5, 2, 10))
    model.even.weight.data.copy_(torch.linspace(2, 1, 10))
    mean, variance = np.linspace(-1, 1, 10), np.linspace(0.5, 2, 10)
    n = {name: value.detach().numpy() for name, value in model.named_parameters()}

    def cell(x, h, c):
        gates = n["network.weight_ih_l0"] @ x + n["network.bias_ih_l0"] + n["network.weight_hh_l0"] @ h
        i, f, g, o = np.split(gates + n["network.bias_hh_l0"], 4)
        sigmoid = lambda value: 1 / (1 + np.exp(-value))  # noqa: E731
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    for row in range(3):
        h = c = np.zeros(8)
        even = n["even.weight"] * (batch.inputs["image"][row].numpy() - mean) / np.sqrt(variance + 1e-5)
        h, c = cell(n["image.weight"] @ (even + n["even.bias"]) + n["image.bias"], h, c)
        for place in range(int(batch.inputs["text"].lengths[row]) - 1):
            h, c = cell(n["words.weight"][batch.inputs["text"].ids[row, place]], h, c)
            expected = n["word.weight"] @ h + n["word.bias"]
            assert model.logits(batch, batch.inputs["text"])[row, place].detach().numpy() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["nic", "cgan"])
def test_images_are_told_apart_by_features_of_unit_length(name):
    """Two pooled maps of unit length with a cosine of .95, as networks give them, and the captions of either.

    Beside word vectors, whose elements are of the order of 1, elements of 1 / sqrt(1280) are next to nothing: read as
    they are, they take the first captioner 60 and the second one 90 steps.
    """
    torch.manual_seed(0)
    alike = torch.rand(1280) + 0.8 * torch.rand(2, 1280)
    image = torch.nn.functional.normalize(alike, dim=1)
    assert float(image[0] @ image[1]) == pytest.approx(0.95, abs=0.02)
    captions = torch.tensor([[START, 4, 5, END], [START, 6, 7, END]])
    batch = base.Batch({"image": image, "text": base.Tokens(captions, torch.tensor([4, 4]))}, torch.arange(2))
    module = registry.module("models", name)
    settings = module.Settings(word_dim=64, dim=64, dropout=0.0)
    model = module.Model(settings, base.Context({"image": (1280,)}, vocabulary_size=9))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(30):
        optimiser.zero_grad()
        model.loss(batch, 0.0, turn(model))["loss"].backward()
        optimiser.step()
    assert [[word for word in said if word] for said in model.generate(batch, 1).tolist()] == [[4, 5], [6, 7]]


def test_updown_by_its_equations():
    """Bottom-up and top-down attention, eq. 2 to 7, in float64, for one image of three regions and one of padding."""
    model, batch = small("updown")
    n = {name: value.detach().numpy() for name, value in model.named_parameters()}

    def cell(which, x, h, c):
        gates = (
            n[f"{which}.weight_ih"] @ x + n[f"{which}.bias_ih"] + n[f"{which}.weight_hh"] @ h + n[f"{which}.bias_hh"]
        )
        i, f, g, o = np.split(gates, 4)
        sigmoid = lambda value: 1 / (1 + np.exp(-value))  # noqa: E731
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    regions = batch.inputs["image"].features[2, :3].numpy()
    h1 = c1 = h2 = c2 = np.zeros(8)
    for place in range(4):
        word = n["words.weight"][batch.inputs["text"].ids[2, place]]
        h1, c1 = cell("attention", np.concatenate([h2, regions.mean(0), word]), h1, c1)
        scores = [
            n["look.weight.weight"][0] @ np.tanh(n["look.of_region.weight"] @ v + n["look.of_state.weight"] @ h1)
            for v in regions
        ]
        weights = np.exp(scores) / np.exp(scores).sum()
        h2, c2 = cell("language", np.concatenate([weights @ regions, h1]), h2, c2)
        found = model.logits(batch, batch.inputs["text"])[2, place].detach().numpy()
        assert found == pytest.approx(n["word.weight"] @ h2 + n["word.bias"])


def chain(seed: int):
    """A step whose next word depends on the last two, in place of a network; five words may be said."""
    table = torch.randn(9, 9, 9, generator=torch.Generator().manual_seed(seed)).double() * 2

    def step(last, state):
        return table[state["before"], last], {"before": last}

    return step, {"before": torch.zeros(1, dtype=torch.int64)}


@pytest.mark.parametrize("power", [1.0, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all_captions(seed, power):
    step, state = chain(seed)
    words, most = range(4, 9), 4

    def score(caption):
        now, last, total = state, torch.tensor([START]), 0.0
        for word in caption:
            logits, now = step(last, now)
            logits[:, [PAD, UNKNOWN, START]] = -torch.inf
            total += float(torch.log_softmax(logits, 1)[0, word])
            last = torch.tensor([word])
        return total / len(caption) ** power

    ended = [(*c, END) for k in range(most) for c in itertools.product(words, repeat=k)]
    every = [*ended, *itertools.product(words, repeat=most)]
    best = max(every, key=score)
    found = decoding.beam(step, state, 1, most, 700, torch.device("cpu"), power)[0].tolist()
    assert [w for w in found if w] == [w for w in best if w != END]


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_beam_as_the_programs_of_captioners_have_it(width, power):
    """The likeliest continuations of all are kept; those that end leave the beam, and the next step fills it again."""
    for seed in range(4):
        step, state = chain(seed)
        beams, finished = [((), torch.tensor([START]), state, 0.0)], []
        for _ in range(6):
            candidates = []
            for said, last, now, total in beams:
                logits, after = step(last, now)
                logits[:, [PAD, UNKNOWN, START]] = -torch.inf
                chances = torch.log_softmax(logits, 1)[0]
                for word in (END, *range(4, 9)):
                    candidates.append(((*said, word), torch.tensor([word]), after, total + float(chances[word])))
            kept = sorted(candidates, key=lambda one: -one[3])[:width]
            finished += [one for one in kept if one[0][-1] == END]
            beams = [one for one in kept if one[0][-1] != END]
        best = max(finished + beams, key=lambda one: one[3] / len(one[0]) ** power)[0]
        found = decoding.beam(step, state, 1, 6, width, torch.device("cpu"), power)[0].tolist()
        assert [w for w in found if w] == [w for w in best if w != END]


def test_a_beam_of_one_takes_the_likeliest_word_each_time():
    for seed in range(8):
        step, state = chain(seed)
        greedy = decoding.greedy(step, state, 1, 6, torch.device("cpu"))[0].tolist()
        found = decoding.beam(step, state, 1, 6, 1, torch.device("cpu"))[0].tolist()
        assert [w for w in found if w] == [w for w in greedy if w]


def test_the_likeliest_word_each_time():
    step, state = chain(7)
    said, last, now = [], torch.tensor([START]), state
    for _ in range(6):
        logits, now = step(last, now)
        logits[:, [PAD, UNKNOWN, START]] = -torch.inf
        last = logits.argmax(1)
        if int(last) == END:
            break
        said.append(int(last))
    found = decoding.greedy(step, state, 1, 6, torch.device("cpu"))[0].tolist()
    assert [w for w in found if w] == said


def test_a_beam_below_one():
    step, state = chain(0)
    with pytest.raises(ValueError, match="a beam of 0: expected at least 1"):
        decoding.beam(step, state, 1, 4, 0, torch.device("cpu"))


def test_published_settings():
    """Anderson et al., 2018: word vectors of 1,000, M = 1,000 units in each LSTM, H = 512 in the attention."""
    assert (updown.Settings().word_dim, updown.Settings().dim, updown.Settings().attention_dim) == (1000, 1000, 512)
    assert (nic.Settings().dim, nic.Settings().beam) == (512, 5)


def test_what_nic_reads_is_dropped_in_training_alone():
    """With nine of ten elements dropped, the image and the words that the network reads are zeros but for a tenth."""
    model, batch = small("nic", read_dropout=0.9)
    torch.manual_seed(0)
    ids = torch.full((2000,), 5)
    kept = model.read(ids) != 0
    assert float(kept.double().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.allclose(model.read(ids).mean(0), model.words.weight[5], atol=0.35)
    assert (model._image(batch) == 0).any()
    model.eval()
    assert model.read(ids).equal(model.words(ids))
    assert not (model._image(batch) == 0).any()
