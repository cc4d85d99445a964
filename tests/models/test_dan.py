"""Dual attention against its equations, one item, step and vector at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch

from crossmodal.models import base, dan

F64 = torch.float64


def built(**over):
    torch.manual_seed(0)
    settings = dan.Settings(**{"dim": 6, "word_dim": 4, "margin": 1.0} | over)
    model = dan.Model(settings, base.Context({"image": (3, 7)}, 12)).double().eval()
    torch.nn.init.uniform_(model.project[0].bias)  # begins as zeros
    return model


@pytest.fixture
def model():
    return built()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    regions = base.Regions(torch.randn(4, 3, 7, generator=generator, dtype=F64), torch.tensor([3, 2, 3, 1]))
    lengths = torch.tensor([5, 2, 4, 3])
    ids = torch.randint(4, 12, (4, 5), generator=generator) * (torch.arange(5) < lengths[:, None])
    return base.Batch({"image": regions, "text": base.Tokens(ids, lengths)}, torch.tensor([0, 1, 2, 2]))


def attended(attention, vectors, memory):
    """Eq. 4, 5 (regions) or 7, 8 (words) of one item: vectors (n, D), memory (d,)."""
    logits = []
    for v in vectors:
        each = torch.tanh(attention.of_each.weight @ v)
        of_memory = torch.tanh(attention.of_memory.weight @ memory)
        logits.append(float((attention.weight.weight @ (each * of_memory)).detach()))
    total = sum(math.exp(x) for x in logits)
    return sum(math.exp(x) / total * v for x, v in zip(logits, vectors, strict=True))


def states(model, ids):
    """Sum of the two ways of the LSTM over one sentence's words, without padding."""
    out, _ = model.words.network(model.words.words(ids)[None])
    return out[0, :, :6] + out[0, :, 6:]


def literal(model, batch, n):
    """(v of each step, u of each step) of item n."""
    regions, tokens = batch.inputs["image"], batch.inputs["text"]
    v = [*regions.features[n, : regions.counts[n]]]
    u = [*states(model, tokens.ids[n, : tokens.lengths[n]]).detach()]
    images = [torch.tanh(model.project[0].weight @ (sum(v) / len(v)) + model.project[0].bias)]
    texts = [sum(u) / len(u)]
    m_v, m_u = images[0], texts[0]
    for k in range(2):
        images.append(torch.tanh(model.project[k + 1].weight @ attended(model.image_attention[k], v, m_v)))
        texts.append(attended(model.text_attention[k], u, m_u))
        m_v, m_u = m_v + images[-1], m_u + texts[-1]
    return images, texts


def literal_vectors(model, batch):
    """(z of each image, z of each sentence): the vectors of all steps side by side."""
    parts = [literal(model, batch, n) for n in range(4)]
    return [torch.cat(images).detach() for images, _ in parts], [torch.cat(texts).detach() for _, texts in parts]


def test_steps_and_scores(model, batch):
    """Eq. 3 to 9 with a memory a modality, and the sum over steps of the inner products."""
    with torch.no_grad():
        found = model.score(model.encode("image", batch, "text"), model.encode("text", batch, "image"))
        images, texts = literal_vectors(model, batch)
        for i, image in enumerate(images):
            for j, text in enumerate(texts):
                assert float(found[i, j]) == pytest.approx(float(image @ text), rel=1e-10)


def test_the_loss_against_the_whole_batch(batch):
    """Hinges against all items of other groups, both ways."""
    model = built(negatives="all")
    images, texts = literal_vectors(model, batch)
    s = [[float(v @ u) for u in texts] for v in images]
    groups = batch.groups.tolist()
    total = 0.0
    for i in range(4):
        for j in range(4):
            if groups[i] != groups[j]:
                total += max(0, 1 - s[i][i] + s[i][j]) + max(0, 1 - s[i][i] + s[j][i])
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(total / 4)


@pytest.mark.parametrize("by", ["image", "sentence"])
def test_the_loss_against_mined_negatives(batch, by):
    """One sentence and one image: the highest of the candidates, the image by the program's or the meant likeness."""
    model = built(margin=50.0, mined_image=by, candidates=3)  # all others are candidates, every hinge is active
    images, texts = literal_vectors(model, batch)
    groups = batch.groups.tolist()
    total = 0.0
    for i in range(4):
        apart = [j for j in range(4) if groups[j] != groups[i]]
        sentence = max(apart, key=lambda j: float(images[i] @ texts[j]))
        near = images[i] if by == "image" else texts[i]
        image = max(apart, key=lambda j: float(near @ images[j]))
        own = float(images[i] @ texts[i])
        total += max(0, 50 - own + float(images[i] @ texts[sentence]))
        total += max(0, 50 - own + float(images[image] @ texts[i]))
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(total / 4)


def test_what_is_mined_is_of_a_few_candidates_and_without_dropout(batch):
    """Of one candidate a pair that is a random other pair, both negatives are that pair; and dropout changes none."""
    model = built(candidates=1).train()
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        (sentence, there), (image, also) = model.negatives(batch)
        assert there.all()
        assert also.all()
        assert torch.equal(sentence, image)
        seen.add(int(sentence[3]))
    assert seen == {0, 1}  # not its own group's
    assert model.training
    torch.manual_seed(0)
    model = built(candidates=3).train()
    first = model.negatives(batch)
    assert all(torch.equal(first[k][0], model.negatives(batch)[k][0]) for k in (0, 1) for _ in range(5))


def test_drawn_negatives_are_random_ones_of_other_groups(batch):
    model = built(negatives="drawn")
    torch.manual_seed(0)
    seen = {tuple(int(places[3]) for places, _ in model.negatives(batch)) for _ in range(60)}
    assert seen == {(0, 0), (0, 1), (1, 0), (1, 1)}  # image and sentence apart from each other


def test_the_optimiser_of_the_program():
    """Adadelta with TensorFlow's constants; word vectors at a hundred times the rate; no decay of them or of P(0)."""
    model = built()
    first, later = model.stages()
    optimiser = model.optimisers(first)["model"]
    assert isinstance(optimiser, torch.optim.Adadelta)
    names = {id(p): name for name, p in model.named_parameters()}
    rest, first_map, words = (
        ({names[id(p)] for p in group["params"]}, group["lr"], group["weight_decay"], group["rho"], group["eps"])
        for group in optimiser.param_groups
    )
    assert words == ({"words.words.weight"}, pytest.approx(10.0), 0.0, 0.95, 1e-8)
    assert first_map == ({"project.0.weight", "project.0.bias"}, pytest.approx(0.1), 0.0, 0.95, 1e-8)
    assert rest[0] == set(names.values()) - words[0] - first_map[0]
    assert rest[1:] == (pytest.approx(0.1), 5e-4, 0.95, 1e-8)
    assert (later.lr, later.epochs, model.settings.batch_size) == (0.05, 60, 256)
    assert (model.settings.clip, model.settings.clip_by) == (0.1, "value")


def test_one_step_of_adadelta_is_tensorflows():
    """accum = rho accum + (1 - rho) g²; step = lr g sqrt(update + eps) / sqrt(accum + eps), by hand for two steps."""
    model = built(weight_decay=0.0)
    optimiser = model.optimisers(model.stages()[0])["model"]
    weight = model.project[1].weight
    before, gradient = weight.detach().clone(), torch.full_like(weight, 0.05)
    accum, update, expected = 0.0, 0.0, 0.0
    for _ in range(2):
        weight.grad = gradient.clone()
        optimiser.step()
        accum = 0.95 * accum + 0.05 * 0.05**2
        step = 0.05 * math.sqrt(update + 1e-8) / math.sqrt(accum + 1e-8)
        update = 0.95 * update + 0.05 * step**2
        expected += 0.1 * step
    torch.testing.assert_close(before - weight.detach(), torch.full_like(weight, expected), rtol=1e-6, atol=0)


def test_later_epochs_have_less_dropout():
    model = built(later_dropout=0.2)
    first, later = model.stages()
    rates = []
    for stage in (first, later):
        model.begin(stage)
        rates.append({module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)})
    assert rates == [{0.5}, {0.2}]
    assert [stage.name for stage in built(later_epochs=0).stages()] == ["train"]


def test_dropout_and_first_weights():
    """Weights of s.d. .1 and words of 1, cut at two of these; forget gates that begin open; dropout on both sides."""
    torch.manual_seed(0)
    model = dan.Model(dan.Settings(dim=64, word_dim=80), base.Context({"image": (3, 90)}, 400))
    cut = 0.8796  # s.d. of a normal variable within two of its own
    for weight, deviation in (
        (model.words.words.weight, 1.0),
        (model.project[0].weight, 0.1),
        (model.project[2].weight, 0.1),
        (model.image_attention[0].of_each.weight, 0.1),
        (model.text_attention[1].of_memory.weight, 0.1),
    ):
        assert float(weight.detach().std()) == pytest.approx(deviation * cut, rel=0.05)
        assert float(weight.detach().abs().max()) <= 2 * deviation
    network = model.words.network
    bound = math.sqrt(6 / (80 + 64 + 4 * 64))
    assert float(network.weight_hh_l0.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    gates = (network.bias_ih_l0 + network.bias_hh_l0).detach().view(4, 64)
    assert torch.equal(gates, torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None].expand(4, 64))  # i, f, g, o
    assert not model.project[0].bias.detach().any()


def test_dropout_is_on_either_side_while_training(model, batch):
    torch.manual_seed(0)
    with torch.no_grad():
        for modality in ("image", "text"):
            first, second = (model.train().encode(modality, batch, "") for _ in range(2))
            assert not torch.equal(first, second)
            assert torch.equal(*(model.eval().encode(modality, batch, "") for _ in range(2)))


def things(n, generator):
    """Four of forty attributes each: regions as a network's last map has them (no negative values, norms of about 25),
    and a sentence of their names."""
    prototypes = torch.randn(40, 64, generator=torch.Generator().manual_seed(7)).clamp(min=0)
    prototypes = 25 * torch.nn.functional.normalize(prototypes, dim=1)
    chosen = torch.stack([torch.randperm(40, generator=generator)[:4] for _ in range(n)])
    regions = prototypes[chosen] + torch.randn(n, 4, 64, generator=generator).clamp(min=0)
    names = torch.stack([row[torch.randperm(4, generator=generator)] for row in chosen]) + 4
    count = torch.full((n,), 4)
    return base.Batch({"image": base.Regions(regions, count), "text": base.Tokens(names, count)}, torch.arange(n))


@pytest.mark.slow
def test_it_learns_at_the_settings_that_reproduce_the_paper():
    """Batches of 256, Adadelta, elements clipped at .1, margin 100, mined negatives, dropout: in a small network.

    Of 200 unseen pairs the partner is among the first ten nearly always, where chance is a twentieth. Momentum with the
    gradient's norm clipped at .1 finds it for a third to a half of them after as many steps, after a better start.
    """
    generator = torch.Generator().manual_seed(0)
    training, unseen = things(1024, generator), things(200, generator)
    torch.manual_seed(0)
    settings = dan.Settings(dim=32, word_dim=32)
    model = dan.Model(settings, base.Context({"image": (4, 64)}, 44))
    optimiser = model.optimisers(model.stages()[0])["model"]
    losses = []
    for _ in range(400):
        picks = torch.randperm(1024, generator=generator)[: settings.batch_size]
        inputs = {m: type(given)(*(part[picks] for part in given)) for m, given in training.inputs.items()}
        loss = model.loss(base.Batch(inputs, picks), 0.0, "model")["loss"]
        optimiser.zero_grad()
        loss.backward()
        assert settings.clip_by == "value"
        torch.nn.utils.clip_grad_value_(model.parameters(), settings.clip)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < sum(losses[:20]) - 20
    model.eval()
    with torch.no_grad():
        scores = model.score(model.encode("image", unseen, "text"), model.encode("text", unseen, "image"))
    for one_way in (scores, scores.T):
        best = one_way.argsort(1, descending=True)[:, :10]
        assert float((best == torch.arange(200)[:, None]).any(1).float().mean()) > 0.7
