"""SGM: relations from boxes, phrases from words, and both levels of its score, by loops in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from crossmodal.models import base, sgm

F64 = torch.float64


def model_of(**settings):
    torch.manual_seed(0)
    return sgm.Model(
        sgm.Settings(dim=7, word_dim=4, units=5, **settings), base.Context({"image": (5, 6)}, 20)
    ).double().eval()  # fmt: skip


def batch_of():
    generator = torch.Generator().manual_seed(1)
    counts, lengths = torch.tensor([5, 1, 3]), torch.tensor([6, 2, 4])
    features = torch.randn(3, 5, 6, generator=generator, dtype=F64)
    boxes = torch.rand(3, 5, 2, 2, generator=generator, dtype=F64).sort(2).values.flatten(2)
    there = (torch.arange(5) < counts[:, None])[..., None]
    names = torch.randint(4, 20, (3, 5, 3), generator=generator)
    names[0, 1, 1:], names[0, 2] = 0, 0
    ids = torch.randint(4, 20, (3, 6), generator=generator) * (torch.arange(6) < lengths[:, None])
    image = base.PlacedRegions(features * there, counts, boxes * there, names * there)
    return base.Batch({"image": image, "text": base.Tokens(ids, lengths)}, torch.arange(3))


def test_predicates_by_hand():
    box = [0.4, 0.4, 0.6, 0.6]
    cases = {
        "left of": ([0.0, 0.45, 0.2, 0.55], box),
        "right of": ([0.8, 0.3, 1.0, 0.5], box),
        "above": ([0.4, 0.0, 0.6, 0.1], box),
        "below": ([0.45, 0.7, 0.65, 0.9], box),
        "inside": ([0.45, 0.45, 0.5, 0.5], box),
        "around": (box, [0.45, 0.45, 0.5, 0.5]),
        "overlaps": ([0.5, 0.5, 0.9, 0.9], box),
    }
    subjects, objects = (torch.tensor(side) for side in zip(*cases.values(), strict=True))
    assert [sgm.PREDICATES[n] for n in sgm.predicates(subjects, objects)] == [*cases]


def test_the_nearest_region_is_another_one_and_no_padding():
    boxes = torch.tensor([[[0, 0, 0.2, 0.2], [0.8, 0.8, 1, 1], [0.1, 0, 0.3, 0.2], [0, 0, 0, 0.0]]])
    valid = torch.tensor([[True, True, True, False]])
    assert sgm.nearest_regions(boxes, valid)[0, :3].tolist() == [2, 2, 0]


def literal(model, batch, row):
    """Objects, relations, words and phrases of one pair, one at a time."""
    image, text, words = batch.inputs["image"], batch.inputs["text"], model.words.weight
    part, m = model.image, int(image.counts[row])
    fused = []
    for i in range(m):
        named = [words[n] for n in image.names[row, i] if n > 0]
        name = torch.stack(named).mean(0) if named else torch.zeros(4, dtype=F64)
        fused.append(torch.relu(part.fuse(torch.cat([image.features[row, i], name]))))
    objects = [F.normalize(part.object(x), dim=0) for x in fused]
    relations = []
    boxes = image.boxes[row]
    for i in range(m if m > 1 else 0):
        far = [float(((boxes[i, :2] + boxes[i, 2:]) - (boxes[j, :2] + boxes[j, 2:])).norm()) for j in range(m)]
        j = min((j for j in range(m) if j != i), key=far.__getitem__)
        kind = part.predicates.weight[sgm.predicates(boxes[i], boxes[j])]
        union = (image.features[row, i] + image.features[row, j]) / 2
        predicate = torch.relu(part.fuse_predicate(torch.cat([union, kind])))
        relations.append(F.normalize(part.relation(torch.cat([fused[i], predicate, fused[j]])), dim=0))
    n = int(text.lengths[row])
    vectors = words[text.ids[row, :n]][None]
    states, last = model.text.gru(vectors)
    phrases = [model.text.phrase(vectors[:, i : i + 3])[1][0, 0] for i in range(n - 2)] + [last[0, 0]]
    return objects, relations, [*F.normalize(states[0], dim=1)], [F.normalize(x, dim=0) for x in phrases]


@pytest.mark.parametrize("weight", [1.0, 0.0, 0.4])
def test_scores_add_the_means_of_the_best_matches_of_both_levels(weight):
    model, batch = model_of(relations=weight), batch_of()
    found = model.score(model.encode("image", batch, ""), model.encode("text", batch, "")).detach()
    sides = [literal(model, batch, row) for row in range(3)]
    for a in range(3):
        for b in range(3):
            expected = 0.0
            for level, factor in ((0, 1.0), (1, weight)):
                seen, said = sides[a][level], sides[b][level + 2]
                best = [max((float((x @ y).detach()) for x in seen), default=0.0) for y in said]
                expected += factor * sum(best) / len(best)
            assert float(found[a, b]) == pytest.approx(expected, abs=1e-9)


def test_the_loss_takes_the_hardest_pairs():
    model, batch = model_of(), batch_of()
    s = model.score(model.encode("image", batch, ""), model.encode("text", batch, "")).detach()
    hinges = 0.0
    for i in range(3):
        others = [j for j in range(3) if j != i]
        hinges += max(max(0, 0.2 - float(s[i, i] - s[i, j])) for j in others)
        hinges += max(max(0, 0.2 - float(s[i, i] - s[j, i])) for j in others)
    assert float(model.loss(batch, 0.0, "model")["loss"].detach()) == pytest.approx(hinges)


def test_captions_that_are_shorter_than_a_phrase():
    """Only the sentence itself is then matched with relations."""
    model, batch = model_of(), batch_of()
    short = base.Tokens(batch.inputs["text"].ids[1:2, :2], batch.inputs["text"].lengths[1:2])
    words, phrases = model.text(short, model.words)
    assert words.shape == (1, 2, 7)
    assert phrases.shape == (1, 1, 7)
    torch.testing.assert_close(phrases[0, 0], words[0, -1])  # the last state is that of the last word
    together = model.text(batch.inputs["text"], model.words)[1]
    torch.testing.assert_close(together[1, 0], phrases[0, 0])
    assert not together[1, 1:].any()
    assert len(sgm.Settings(word_embedding="glove").fallbacks) == 2
    assert sgm.Settings(word_embedding="glove", relations=0).fallbacks == []
