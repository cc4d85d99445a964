"""Numbers from 0 to 255 stay what they are."""

from __future__ import annotations

import torch

from crossmodal.corpus.opening import load


def test_bytes_of_items(tiny):
    corpus = load(tiny, "full", {"image": "pixels"}, {"image": "pixels"})
    found = corpus.inputs["image"].gather(torch.tensor([2, 1]))
    assert found.dtype == torch.uint8
    assert found.flatten(1).tolist() == [[168, 196, 224], [84, 112, 140]]
    assert corpus.context.shapes == {"image": (3, 1, 1)}


def test_beside_another_form(tiny):
    corpus = load(tiny, "full", {"image": "vector"}, {"image": "vectors"}, second_form={"image": ("pixels", "pixels")})
    batch = corpus.batch(torch.tensor([2]))  # the pair of b
    assert batch.inputs["image"].tolist() == [[3, 6]]
    assert batch.second_form["image"].flatten(1).tolist() == [[84, 112, 140]]
    read = {"image.vectors", "image.pixels", "image.vectors.index", "image.pixels.index"}
    assert set(corpus.fingerprint) == {"items", "split"} | read
