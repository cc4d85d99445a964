"""Stacked cross attention against its equations, one image, one sentence and one word at a time in float64."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, scan
from crossmodal.models.parts import attention
from crossmodal.models.parts.attention import cross_attention_scores, in_blocks

COUNTS, LENGTHS = [3, 5, 4], [6, 2, 1, 4]
KINDS = ["clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "softmax", "none"]


def sets(counts, seed, dim=7):
    generator = torch.Generator().manual_seed(seed)
    found = torch.zeros(len(counts), max(counts), dim, dtype=torch.float64)
    for row, n in zip(found, counts, strict=True):
        row[:n] = F.normalize(torch.randn(n, dim, generator=generator, dtype=torch.float64), dim=1)
    return found, torch.arange(max(counts)) < torch.tensor(counts)[:, None]


@pytest.fixture
def pairs():
    return sets(COUNTS, 0), sets(LENGTHS, 1)


def literal(context, queries, smooth, kind, slope, pooling, sharpness):
    """Score of one set of contexts (m, d) with one set of queries (n, d), by the paper's eq. 1 to 8."""
    n, m = len(queries), len(context)
    s = [[float(queries[i] @ context[j]) for j in range(m)] for i in range(n)]
    if kind.startswith("clipped"):
        s = [[x if x > 0 else slope * x for x in row] for row in s]
    bar = [[0.0] * m for _ in range(n)]
    for j in range(m):
        column = [s[i][j] for i in range(n)]
        for i in range(n):
            if kind.endswith("l2norm"):
                bar[i][j] = s[i][j] / max(math.sqrt(sum(x * x for x in column)), 1e-8)
            elif kind.endswith("l1norm"):
                bar[i][j] = s[i][j] / max(sum(abs(x) for x in column), 1e-8)
            elif kind == "softmax":
                bar[i][j] = math.exp(s[i][j]) / sum(math.exp(x) for x in column)
            else:
                bar[i][j] = s[i][j]
    relevance = []
    for i in range(n):
        total = sum(math.exp(smooth * x) for x in bar[i])
        attended = sum(math.exp(smooth * bar[i][j]) / total * context[j] for j in range(m))
        relevance.append(float(queries[i] @ attended / attended.norm()))
    if pooling == "logsumexp":
        return math.log(sum(math.exp(sharpness * r) for r in relevance)) / sharpness
    if pooling == "max":
        return max(relevance)
    return sum(relevance) / (len(relevance) if pooling == "mean" else 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["logsumexp", "mean", "max", "sum"])
def test_equations(pairs, kind, pooling):
    (regions, there), (words, said) = pairs
    options = {"smooth": 4.0, "slope": 0.1, "pooling": pooling, "sharpness": 5.0}
    found = cross_attention_scores(regions, words, there, said, normalisation=kind, **options)
    for a, m in enumerate(COUNTS):
        for b, n in enumerate(LENGTHS):
            expected = literal(regions[a, :m], words[b, :n], 4.0, kind, 0.1, pooling, 5.0)
            assert float(found[a, b]) == pytest.approx(expected, abs=1e-10)


def test_no_padding_is_felt(pairs):
    (regions, there), (words, said) = pairs
    found = cross_attention_scores(regions, words, there, said, smooth=9.0)
    wide = F.pad(words, (0, 0, 0, 5)), F.pad(said, (0, 5))
    torch.testing.assert_close(cross_attention_scores(regions, wide[0], there, wide[1], smooth=9.0), found)


def test_an_image_without_a_positive_cosine_has_a_gradient(pairs):
    (_, there), (words, said) = pairs
    opposite = (-words[:1, :1].expand(3, 5, 7) * there[..., None]).clone().requires_grad_()
    scores = cross_attention_scores(opposite, words[:1, :1], there, said[:1, :1], smooth=9.0)
    torch.testing.assert_close(scores, -torch.ones(3, 1, dtype=torch.float64))
    scores.sum().backward()
    assert opposite.grad.isfinite().all()


@pytest.mark.parametrize("budget", [1, 700, 3000, 2**20])
def test_blocks_change_nothing(pairs, budget):
    (regions, there), (words, said) = pairs
    score = partial(cross_attention_scores, smooth=9.0)
    whole = score(regions, words, there, said)
    torch.testing.assert_close(in_blocks(score, regions, words, there, said, budget), whole)


def test_blocks_stay_within_their_budget(monkeypatch):
    (regions, there), (words, said) = sets([9] * 40, 0), sets([1 + n % 12 for n in range(90)], 1)
    seen = []

    def score(images, sentences, image_mask, sentence_mask):
        seen.append(images.shape[0] * images.shape[1] * sentences.shape[0] * sentences.shape[1] * 4)
        assert sentence_mask[:, -1].any()  # no word's place is empty in all of them
        return cross_attention_scores(images, sentences, image_mask, sentence_mask, smooth=9.0)

    monkeypatch.setattr(attention, "BLOCK", 8)
    in_blocks(score, regions, words, there, said, 2**15)
    assert max(seen) <= 2**15


def test_what_depends_on_sentences_alone_is_computed_once_for_all_images(pairs):
    (regions, there), (words, said) = pairs
    prepared = []

    def prepare(sentences, valid):
        prepared.append(len(sentences))
        return sentences, valid

    def score(images, given, image_mask, sentence_mask):
        assert given[1] is sentence_mask
        return cross_attention_scores(images, given[0], image_mask, sentence_mask, smooth=9.0)

    found = in_blocks(score, regions, words, there, said, 1, prepare=prepare)
    assert prepared == [1] * len(words)  # one sentence and one image at a time
    torch.testing.assert_close(found, cross_attention_scores(regions, words, there, said, smooth=9.0))


@pytest.mark.parametrize("few", [0, 1])  # blocks, or pairs alone
def test_a_checkpoint_has_the_gradients_of_all_pairs(few, monkeypatch):
    """Of a weighted sum of five scores, whose pairs share images and sentences, through a parameter too."""
    monkeypatch.setattr(attention, "FEW", few)
    monkeypatch.setattr(attention, "BUDGET", 200)
    monkeypatch.setattr(attention, "LEARNED", 200)
    (regions, there), (words, said) = sets(COUNTS, 0), sets(LENGTHS, 1)
    weights = torch.zeros(len(COUNTS), len(LENGTHS), dtype=torch.float64)
    weights[[0, 0, 1, 2, 2], [1, 3, 1, 0, 2]] = torch.tensor([0.5, -2.0, 1.0, 3.0, -0.25], dtype=torch.float64)
    factor = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    inputs = regions.requires_grad_(), words.requires_grad_()
    seen = []

    def score(images, sentences, image_mask, sentence_mask):
        seen.append(len(images) * len(sentences))
        return factor * cross_attention_scores(images, sentences, image_mask, sentence_mask, smooth=9.0)

    whole = score(*inputs, there, said)
    expected = torch.autograd.grad((whole * weights).sum(), (*inputs, factor))
    scores = attention.checkpointed_scores(score, *inputs, there, said, [factor])
    torch.testing.assert_close(scores, whole)
    seen.clear()
    found = torch.autograd.grad((scores * weights).sum(), (*inputs, factor))
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)
    assert seen == [1] if few else sum(seen) == weights.numel()  # one call maps over the pairs


def test_a_checkpoint_of_scores_without_a_gradient():
    """As where every pair exceeds its negatives by the margin."""
    (regions, there), (words, said) = sets(COUNTS, 0), sets(LENGTHS, 1)
    inputs = regions.requires_grad_(), words.requires_grad_()
    scores = attention.checkpointed_scores(partial(cross_attention_scores, smooth=9.0), *inputs, there, said)
    for gradient in torch.autograd.grad((scores - 5).clamp(min=0).sum(), inputs):
        assert not gradient.any()


def small(**over):
    torch.manual_seed(0)
    return scan.Model(scan.Settings(dim=6, word_dim=4, **over), base.Context({"image": (4, 5)}, 12))


def six_pairs():
    torch.manual_seed(1)
    image = base.Regions(torch.rand(6, 4, 5), torch.tensor([4, 2, 3, 1, 4, 4]))
    text = base.Tokens(torch.randint(1, 12, (6, 5)), torch.tensor([5, 2, 3, 4, 1, 5]))
    return base.Batch({"image": image, "text": text}, torch.arange(6))


def test_an_ensemble_is_two_networks_trained_alone_and_the_mean_of_their_scores():
    both = small(ensemble=True, pooling="mean")
    alone = [small(pooling="mean"), small(attention="image-to-text", smooth=4.0, sharpness=5.0)]
    for one in alone:
        one.load_state_dict({name: both.state_dict()[name] for name in one.state_dict()})
    batch = six_pairs()
    for model in (both, *alone):
        optimisers = model.optimisers(base.Stage("train", 1, 0.01, 1))
        for _ in range(5):
            for turn, optimiser in optimisers.items():
                optimiser.zero_grad()
                model.loss(batch, 0.5, turn)["loss"].backward()
                torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 0.1)
                optimiser.step()
        model.eval()
    with torch.no_grad():
        scores = [one.score(one.encode("image", batch, "text"), one.encode("text", batch, "image")) for one in alone]
        found = both.score(both.encode("image", batch, "text"), both.encode("text", batch, "image"))
    assert not torch.allclose(scores[0], scores[1], atol=1e-3)
    torch.testing.assert_close(found, (scores[0] + scores[1]) / 2)
