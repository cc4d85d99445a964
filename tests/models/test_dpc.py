"""The dual-path network against its equations, one item at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, dpc

F64 = torch.float64
SMALL = {"dim": 6, "word_dim": 4, "widths": (8, 12, 12), "blocks": (2, 1, 1), "length": 8, "max_words": 6, "dropout": 0}


def built(**over):
    torch.manual_seed(0)
    context = base.Context({"image": (7,)}, 12, groups=torch.tensor([2, 5, 9]))
    return dpc.Model(dpc.Settings(**SMALL | over), context).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([5, 2, 4, 3])
    ids = torch.randint(4, 12, (4, 5), generator=generator) * (torch.arange(5) < lengths[:, None])
    images = torch.randn(4, 7, generator=generator, dtype=F64)
    return base.Batch({"image": images, "text": base.Tokens(ids, lengths)}, torch.tensor([5, 2, 9, 9]))


def normed(layer, x):
    """Batch norm as it is used: with running statistics."""
    return (x - layer.running_mean) / torch.sqrt(layer.running_var + layer.eps) * layer.weight + layer.bias


def block(one, words, stride):
    """A bottleneck on a list of (C,) vectors."""
    reduced = [F.relu(normed(one.reduce[1], one.reduce[0].weight[:, :, 0] @ x)) for x in words]
    padded = [torch.zeros_like(reduced[0]), *reduced]
    kernel = one.over_two[0].weight  # (out, in, 2)
    over = [
        F.relu(normed(one.over_two[1], kernel[:, :, 0] @ padded[i] + kernel[:, :, 1] @ padded[i + 1]))
        for i in range(0, len(words), stride)
    ]
    wide = [normed(one.widen[1], one.widen[0].weight[:, :, 0] @ x) for x in over]
    kept = words[::stride]
    if len(list(one.shortcut.children())):
        kept = [normed(one.shortcut[1], one.shortcut[0].weight[:, :, 0] @ x) for x in kept]
    return [F.relu(a + b) for a, b in zip(wide, kept, strict=True)]


def dense(layers, x):
    return F.relu(normed(layers[1], layers[0].weight @ x))


def test_the_paths(batch):
    """Convolutions over one and two words, halved places before the second of three stages, and their mean."""
    model = built()
    model.train()
    for _ in range(3):
        model.loss(batch, 0.0, "model")  # running statistics that are not 0 and 1
    model.eval()
    tokens = batch.inputs["text"]
    with torch.no_grad():
        texts, images = model.encode("text", batch, "image"), model.encode("image", batch, "text")
        for n in range(4):
            words = [model.text.words.weight[i] for i in tokens.ids[n, : tokens.lengths[n]]]
            words += [torch.zeros(4, dtype=F64)] * (8 - len(words))
            x = [normed(model.text.norm, w) for w in words]
            for one, stride in zip(model.text.blocks, (1, 1, 2, 1), strict=True):
                x = block(one, x, stride)
            expected = dense(model.text.dense, sum(x) / len(x))
            torch.testing.assert_close(texts[n], expected / expected.norm())
            image = dense(model.image[1], dense(model.image[0], batch.inputs["image"][n]))
            torch.testing.assert_close(images[n], image / image.norm())


def test_the_instance_loss_and_its_shared_classifier(batch):
    """Softmax over the training groups of W f, for images and captions with the same W."""
    model = built(shift=False).eval()
    classes = [1, 0, 2, 2]  # places of groups 5, 2, 9 and 9 among 2, 5 and 9
    W = model.classifier.weight
    with torch.no_grad():
        parts = []
        for f in (model.image(batch.inputs["image"]), model.text(batch.inputs["text"])):
            losses = [
                -math.log(float(torch.exp(W @ f[n])[c] / torch.exp(W @ f[n]).sum())) for n, c in enumerate(classes)
            ]
            parts.append(sum(losses) / 4)
        found = model.loss(batch, 0.0, "model")
        assert float(found["image_instance"]) == pytest.approx(parts[0])
        assert float(found["text_instance"]) == pytest.approx(parts[1])
        assert float(found["loss"]) == pytest.approx(sum(parts))
        first, second = model.stages()
        assert (first.name, second.name) == ("instance", "ranking")
        model.begin(second)
        torch.manual_seed(0)
        found = model.loss(batch, 0.0, "model")
        assert float(found["loss"]) == pytest.approx(sum(parts) + float(found["ranking"]))


def test_random_hinges_take_one_negative_of_each_side():
    scores = torch.tensor([[0.5, 0.1, 0.9], [0.3, 0.2, 0.4], [0.6, 0.0, 0.7]], dtype=F64)
    groups = torch.tensor([0, 1, 0])  # the only negative of the first and the last pair is the second
    torch.manual_seed(0)
    seen = {round(float(dpc.random_hinges(scores, 1.0, groups)), 9) for _ in range(60)}
    text = {0: 1 - 0.5 + 0.1, 2: 1 - 0.7 + 0.0}
    image = {0: 1 - 0.5 + 0.3, 2: 1 - 0.7 + 0.4}
    fixed = sum(text.values()) + sum(image.values())
    expected = {round((fixed + (0.8 + t) + (0.8 + i)) / 3, 9) for t in (0.3, 0.4) for i in (0.1, 0.0)}
    assert seen == expected
    assert float(dpc.random_hinges(scores, 1.0, torch.tensor([0, 0, 0]))) == 0


def test_captions_are_shifted_while_training_only(batch):
    text = built().text
    tokens = batch.inputs["text"]
    torch.manual_seed(0)
    seen = [set() for _ in range(4)]
    for _ in range(100):
        for n, row in enumerate(text.train().placed(tokens)):
            first = int((row != 0).nonzero()[0])
            assert row[first : first + int(tokens.lengths[n])].tolist() == tokens.ids[n, : tokens.lengths[n]].tolist()
            assert int((row != 0).sum()) == int(tokens.lengths[n])
            seen[n].add(first)
    assert seen == [set(range(8 - n + 1)) for n in tokens.lengths.tolist()]
    assert torch.equal(text.eval().placed(tokens)[:, :5], tokens.ids)


def test_the_embedding_begins_with_given_vectors():
    given = torch.randn(12, 4)
    context = base.Context({"image": (7,)}, 12, word_vectors=given, groups=torch.arange(3))
    found = dpc.Model(dpc.Settings(**SMALL), context).text.words.weight.data
    assert torch.equal(found[1:], given[1:])
    assert not found[0].any()


def test_settings_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="length: 8 places do not hold 30 words"):
        dpc.Settings(length=8)
    with pytest.raises(ValueError, match="blocks: gives 1 stages"):
        dpc.Settings(blocks=(2,))
