"""Batches with further captions of each drawn caption's image."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch

from crossmodal.corpus.batches import _Mates, batches
from crossmodal.corpus.opening import load
from crossmodal.models.vsepp import Model


def corpus_of(prepared, split="full"):
    return load(prepared / "toy", split, Model.reads, {"image": "raw"}, min_count=1)


def texts(batch):
    return [tuple(row[row > 0].tolist()) for row in batch.inputs["text"].ids]


def test_drawn_captions_bring_others_of_their_image(prepared):
    """36 images with three captions each, which are permutations of the same words."""
    corpus = corpus_of(prepared)
    plain = [batch.groups for batch in batches(corpus, 40, 0, 0)]
    for captions in (2, 3, 9):
        drawn = []
        for number, batch in enumerate(batches(corpus, 40, 0, 0, captions_per_image=captions)):
            size = [40, 40, 28][number]
            further = min(captions, 3) - 1
            assert len(batch.groups) == size * (1 + further)
            first, rest = batch.groups[:size], batch.groups[size:]
            assert rest.tolist() == first.repeat_interleave(further).tolist()
            torch.testing.assert_close(
                batch.inputs["image"][size:], batch.inputs["image"][:size].repeat_interleave(further, 0)
            )
            of = texts(batch)
            for row in range(size):  # an image's captions are different ones, so far as chance made them so
                mates = [of[row], *of[size + further * row : size + further * (row + 1)]]
                assert {tuple(sorted(mate)) for mate in mates} == {tuple(sorted(of[row]))}
            drawn += first.tolist()
            if number == 0:
                assert torch.equal(first, plain[0])
        assert set(Counter(drawn).values()) == {3}  # every pair is drawn once, its mates come on top


def test_mates_are_different_pairs_of_the_same_group(prepared):
    corpus = corpus_of(prepared)
    groups = torch.from_numpy(corpus.inputs["text"].groups[corpus.pairs["text"]])
    generator = torch.Generator().manual_seed(0)
    seen = Counter()
    for _ in range(60):
        picks = torch.randperm(corpus.n_pairs, generator=generator)[:20]
        two = _Mates(corpus, 2).of(picks, generator).view(20, 2)
        for pick, mates in zip(picks.tolist(), two.tolist(), strict=True):
            assert len({pick, *mates}) == 3
            assert set(groups[mates].tolist()) == {int(groups[pick])}
        one = _Mates(corpus, 1).of(picks, generator)
        seen.update((one - picks).sign().tolist())
    assert min(seen.values()) > 400  # of 1,200, either side of the drawn pair


def test_the_only_caption_of_an_image_comes_alone(prepared):
    corpus = corpus_of(prepared)
    keep = [0, 3, 4, 6]  # one caption, two captions, one caption
    sparse = replace(corpus, pairs={m: index[keep] for m, index in corpus.pairs.items()})
    (batch,) = batches(sparse, 4, 0, 0, captions_per_image=2)
    assert sorted(Counter(batch.groups.tolist()).values()) == [1, 1, 4]
