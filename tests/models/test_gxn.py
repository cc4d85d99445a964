"""GXN: its losses transcribed literally in float64, and what each step of its training teaches."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from crossmodal.core.errors import UserError
from crossmodal.models import base, gxn
from crossmodal.models.parts import decoding

SIZE = 12  # words of the vocabulary


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens_of():
    ids = torch.tensor([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0], [2, 5, 8, 9, 3], [2, 10, 11, 3, 0]])
    return base.Tokens(ids, (ids != 0).sum(1))


def batch_of(groups=(0, 0, 1, 2)):
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    inputs = {"image": drawn(4, 5), "text": tokens_of()}
    return base.Batch(inputs, torch.tensor(groups), second_form={"image": pixels})


def built(captions=None, **settings):
    torch.manual_seed(0)
    small = {"dim": 6, "word_dim": 4, "image_size": 8, "channels": 2, "noise": 3, "condition_dim": 4}
    context = base.Context({"image": (5,)}, SIZE, captions=captions)
    return gxn.Model(gxn.Settings(**small, **settings), context).double()


def unit(x):
    return [abs(v) / math.sqrt(sum(u * u for u in x)) for v in x]


def of_level(model, level, batch):
    """Literal order violations of a level: [i][t]."""
    images = [unit(x) for x in getattr(model, level)["image"].fc(batch.inputs["image"]).tolist()]
    ids, lengths = batch.inputs["text"]
    states = [model.text.gru(model.text.words(row[:n])[None])[1][0, 0] for row, n in zip(ids, lengths, strict=True)]
    texts = [unit(getattr(model, level)["text"].fc(state).tolist()) for state in states]
    return [[sum(max(0, t - i) ** 2 for i, t in zip(one, other, strict=True)) for other in texts] for one in images]


@pytest.mark.parametrize(("hardest", "reduction"), [(True, "sum"), (False, "mean")])
def test_both_levels_are_matched_by_their_order(hardest, reduction):
    settings = {"low": 0.3, "caption": 0, "image": 0, "reduction": reduction, "warm_up": 0.0 if hardest else 1.0}
    model, batch = built(**settings), batch_of()
    high, low = of_level(model, "high", batch), of_level(model, "low", batch)
    scores = model.score(model.encode("image", batch, "text"), model.encode("text", batch, "image"))
    expected = [[-high[i][t] - 0.3 * low[i][t] for t in range(4)] for i in range(4)]
    torch.testing.assert_close(scores.detach(), torch.tensor(expected, dtype=torch.float64))
    total = {}
    for name, s in (("high", high), ("low", low)):
        rows, columns = [[0.0] for _ in range(4)], [[0.0] for _ in range(4)]
        for i in range(4):
            for t in range(4):
                if batch.groups[i] != batch.groups[t]:
                    rows[i].append(max(0.0, 0.05 + s[i][i] - s[i][t]))
                    columns[t].append(max(0.0, 0.05 + s[t][t] - s[i][t]))
        total[name] = sum(max(part) if hardest else sum(part) for part in rows + columns)
    whole = (total["high"] + 0.3 * total["low"]) / (4 if reduction == "mean" else 1)
    terms = model.loss(batch, 0.5, "model")
    assert whole > 0
    assert float(terms["loss"].detach()) == pytest.approx(whole)
    assert set(terms) == {"loss", "high", "low"}


def test_the_first_step_teaches_captions_from_low_level_features_of_images():
    model, batch = built(), batch_of()
    assert [stage.name for stage in model.stages()] == ["captions", "images", "train"]
    model.begin(model.stages()[0])
    vectors, ids = model.low["image"].fc(batch.inputs["image"]), batch.inputs["text"].ids
    likely = []
    for row, vector, length in zip(ids, vectors, batch.inputs["text"].lengths.tolist(), strict=True):
        states, _ = model.decoder.network(model.text.words(row[: length - 1])[None], vector[None, None])
        p = model.decoder.fc(states[0]).log_softmax(1)
        likely += [float(p[n, word].detach()) for n, word in enumerate(row[1:length].tolist())]
    loss = model.loss(batch, 0.0, "model")["loss"]
    assert float(loss.detach()) == pytest.approx(-sum(likely) / len(likely))
    assert "critic" not in model.optimisers(model.stages()[0])
    loss.backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"text", "low", "decoder"}  # of the text's encoder the word vectors alone
    assert model.text.gru.weight_ih_l0.grad is None


def test_the_second_step_is_a_conditional_adversarial_network():
    """Reed et al.: real images must be told from generated ones and from those with another image's sentence."""
    model, batch = built(), batch_of()
    model.begin(model.stages()[1])
    assert list(model.optimisers(model.stages()[1])) == ["model", "critic"]
    torch.manual_seed(3)
    generating = float(model.loss(batch, 0.0, "model")["loss"].detach())
    _, made, _ = model._generated
    sentences = model.low["text"](model.text(batch.inputs["text"])).detach()
    torch.manual_seed(3)
    noise = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(model.generator(torch.cat([sentences, noise], 1)).detach(), made)
    assert made.shape == (4, 3, 8, 8)

    def d(x, t):
        return torch.sigmoid(model.critic(x, t)).detach()

    assert generating == pytest.approx(float(-d(made, sentences).log().mean()))
    real = batch.second_form["image"].double() / 127.5 - 1
    other = sentences[[2, 2, 3, 0]]  # of the next row of another image
    expected = -d(real, sentences).log() - (1 - d(made, sentences)).log() / 2 - (1 - d(real, other)).log() / 2
    terms = model.loss(batch, 0.0, "critic")
    assert float(terms["loss"].detach()) == pytest.approx(float(expected.mean()))
    terms["loss"].backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"critic"}


def test_without_another_image_no_pair_is_mismatched():
    model, batch = built(), batch_of((5, 5, 5, 5))
    assert float(model.loss(batch, 0.0, "critic")["mismatched"].detach()) == 0


def test_the_last_step_rewards_captions_that_exceed_the_likeliest_words():
    """-(r(w) - r(ŵ)) log p(w), the mean over the words, with CIDEr-D of the training captions."""
    batch = batch_of()
    model = built(lambda: (tokens_of(), batch.groups), image=0)
    with torch.no_grad():
        images = model.low["image"].fc(batch.inputs["image"])
        greedy = decoding.with_end(model.decoder.generate(model.text.words, images, 1, gxn.LONGEST), gxn.LONGEST)
    torch.manual_seed(7)
    terms = model.loss(batch, 0.0, "model")
    torch.manual_seed(7)
    drawn_captions = model.decoder.sample(model.text.words, images, gxn.LONGEST)
    groups = batch.groups.numpy()
    reached, baseline = (model._reward(ids, groups) for ids in (drawn_captions.ids, greedy))
    expected, words = 0.0, 0
    for i in range(4):
        state = images[i][None, None]
        last = torch.tensor([[2]])
        for word in drawn_captions.ids[i][drawn_captions.ids[i] != 0].tolist():
            out, state = model.decoder.network(model.text.words(last), state)
            logits = model.decoder.fc(out[0, 0]).detach()
            logits[:3] = -torch.inf  # padding, the unknown word and the start are never said
            expected -= (reached[i] - baseline[i]) * float(F.log_softmax(logits, 0)[word])
            words += 1
            last = torch.tensor([[word]])
    assert any(reached != baseline)
    assert float(terms["caption"].detach()) == pytest.approx(expected / words)


def test_it_generates_captions_only_with_a_decoder():
    model, batch = built().eval(), batch_of()
    assert model.generate(batch, 1).shape[0] == model.generate(batch, 3).shape[0] == 4
    with pytest.raises(UserError, match="caption: 0"):
        built(caption=0).generate(batch, 1)
    assert [stage.name for stage in built(caption=0, image=0).stages()] == ["train"]
