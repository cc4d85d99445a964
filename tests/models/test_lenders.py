"""Systems that lend a training caption: which caption it is, on cases whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossmodal.evaluation.captions import cider
from crossmodal.language.ngrams import unit_weights
from crossmodal.language.tokens import END, START, Vocabulary
from crossmodal.models import base, consensus

IMAGES = {  # three dogs on grass beside each other, two boats, and what was written of them
    "dog": ([1.0, 0.0], ["a dog runs", "a brown dog runs"]),
    "hound": ([0.9, 0.1], ["a dog runs on grass", "my pet"]),
    "puppy": ([0.8, 0.2], ["a dog runs on grass", "a puppy"]),
    "boat": ([0.0, 1.0], ["a boat at sea", "the sea"]),
    "ship": ([0.1, 0.9], ["a boat at sea", "a ship sails"]),
}
WORDS = Vocabulary.build([caption.split() for _, captions in IMAGES.values() for caption in captions], 1)


def pairs(names=tuple(IMAGES)) -> base.Batch:
    """All pairs of the images above, in an order in which captions of one image do not lie side by side."""
    rows = [(group, name, k) for k in (1, 0) for group, name in enumerate(names)]
    ids, lengths = WORDS.encode([IMAGES[name][1][k].split() for _, name, k in rows], 9)
    images = torch.tensor([IMAGES[name][0] for _, name, _ in rows])
    groups = torch.tensor([10 * group for group, _, _ in rows])
    return base.Batch({"image": images, "text": base.Tokens(torch.from_numpy(ids), torch.from_numpy(lengths))}, groups)


def say(model, *vectors) -> list[str]:
    ids = model.generate(base.Batch({"image": torch.tensor(vectors)}), 5)
    return [" ".join(WORDS.words[word] for word in row if word) for row in ids.tolist()]


def lending(neighbours: int, batch: base.Batch) -> consensus.Model:
    model = consensus.Model(consensus.Settings(neighbours=neighbours), base.Context({"image": (2,)}, len(WORDS)))
    half = len(batch.groups) // 2
    parts = [slice(0, half), slice(half, None)]
    tokens = batch.inputs["text"]
    model.fit(
        base.Batch(
            {"image": batch.inputs["image"][p], "text": base.Tokens(tokens.ids[p], tokens.lengths[p])}, batch.groups[p]
        )
        for p in parts
    )
    return model


def test_three_neighbours_agree_on_what_two_of_them_say():
    """Of the dogs' six captions, `a dog runs on grass` is there twice; among the boats `a boat at sea` is."""
    model = lending(3, pairs())
    assert say(model, [1.0, 0.05], [0.05, 1.0]) == ["a dog runs on grass", "a boat at sea"]


def test_one_neighbour_lends_its_own():
    """A single neighbour's two captions agree equally: the first one that was read is said, here the second."""
    model = lending(1, pairs())
    assert say(model, [1.0, 0.0], [0.0, 1.0]) == [IMAGES["dog"][1][1], IMAGES["boat"][1][1]]
    assert say(model, [3.0, 0.3], [0.9, 0.1])[1] == IMAGES["hound"][1][1]  # cosine, so that length is nothing


def test_more_neighbours_than_images_are_all_of_them():
    assert say(lending(30, pairs(("dog", "puppy"))), [0.0, 1.0])[0] in IMAGES["dog"][1] + IMAGES["puppy"][1]


def test_captions_are_kept_whole_and_without_marks():
    model = lending(3, pairs())
    kept = sorted(" ".join(WORDS.words[word] for word in row) for row in model.words())
    assert kept == sorted(caption for _, captions in IMAGES.values() for caption in captions)
    lent = model.lent(torch.arange(10))
    assert not torch.isin(lent, torch.tensor([START, END])).any()
    again = consensus.Model(model.settings, model.context)
    again.load_state_dict(model.state_dict())
    assert again.words() == model.words()


def test_products_of_weights_are_ciders():
    """`cider` divides by the number of references: one reference per image, so that each product is one CIDEr."""
    captions = [caption.split() for _, two in IMAGES.values() for caption in two]
    images = np.repeat(np.arange(5), 2)
    table = unit_weights(captions, images).toarray()
    references = [[captions[2 * i], captions[2 * i + 1]] for i in range(5)]
    for a in (0, 3, 7):
        expected = cider([captions[a]] * 10, [[caption] for caption in captions], references).plain
        assert 1000 * table @ table[a] == pytest.approx(expected, abs=1e-3)
