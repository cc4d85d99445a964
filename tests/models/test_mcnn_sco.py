"""m-CNN and SCO against their equations in float64, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, mcnn, sco

F64 = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def tokens_of(lengths=(9, 3, 12, 5), words=20, seed=3):
    lengths = torch.tensor(lengths)
    ids = torch.randint(4, words, (len(lengths), int(lengths.max())), generator=torch.Generator().manual_seed(seed))
    return base.Tokens(ids * (torch.arange(ids.shape[1]) < lengths[:, None]), lengths)


# -- m-CNN ------------------------------------------------------------------------------------------------------------


def model_of(**settings):
    torch.manual_seed(0)
    small = {"word_dim": 3, "dim": 4, "maps": (5, 6, 7), "joint": 8, "length": 10}
    return mcnn.Model(mcnn.Settings(**small, **settings), base.Context({"image": (5,)}, 20)).double().eval()


def by_windows(network, ids, image, level):
    """The score of one sentence and one image: windows that hold words, maxima of two, and the image at its level."""
    x = [network.words.weight[i] for i in ids.tolist()]
    there = [bool(i) for i in ids.tolist()]
    joined = network.join.weight @ torch.relu(network.image(image))
    for number, layer in enumerate(network.convolutions):
        outputs, covered = [], []
        for place in range(len(x)):
            total = layer.bias.clone()
            for offset in (-1, 0, 1):
                if 0 <= place + offset < len(x):
                    total = total + layer.weight[:, :, offset + 1] @ x[place + offset]
            if level == number:
                total = total + joined
            covered.append(any(there[max(0, place - 1) : place + 2]))
            outputs.append(torch.relu(total) * covered[-1])
        x = [torch.maximum(a, b) for a, b in zip(outputs[::2], outputs[1::2], strict=False)]
        there = [a or b for a, b in zip(covered[::2], covered[1::2], strict=False)]
    first, _, last = network.out
    hidden = first(torch.stack(x, 1).flatten())
    return last(torch.relu(hidden + joined if level == 3 else hidden))


def test_each_level_reads_the_image_where_it_should(monkeypatch):
    monkeypatch.setattr(mcnn, "CELLS", 300)  # several blocks
    model, tokens = model_of(), tokens_of()
    images = drawn(3, 5)
    batch = base.Batch({"image": images, "text": tokens})
    ids = model.encode("text", batch, "image")
    assert ids.shape == (4, 10)
    total = 0.0
    for level, (name, network) in enumerate(model.networks.items()):
        assert name == mcnn.LEVELS[level]
        expected = torch.stack([torch.cat([by_windows(network, t, i, level) for t in ids]) for i in images])
        torch.testing.assert_close(network.scores(images, ids), expected)
        torch.testing.assert_close(network.pairs(images, ids[[2, 0, 1]]), expected[[0, 1, 2], [2, 0, 1]])
        total = total + expected
    torch.testing.assert_close(model.score(images, ids.float()), total)


def test_sentences_do_not_feel_their_batch_and_are_cut():
    model = model_of()
    alone = base.Batch({"text": tokens_of((3,))})
    long = base.Tokens(
        torch.cat([alone.inputs["text"].ids, torch.zeros(1, 30, dtype=torch.int64)], 1), torch.tensor([3])
    )
    assert torch.equal(model.encode("text", alone, ""), model.encode("text", base.Batch({"text": long}), ""))


def test_one_random_sentence_and_one_random_image_are_negatives(monkeypatch):
    model, groups = model_of(), torch.tensor([0, 1, 1])
    batch = base.Batch({"image": drawn(3, 5), "text": tokens_of((9, 3, 12))}, groups)
    choices = iter(
        [(torch.tensor([1, 0, 0]), torch.tensor([True] * 3)), (torch.tensor([2, 0, 0]), torch.tensor([True] * 3))]
    )
    monkeypatch.setattr(mcnn, "hardest", lambda scores, possible: next(choices))
    s = model.networks["short"].scores(batch.inputs["image"], model.encode("text", batch, "")).detach()
    expected = 0.0
    for i, (text, image) in enumerate(((1, 2), (0, 0), (0, 0))):
        expected += max(0, 0.5 - s[i, i] + s[i, text]) + max(0, 0.5 - s[i, i] + s[image, i])
    assert float(model.loss(batch, 0.0, "short")["loss"].detach()) == pytest.approx(float(expected) / 3)
    monkeypatch.undo()
    lonely = base.Batch(batch.inputs, torch.tensor([5, 5, 5]))
    assert float(model.loss(lonely, 0.0, "word")["loss"].detach()) == 0
    with pytest.raises(ValueError, match="name each level once"):
        mcnn.Settings(levels=("word", "word"))


# -- SCO --------------------------------------------------------------------------------------------------------------


def built(**settings):
    torch.manual_seed(0)
    small = {"dim": 6, "word_dim": 4, "concepts": 7, "stop_words": 3}
    return sco.Model(sco.Settings(**small, **settings), base.Context({"image": (5, 4)}, 20)).double()


def batch_of():
    counts = torch.tensor([5, 2, 3, 4])
    features = drawn(4, 5, 4) * (torch.arange(5) < counts[:, None])[..., None]
    return base.Batch({"image": base.Regions(features, counts), "text": tokens_of()}, torch.tensor([0, 0, 1, 2]))


def test_concepts_are_frequent_words_that_some_region_shows():
    model, batch = built(), batch_of()
    tokens = batch.inputs["text"]
    # ids 0 to 3 are marks, 4 to 6 the commonest words: concepts are 7 to 13
    expected = [[float(word in row) for word in range(7, 14)] for row in tokens.ids.tolist()]
    assert model.concepts_of(tokens).tolist() == expected
    assert sum(map(sum, expected)) > 0
    logits = model.concept_logits(batch.inputs["image"])
    model.begin(model.stages()[0])
    loss = 0.0
    for i, count in enumerate(batch.inputs["image"].counts.tolist()):
        best = torch.stack([model.concepts(x) for x in batch.inputs["image"].features[i, :count]]).amax(0)
        torch.testing.assert_close(logits[i], best)
        for k in range(7):
            p = 1 / (1 + math.exp(-float(best[k].detach())))
            loss -= math.log(p if expected[i][k] else 1 - p) / 28
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(loss)
    model.begin(model.stages()[1])
    assert not model.concepts.weight.requires_grad


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_fusion_the_matching_and_the_generation(reduction):
    model, batch = built(generation=0.3, reduction=reduction), batch_of()
    image, tokens = batch.inputs["image"], batch.inputs["text"]
    vectors, told, likely = [], [], 0.0
    for i in range(4):
        cells = image.features[i, : image.counts[i]]
        x, p = cells.mean(0), torch.sigmoid(model.concepts(cells).amax(0))
        t = torch.sigmoid(model.gates[0](p) + model.gates[1].weight @ x)
        one, other = model.of_concepts(p), model.of_all(x)
        vectors.append(t * one / one.norm() + (1 - t) * other / other.norm())
        ids = tokens.ids[i, : tokens.lengths[i]]
        last = model.lstm(model.words(ids)[None])[1][0][0, 0]
        told.append(last / last.norm())
        states, _ = model.decoder.network(model.words(ids[:-1])[None], vectors[-1][None, None])
        p = model.decoder.fc(states[0]).log_softmax(1)
        likely -= sum(float(p[n, word].detach()) for n, word in enumerate(ids[1:].tolist()))
    s = (F.normalize(torch.stack(vectors), dim=1) @ torch.stack(told).T).detach()
    torch.testing.assert_close(s, (model.encode("image", batch, "") @ model.encode("text", batch, "").T).detach())
    hinges = 0.0
    for i in range(4):
        for j in range(4):
            if batch.groups[i] != batch.groups[j]:
                hinges += max(0, 0.2 - float(s[i, i] - s[i, j])) + max(0, 0.2 - float(s[i, i] - s[j, i]))
    pairs = 4 if reduction == "mean" else 1
    expected = (hinges + 0.3 * likely) / pairs
    assert float(model.loss(batch, 0.5, "model")["loss"].detach()) == pytest.approx(expected)
    assert model.stage == "train"
