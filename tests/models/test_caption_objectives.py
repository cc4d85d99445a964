"""Self-critical, contrastive and adversarial training of captioners, and the reward of the first."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from crossmodal.core.errors import UserError
from crossmodal.evaluation.captions import cider
from crossmodal.language.tokens import END, PAD, START, UNKNOWN
from crossmodal.models import base
from crossmodal.models.parts import decoding, objectives
from crossmodal.models.parts.reward import Reward
from tests.models.captioners import small


def padded(captions):
    ids = np.zeros((len(captions), max(map(len, captions)) + 1), np.int64)
    for row, caption in zip(ids, captions, strict=True):
        row[: len(caption)] = caption
    return ids


def test_the_reward_is_cider_d_with_the_training_images_frequencies():
    """The references lie in another order than their images, whose numbers have gaps; some words are in none."""
    rng = np.random.default_rng(0)

    def captions(n):
        return [[*rng.integers(4, 16, rng.integers(0, 9)).tolist(), END] for _ in range(n)]

    references = [captions(rng.integers(1, 5)) for _ in range(20)]
    flat = [caption for some in references for caption in some]
    images = np.repeat(np.arange(20) * 3 + 7, [len(some) for some in references])
    order = rng.permutation(len(flat))
    reward = Reward(padded([[START, *one] for one in flat])[order], images[order], 20)
    generated = [[*one[:-1], 18, 18, END] if i % 3 == 0 else one for i, one in enumerate(captions(30))]
    of = rng.integers(0, 20, 30)
    expected = cider(generated, [references[i] for i in of], references).d / 100
    assert reward(torch.from_numpy(padded(generated)), of * 3 + 7) == pytest.approx(expected, abs=1e-12)
    assert expected.max() > 0.5


def with_captions(model, batch, groups=(5, 3, 9)):
    """The model and batch with the batch's own captions as the training captions of images 5, 3 and 9."""
    groups = torch.tensor(groups)
    context = replace(model.context, captions=lambda: (batch.inputs["text"], groups))
    again = type(model)(model.settings, context).double()
    again.load_state_dict(model.state_dict())
    return again, replace(batch, groups=groups)


def test_self_critical_training_follows_the_gradient_of_the_expected_reward():
    """For captions of one word all outcomes can be listed: the mean of the estimate is the gradient of Σ p(w) r(w)."""
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    rewards, base_line = torch.rand(6, dtype=torch.float64), 0.3
    logs = torch.log_softmax(logits, 0)
    estimates = []
    for word in range(6):
        sample = decoding.Sample(torch.tensor([[word + 4]]), logs[word].view(1, 1))
        loss = objectives.self_critical(sample, (rewards[word] - base_line)[None])
        estimates.append(logs[word].exp().detach() * torch.autograd.grad(loss, logits, retain_graph=True)[0])
    expected = torch.autograd.grad(-(logs.exp() * rewards).sum(), logits)[0]
    assert torch.allclose(sum(estimates), expected)


def test_self_critical_training_raises_the_reward():
    """From a captioner that knows nothing, by its own samples alone: chance has 0.1 and a caption by heart 10."""
    model, batch = with_captions(*small("nic", objective="self-critical", samples=10, longest=5))
    model.inherit(model.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    torch.manual_seed(0)
    rewards = []
    for _ in range(60):
        optimiser.zero_grad()
        terms = model.loss(batch, 0.0, "model")
        terms["loss"].backward()
        optimiser.step()
        rewards.append(terms["reward"].item())
    assert np.mean(rewards[-5:]) > 3 * np.mean(rewards[:5]), rewards


def test_the_terms_of_self_critical_training():
    """Its rewards are those of its samples and of greedy captions, with end marks where these ended."""
    model, batch = with_captions(*small("updown", objective="self-critical", samples=3))
    model.inherit(model.state_dict())
    torch.manual_seed(3)
    terms = model.loss(batch, 0.0, "model")
    torch.manual_seed(3)
    sample = model.sample(batch, 3)
    greedy = decoding.with_end(model.generate(batch, 1), 7)
    reward = Reward.of(model.context)
    reached, base_line = reward(sample.ids, np.repeat([5, 3, 9], 3)), reward(greedy, np.array([5, 3, 9]))
    assert terms["reward"].item() == pytest.approx(reached.mean())
    assert terms["greedy_reward"].item() == pytest.approx(base_line.mean())
    total = sum(
        (reached[i] - base_line[i // 3]) * sample.logs[i, t].item()
        for i in range(9)
        for t in range(sample.ids.shape[1])
    )
    assert terms["loss"].item() == pytest.approx(-total / (sample.ids != PAD).sum().item())


def test_the_baselines_of_self_critical_training_by_hand():
    """Of rewards 1, 2 and 6 the means of the other two are 4, 3.5 and 1.5; those of greedy decoding are subtracted."""
    rewards = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]], dtype=torch.float64)
    assert objectives.advantage(rewards, None).tolist() == [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]
    assert objectives.advantage(rewards, torch.tensor([4.0, 1.0])).tolist() == [[-3.0, -2.0, 2.0], [4.0, 4.0, 4.0]]
    with pytest.raises(UserError, match=r"baseline: 'samples' .* set `samples` to 2 or more"):
        objectives.advantage(rewards[:, :1], None)


def test_self_critical_training_against_the_other_samples():
    """No greedy caption is generated, and the loss weights each drawn caption by its distance from the other ones."""
    model, batch = with_captions(*small("updown", objective="self-critical", samples=2, baseline="samples"))
    model.inherit(model.state_dict())
    torch.manual_seed(3)
    terms = model.loss(batch, 0.0, "model")
    torch.manual_seed(3)
    sample = model.sample(batch, 2)
    reached = Reward.of(model.context)(sample.ids, np.repeat([5, 3, 9], 2))
    total = sum((reached[i] - reached[i ^ 1]) * sample.logs[i].sum().item() for i in range(6))
    assert terms["loss"].item() == pytest.approx(-total / (sample.ids != PAD).sum().item())
    assert set(terms) == {"loss", "reward"}


@pytest.mark.parametrize("objective", ["self-critical", "contrastive"])
def test_an_objective_that_continues_nothing(objective):
    model, batch = small("nic", objective=objective)
    with pytest.raises(UserError, match=f"'{objective}' continues a captioner .* name that experiment as `after`"):
        model.loss(batch, 0.0, "model")


def test_a_context_without_captions():
    model, batch = small("nic", objective="self-critical")
    model.inherit(model.state_dict())
    with pytest.raises(UserError, match="needs a data set with captions"):
        model.loss(batch, 0.0, "model")


def test_contrastive_loss_by_its_equation():
    """h = σ(log p_m - log p_n - log ν), for two images; one of the mismatched captions is of its own image."""
    own = torch.tensor([[-3.0, -9.0, -7.0], [-4.0, -5.0, -6.0]], dtype=torch.float64)
    other = torch.tensor([[-4.0, -8.0, -7.5], [-4.5, -5.0, -3.0]], dtype=torch.float64)
    valid = torch.tensor([[False, True, True], [False, True, False]])
    h = 1 / (1 + np.exp(-(own - other - math.log(2)).numpy()))
    expected = -np.log(h[0, 0]) - np.log(h[1, 0]) - np.log(1 - h[0, 1]) - np.log(1 - h[0, 2]) - np.log(1 - h[1, 1])
    assert objectives.contrastive(own, other, valid, 2)["loss"].item() == pytest.approx(expected / 2)


def test_contrastive_loss_of_the_authors_program():
    """ν = 1: no log ν, and the mean over the two mismatched captions, of which one of its own image counts as 0."""
    own = torch.tensor([[-3.0, -9.0, -7.0], [-4.0, -5.0, -6.0]], dtype=torch.float64)
    other = torch.tensor([[-4.0, -8.0, -7.5], [-4.5, -5.0, -3.0]], dtype=torch.float64)
    valid = torch.tensor([[False, True, True], [False, True, False]])
    h = 1 / (1 + np.exp(-(own - other).numpy()))
    false = np.log(1 - h[0, 1]) + np.log(1 - h[0, 2]) + np.log(1 - h[1, 1])
    expected = -np.log(h[0, 0]) - np.log(h[1, 0]) - false / 2
    assert objectives.contrastive(own, other, valid, 1.0)["loss"].item() == pytest.approx(expected / 2)
    model, _ = small("contrastive_captions")
    assert (model.settings.odds, model.settings.mismatched) == (1.0, 5)


def test_the_captions_of_the_most_similar_other_images():
    looks = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 1.0]])
    groups = torch.tensor([7, 7, 1, 2, 3])
    rows = objectives.mismatched(looks, groups, 2, "similar")
    assert rows[0].tolist() == [2, 4]  # not row 1, which is the same image
    assert rows[3].tolist() == [4, 2]
    drawn = [objectives.mismatched(looks, groups, 3, "random") for _ in range(20)]
    assert all((groups[rows] != groups[:, None]).all() for rows in drawn)
    assert {tuple(sorted(rows[0].tolist())) for rows in drawn} == {(2, 3, 4)}


def test_contrastive_training_tells_captions_apart():
    """The true captions become likelier than by the reference, and those of the other images less likely."""
    model, batch = small("contrastive_captions", objective="contrastive", mismatched=2, odds=2.0)
    model.inherit(model.state_dict())
    assert [name for name in model.state_dict() if "reference" in name] == []
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    first = model.loss(batch, 0.0, "model")["loss"].item()
    # The model is its reference still: h = 1 / (1 + ν) for each of the three captions.
    assert first == pytest.approx(math.log(3) + 2 * math.log(3 / 2))
    for _ in range(30):
        optimiser.zero_grad()
        model.loss(batch, 0.0, "model")["loss"].backward()
        optimiser.step()
    tokens = batch.inputs["text"]
    (reference,) = model._reference
    assert reference.word.weight.grad is None
    for other in range(3):
        turned = base.Tokens(tokens.ids.roll(other, 0), tokens.lengths.roll(other))
        gained = model.log_likelihood(batch, turned) - reference.log_likelihood(batch, turned)
        assert (gained > 0).all() if other == 0 else (gained < 0).all()


def test_the_likelihood_of_several_captions_of_each_image():
    for name in ("nic", "updown", "sat", "adaptive", "scst", "twod", "cgan"):
        model, batch = small(name)
        tokens = batch.inputs["text"]
        rows = torch.tensor([0, 1, 2, 0, 2, 2])  # two for each of the three images
        both = base.Tokens(tokens.ids[rows], tokens.lengths[rows])
        together = model.log_likelihood(batch, both).view(3, 2)
        for image, caption in itertools.product(range(3), range(2)):
            row = rows[2 * image + caption]
            turned = base.Tokens(tokens.ids[row.repeat(3)], tokens.lengths[row.repeat(3)])
            assert together[image, caption].item() == pytest.approx(model.log_likelihood(batch, turned)[image].item())


def test_words_are_drawn_by_their_probabilities():
    """A step with a table for its logits: 40,000 first words, of which the marks never occur."""
    logits = torch.tensor([5.0, 5.0, 5.0, 0.0, 1.0, 2.0])

    def step(last, state):
        return logits.expand(len(last), -1), state

    generator = torch.Generator().manual_seed(0)
    sample = decoding.sample(step, {}, 40_000, 3, torch.device("cpu"), generator)
    shares = torch.bincount(sample.ids[:, 0], minlength=6) / 40_000
    expected = torch.softmax(logits[3:], 0)
    assert shares[[PAD, UNKNOWN, START]].eq(0).all()
    assert shares[3:].numpy() == pytest.approx(expected.numpy(), abs=0.01)
    ended = sample.ids[:, 0] == END
    assert sample.ids[ended, 1:].eq(PAD).all()
    assert sample.logs[ended, 1:].eq(0).all()
    assert sample.logs[:, 0].exp().numpy() == pytest.approx(expected[sample.ids[:, 0] - 3].numpy())
    again = decoding.sample(step, {}, 40_000, 3, torch.device("cpu"), generator.manual_seed(0))
    assert again.ids.equal(sample.ids)


def test_an_end_mark_behind_captions_that_ended():
    ids = torch.tensor([[5, 6, 7], [5, 0, 0], [0, 0, 0]])
    assert decoding.with_end(ids, 3).tolist() == [[5, 6, 7, 0], [5, 3, 0, 0], [3, 0, 0, 0]]


# -- conditional adversarial network ----------------------------------------------------------------------------------


def test_the_evaluators_score_is_that_of_its_last_state():
    model, batch = small("cgan")
    tokens = batch.inputs["text"]
    image = batch.inputs["image"]
    scores = model.evaluator(image, base.Tokens(tokens.ids[:, 1:], tokens.lengths - 1))
    for row in range(3):
        words = model.evaluator.words(tokens.ids[row, 1 : tokens.lengths[row]])
        _, (h, _) = model.evaluator.network(words[None])
        even = (image - image.mean(0)) / (image.var(0, correction=0) + 1e-5).sqrt()
        seen = torch.relu(model.evaluator.image(even[row]))
        assert scores[row].item() == pytest.approx((seen @ h[0, 0]).item())


def test_the_reward_of_each_word_is_the_mean_score_of_completions():
    """A whole caption has its own score; with many completions, that of a beginning is their expectation.

    Captions have at most two words, so that all completions of the first one can be listed.
    """
    model, batch = small("cgan", longest=2, rollouts=4000)
    model.eval()  # features are normalised alike in a batch of one image
    ids = torch.tensor([[5, 6], [4, END], [END, PAD]])
    torch.manual_seed(0)
    rewards = model.rewards(batch, ids)

    def score(row, caption):
        tokens = base.Tokens(torch.tensor([caption]), torch.tensor([len(caption)]))
        return torch.sigmoid(model.evaluator(batch.inputs["image"][row : row + 1], tokens)).item()

    assert rewards[0, 1].item() == pytest.approx(score(0, [5, 6]))
    assert rewards[2].tolist() == pytest.approx([score(2, [END]), 0.0])
    for row, first in ((0, 5), (1, 4)):
        state = {name: value[row : row + 1] for name, value in model.first_state(batch).items()}
        _, state = model.next_word(torch.tensor([START]), state)
        logits, _ = model.next_word(torch.tensor([first]), state)
        probabilities = decoding.log_probabilities(logits, unknown=True)[0].exp().tolist()
        expected = sum(p * score(row, [first, word]) for word, p in enumerate(probabilities) if p)
        assert rewards[row, 0].item() == pytest.approx(expected, abs=0.003)


def test_the_stages_of_adversarial_training():
    """The generator by likelihood, then the evaluator alone, then both in turn; each changes its own weights only."""
    model, batch = small("cgan", rollouts=2)
    stages = model.stages()
    assert [stage.name for stage in stages] == ["generator", "evaluator", "adversarial"]
    turns = [[*model.optimisers(stage)] for stage in stages]
    assert turns == [["likelihood"], ["evaluator"], ["generator", "evaluator"]]
    other = small("cgan", lr=0.01, evaluator_lr=0.02, adversarial_lr=0.03)[0]
    rates = [[o.param_groups[0]["lr"] for o in other.optimisers(stage).values()] for stage in other.stages()]
    assert rates == [[0.01], [0.02], [0.03, 0.02]]
    for stage in stages:
        for turn, optimiser in model.optimisers(stage).items():
            before = {name: value.detach().clone() for name, value in model.named_parameters()}
            model.zero_grad()
            model.loss(batch, 0.0, turn)["loss"].backward()
            optimiser.step()
            changed = {name for name, value in model.named_parameters() if not value.equal(before[name])}
            assert {name.startswith("evaluator.") for name in changed} == {turn == "evaluator"}


def test_the_generator_has_no_dropout_while_the_evaluator_alone_is_trained():
    """What is drawn with dropout has mistakes of its own; the authors' program has none in this stage."""
    model, batch = small("cgan", dropout=0.5)
    model.train()
    drawing = []
    model.even.register_forward_hook(lambda layer, *_: drawing.append(layer.training))
    for stage in model.stages():
        model.begin(stage)
        if stage.name != "generator":
            model.loss(batch, 0.0, "evaluator")
        assert model.training
    assert drawing == [False, True]


def test_unknown_words_are_drawn_as_people_have_them():
    """Otherwise they would tell captions of people from generated ones."""
    model, batch = small("cgan", longest=3, rollouts=2)
    with torch.no_grad():
        model.word.bias[UNKNOWN] = 1000.0
    assert model._generated(batch).ids.unique().tolist() == [UNKNOWN]
    assert UNKNOWN not in model.generate(batch, 1)
    assert model.optimisers(model.stages()[0])["likelihood"].defaults["betas"] == (0.8, 0.999)


def test_noise_changes_captions_and_none_is_its_mean():
    model, batch = small("cgan")
    torch.manual_seed(0)
    noisy = model.noisy(batch)
    assert noisy.inputs["noise"].abs().max() <= 1
    assert noisy.inputs["noise"].std() > 0.5
    assert not torch.allclose(model.first_state(noisy)["h"], model.first_state(batch)["h"])
    assert model.generate(batch, 2).equal(model.generate(batch, 2))
