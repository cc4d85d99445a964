"""Dual attention against its equations, one item, step and vector at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch

from crossmodal.models import base, dan

F64 = torch.float64


@pytest.fixture
def model():
    torch.manual_seed(0)
    settings = dan.Settings(dim=6, word_dim=4, margin=1.0)
    return dan.Model(settings, base.Context({"image": (3, 7)}, 12)).double().eval()


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
    images = [torch.tanh(model.project[0].weight @ (sum(v) / len(v)))]
    texts = [sum(u) / len(u)]
    m_v, m_u = images[0], texts[0]
    for k in range(2):
        images.append(torch.tanh(model.project[k + 1].weight @ attended(model.image_attention[k], v, m_v)))
        texts.append(attended(model.text_attention[k], u, m_u))
        m_v, m_u = m_v + images[-1], m_u + texts[-1]
    return images, texts


def test_steps_and_scores(model, batch):
    """Eq. 3 to 9 with a memory a modality, and the sum over steps of the inner products."""
    with torch.no_grad():
        found = model.score(model.encode("image", batch, "text"), model.encode("text", batch, "image"))
        parts = [literal(model, batch, n) for n in range(4)]
        for i, (images, _) in enumerate(parts):
            for j, (_, texts) in enumerate(parts):
                expected = sum(float(v @ u) for v, u in zip(images, texts, strict=True))
                assert float(found[i, j]) == pytest.approx(expected, rel=1e-10)


def test_the_loss(model, batch):
    """Hinges against all items of other groups, both ways."""
    parts = [literal(model, batch, n) for n in range(4)]
    s = [[sum(float((v @ u).detach()) for v, u in zip(a[0], b[1], strict=True)) for b in parts] for a in parts]
    groups = batch.groups.tolist()
    total = 0.0
    for i in range(4):
        for j in range(4):
            if groups[i] != groups[j]:
                total += max(0, 1 - s[i][i] + s[i][j]) + max(0, 1 - s[i][i] + s[j][i])
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(total / 4)


def test_the_published_optimiser_and_dropout(model, batch):
    optimiser = model.optimisers(model.stages()[0])["model"]
    assert isinstance(optimiser, torch.optim.SGD)
    group = optimiser.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 5e-4)
    torch.manual_seed(0)
    with torch.no_grad():
        first, second = (model.train().encode("image", batch, "text") for _ in range(2))
    assert not torch.equal(first, second)
