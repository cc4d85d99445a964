"""Farhadi's space of meaning and Mori's keywords, by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from crossmodal.core import registry
from crossmodal.language.tokens import Vocabulary
from crossmodal.models import base, farhadi, mori
from crossmodal.tasks.keywords import agreed

TEXTS = [
    "a young dog running on grass",
    "the dog running over the grass",
    "a man surfing in water",
    "two men and a man surfing on water",
    "a dog surfing in water",
]
CAPTIONS = [text.split() for text in TEXTS]
WORDS = Vocabulary.build(CAPTIONS, 1)
PLACE = {word: i for i, word in enumerate(WORDS.words)}
IMAGES = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 1.0, 0], [0, 0.9, 0.1], [0.4, 0.6, 0.3]])


def fitted(**chosen) -> farhadi.Model:
    model = farhadi.Model(farhadi.Settings(**chosen), base.Context({"image": (3,)}, len(WORDS), words=WORDS.words))
    ids, lengths = map(torch.from_numpy, WORDS.encode(CAPTIONS, 20))
    model.fit([base.Batch({"image": IMAGES, "text": base.Tokens(ids.long(), lengths)}, torch.arange(5))])
    again = farhadi.Model(model.settings, base.Context({"image": (3,)}, len(WORDS)))
    again.load_state_dict(model.state_dict())
    return again


def test_words_and_their_slots():
    """Nouns within a caption are objects, those at its end scenes, words in -ing actions; `young` is none."""
    kinds = fitted().kinds.tolist()
    slots = {word: kinds[PLACE[word]][0] for word in ("dog", "man", "men", "running", "surfing", "grass", "water")}
    assert slots == {"dog": 0, "man": 0, "men": 0, "running": 1, "surfing": 1, "grass": 2, "water": 2}
    assert [kinds[PLACE[word]][0] for word in ("young", "the", "and", "on")] == [-1] * 4
    assert kinds[PLACE["dog"]][1] == 1  # the most frequent object


def test_marginals_are_those_of_all_triples():
    model = fitted(values=2)
    nodes = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))
    edges = [0.3 * getattr(model, f"edge{n}").numpy() for n in range(3)]
    for one, found in zip(nodes.numpy(), model.marginals(nodes).numpy(), strict=True):
        expected = np.zeros((3, 3))
        for o, a, s in itertools.product(range(3), repeat=3):
            p = np.exp(one[0, o] + one[1, a] + one[2, s] + edges[0][o, a] + edges[1][o, s] + edges[2][a, s])
            expected[0, o] += p
            expected[1, a] += p
            expected[2, s] += p
        assert found == pytest.approx(expected / expected[0].sum(), abs=1e-5)


def test_edges_are_mutual_information_of_values():
    """The logarithm of how much more often a dog runs than by chance, each count raised by .1."""
    model = fitted(values=2)
    kinds = model.kinds.tolist()
    dog, running = kinds[PLACE["dog"]][1], kinds[PLACE["running"]][1]
    table = model.slots.numpy()[:, :2]
    joint = np.full((3, 3), 0.1)
    np.add.at(joint, (table[:, 0], table[:, 1]), 1)
    joint /= joint.sum()
    expected = np.log(joint[dog, running] / (joint[dog].sum() * joint[:, running].sum()))
    assert float(model.edge0[dog, running]) == pytest.approx(expected, abs=1e-5)
    assert table[:2].tolist() == [[dog, running]] * 2


def test_an_image_is_told_the_caption_of_its_meaning():
    """With two neighbours that have a dog running on grass, this is what an image shows; it need not be the nearest."""
    model = fitted(neighbours=2)
    said = model.generate(base.Batch({"image": torch.tensor([[1.0, 0.05, 0], [0.0, 1.0, 0.0]])}), 5)
    texts = [" ".join(WORDS.words[word] for word in row if word) for row in said.tolist()]
    assert texts[0] in TEXTS[:2]
    assert texts[1] in TEXTS[2:4]


def test_images_and_sentences_are_compared():
    model = fitted(neighbours=2)
    ids, lengths = map(torch.from_numpy, WORDS.encode([TEXTS[0].split(), TEXTS[2].split(), ["young"]], 20))
    texts = model.encode("text", base.Batch({"text": base.Tokens(ids.long(), lengths)}), "image")
    images = model.encode("image", base.Batch({"image": IMAGES[[0, 2]]}), "text")
    scores = images @ texts.T
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]
    assert texts[2].tolist() == [0] * texts.shape[1]  # nothing is told
    assert {"encode", "generate"} <= registry.methods("farhadi")


def test_moris_keywords_by_hand():
    """Of four cells of the first kind two are of an image with `sky sea`, two of one with `sky land` (eq. 9.10)."""
    words = Vocabulary.build([["sky", "sea"], ["sky", "land"]], 1)
    ids, lengths = map(torch.from_numpy, words.encode([["sky", "sea"], ["sky", "land"]], 5))
    up, down, other = [0.0, 1.0], [5.0, 0.0], [-5.0, 0.0]
    features = torch.tensor([[up, up, down], [up, up, other]])
    regions = base.Regions(features, torch.tensor([3, 3]))
    model = mori.Model(mori.Settings(clusters=3), base.Context({"image": (3, 2)}, len(words)))
    model.fit([base.Batch({"image": regions, "text": base.Tokens(ids.long(), lengths)}, torch.arange(2))])
    place = {word: i for i, word in enumerate(words.words)}
    new = base.Regions(torch.tensor([[up, down, down]]), torch.tensor([2]))  # the last one is padding
    scores = model.keywords(base.Batch({"image": new}))[0]
    # Of the first kind's eight words four are sky, two sea and two land; the second kind has one sky and one sea.
    assert scores[place["sky"]] == pytest.approx((4 / 8 + 1 / 2) / 2)
    assert scores[place["sea"]] == pytest.approx((2 / 8 + 1 / 2) / 2)
    assert scores[place["land"]] == pytest.approx((2 / 8) / 2)
    assert scores.sum() == pytest.approx(1)


def test_words_that_captions_agree_on():
    assert agreed([["a", "red", "ball"], ["the", "ball", "ball"], ["a", "toy"]]) == {"a", "ball"}
    assert agreed([["a", "red", "ball"]]) == {"a", "red", "ball"}
