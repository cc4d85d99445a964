"""The dual-path network against its equations, one item at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, dpc

F64 = torch.float64
SMALL = {
    "dim": 6,
    "word_dim": 4,
    "widths": (8, 12, 12),
    "inner": (5, 3, 4),
    "blocks": (2, 1, 1),
    "length": 8,
    "max_words": 6,
    "dropout": 0,
    "candidates": 4,
}


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


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_the_paths(batch, pooling):
    """Convolutions over one and two words, halved places before the second of three stages, and what is pooled."""
    model = built(pooling=pooling)
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
            pooled = torch.stack(x).amax(0) if pooling == "max" else sum(x) / len(x)
            expected = dense(model.text.dense, pooled)
            torch.testing.assert_close(texts[n], expected / expected.norm())
            image = dense(model.image[1], dense(model.image[0], batch.inputs["image"][n]))
            torch.testing.assert_close(images[n], image / image.norm())


def test_the_instance_loss_and_its_shared_classifier(batch):
    """Softmax over the training groups of W f, for images and captions with the same W."""
    model = built(shift=False, negatives="drawn").eval()
    classes = [1, 0, 2, 2]  # places of groups 5, 2, 9 and 9 among 2, 5 and 9
    W, b = model.classifier.weight, torch.nn.init.uniform_(model.classifier.bias)
    with torch.no_grad():
        parts = []
        for f in (model.image(batch.inputs["image"]), model.text(batch.inputs["text"])):
            losses = [
                -math.log(float(torch.exp(W @ f[n] + b)[c] / torch.exp(W @ f[n] + b).sum()))
                for n, c in enumerate(classes)
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
        assert float(found["loss"]) == pytest.approx(parts[0] + 0.1 * parts[1] + 2 * float(found["ranking"]))


def test_the_second_stage_ranks_half_of_a_batch_against_mined_captions_and_random_images(batch):
    """The program's second stage by hand: 2 pairs, the images of the other 2, a caption mined for each of the 2."""
    model = built(shift=False).eval()
    model.begin(model.stages()[1])
    ids = torch.tensor([[4, 5, 0, 0, 0, 0, 0, 0], [6, 7, 8, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0, 0, 0], [11] + [0] * 7])
    model.kept_ids.copy_(ids)
    model.kept_lengths.copy_(torch.tensor([2, 3, 1, 1]))
    model.kept_groups.copy_(torch.tensor([2, 9, 5, -1]))  # the last place is still empty
    with torch.no_grad():
        images, texts = model.encode("image", batch, "text"), model.encode("text", batch, "image")
        kept = base.Batch({"text": base.Tokens(model.kept_ids, model.kept_lengths)})
        candidates = model.encode("text", kept, "image")
        groups, kept_groups, ranking, chosen = [5, 2, 9, 9], [2, 9, 5], 0.0, []
        for i in range(2):
            apart = [j for j in range(3) if kept_groups[j] != groups[i]]
            best = max(apart, key=lambda j: float(images[i] @ candidates[j]))
            chosen.append(best)
            own = float(images[i] @ texts[i])
            ranking += max(0, 1 - own + float(images[i] @ candidates[best]))
            ranking += max(0, 1 - own + float(images[i + 2] @ texts[i]))
        found = model.loss(batch, 0.0, "model")
        assert float(found["ranking"]) == pytest.approx(ranking / 4)  # divided by the batch, as its derivatives are
        # Every image has its instance loss; of captions the half that was shown, and what was mined.
        mined = base.Tokens(model.kept_ids[chosen], model.kept_lengths[chosen])
        paths = [model.text(base.Tokens(batch.inputs["text"].ids[:2], batch.inputs["text"].lengths[:2]))]
        logits = model.classifier(torch.cat([*paths, model.text(mined)]))
        classes = torch.tensor([1, 0, *({2: 0, 9: 2, 5: 1}[kept_groups[j]] for j in chosen)])
        assert float(found["text_instance"]) == pytest.approx(float(F.cross_entropy(logits, classes)))
        logits = model.classifier(model.image(batch.inputs["image"]))
        expected = F.cross_entropy(logits, torch.tensor([1, 0, 2, 2]))
        assert float(found["image_instance"]) == pytest.approx(float(expected))


def test_a_caption_is_a_candidate_where_it_is_kept_and_of_another_image(batch, monkeypatch):
    """Images are numbered from 0 on; a place that is still empty has -1."""
    model, asked = built(shift=False).eval(), []
    model.kept_groups.copy_(torch.tensor([0, 5, 2, -1]))
    model.kept_lengths.fill_(1)

    def asked_for(scores, possible):
        asked.append(possible.tolist())
        return torch.zeros(len(possible), dtype=torch.long), torch.ones(len(possible), dtype=torch.bool)

    monkeypatch.setattr(dpc, "hardest", asked_for)
    model.mined(batch)
    assert asked == [[[True, False, True, False], [True, True, False, False]]]  # of the images 5 and 2


def test_captions_of_the_last_batches_are_kept_while_training(batch):
    model = built(candidates=6)
    assert not model.mined(batch).available.any()  # nothing has been seen
    model.eval().loss(batch, 0.0, "model")
    assert model.kept_groups.tolist() == [-1] * 6
    model.train()
    for _ in range(2):
        model.loss(batch, 0.0, "model")
    assert model.kept_groups.tolist() == [9, 9, 5, 2, 9, 9]
    assert model.kept_lengths.tolist() == [4, 3, 5, 2, 4, 3]
    assert torch.equal(model.kept_ids[2:, :5], batch.inputs["text"].ids)
    assert model.mined(batch).available.all()
    assert model.training
    again = built(candidates=6)
    again.load_state_dict(model.state_dict())  # a run that goes on mines from the same captions
    assert torch.equal(again.kept_ids, model.kept_ids)


def test_the_sizes_of_the_program():
    """Text path, image branch and classifier as resnet52_new_hope_word2_pool.m of the authors' program lists them."""
    context = base.Context({"image": (2048,)}, 20074, groups=torch.arange(29783))
    with torch.device("meta"):
        model = dpc.Model(dpc.Settings(), context)
    convolutions = [(1, 300, 128), (2, 128, 128), (1, 128, 256), (1, 300, 256)]
    convolutions += 2 * [(1, 256, 64), (2, 64, 64), (1, 64, 256)]
    convolutions += [(1, 256, 512), (2, 512, 512), (1, 512, 512), (1, 256, 512)]
    convolutions += 3 * [(1, 512, 128), (2, 128, 128), (1, 128, 512)]
    convolutions += [(1, 512, 1024), (2, 1024, 1024), (1, 1024, 1024), (1, 512, 1024)]
    convolutions += 5 * [(1, 1024, 256), (2, 256, 256), (1, 256, 1024)]
    convolutions += [(1, 1024, 2048), (2, 2048, 2048), (1, 2048, 2048), (1, 1024, 2048)]
    blocks = sum(words * inputs * outputs + 2 * outputs for words, inputs, outputs in convolutions)
    found = sum(p.numel() for p in model.text.blocks.parameters())
    assert found == blocks == 26_102_784
    dense = 2048 * 2048 + 2 * 2048
    assert sum(p.numel() for p in model.text.parameters()) == blocks + 20074 * 300 + 2 * 300 + dense
    assert sum(p.numel() for p in model.image.parameters()) == 2 * dense
    assert sum(p.numel() for p in model.classifier.parameters()) == 29783 * 2049
    kernels = sorted(tuple(m.weight.shape[::-1]) for m in model.text.blocks.modules() if hasattr(m, "kernel_size"))
    assert kernels == sorted(convolutions)


def test_rates_momentum_and_first_weights_of_the_program():
    """Its base rate .1 times each part's factor, and the other layers' weights of variance 1 / inputs."""
    torch.manual_seed(0)
    context = base.Context({"image": (90,)}, 50, groups=torch.arange(70))
    model = dpc.Model(dpc.Settings(dim=80, widths=(60, 64), inner=(32, 48), blocks=(2, 1)), context)
    first, second = model.stages()
    optimiser = model.optimisers(first)["model"]
    rates = {}
    for group in optimiser.param_groups:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-4)
        rates |= {id(p): group["lr"] for p in group["params"]}
    assert len(rates) == len([*model.parameters()])
    base_rate = 0.1
    of = {name: rates[id(p)] / base_rate for name, p in model.named_parameters()}
    assert of["text.words.weight"] == pytest.approx(1e-3)
    assert (of["classifier.weight"], of["classifier.bias"]) == (pytest.approx(0.01), pytest.approx(0.02))
    assert (of["image.0.1.weight"], of["image.0.1.bias"]) == (pytest.approx(0.2), pytest.approx(0.1))
    assert of["text.blocks.1.over_two.0.weight"] == of["image.1.0.weight"] == pytest.approx(0.1)
    assert (second.lr, second.lr_drop, second.epochs, first.epochs, first.lr_drop) == (0.01, 40, 60, 240, 240)
    for weight, inputs in ((model.image[0][0].weight, 90), (model.text.blocks[0].over_two[0].weight, 2 * 32)):
        assert float(weight.detach().var()) == pytest.approx(1 / inputs, rel=0.05)
    assert float(model.classifier.weight.detach().var()) == pytest.approx(0.01 / 80, rel=0.05)
    norm = model.text.blocks[0].reduce[1]
    assert (norm.eps, norm.momentum, model.dropout.p) == (1e-3, 0.05, 0.75)


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
    with pytest.raises(ValueError, match="length: 8 positions are too few for 30 words"):
        dpc.Settings(length=8)
    with pytest.raises(ValueError, match="blocks: gives 1 stages"):
        dpc.Settings(blocks=(2,))
    with pytest.raises(ValueError, match="inner: gives 2 stages"):
        dpc.Settings(inner=(2, 3))
    with pytest.raises(ValueError, match="epochs: is 0, and so is `ranking_epochs`"):
        dpc.Settings(epochs=0, ranking_epochs=0)
    assert [stage.name for stage in built(epochs=0).stages()] == ["ranking"]
