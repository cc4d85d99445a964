"""Numbers from 0 to 255 stay what they are."""

from __future__ import annotations

import torch

from crossmodal.corpus.opening import load


def test_bytes_of_items(tiny):
    corpus = load(tiny, "full", {"image": "images"}, {"image": "pixels"})
    found = corpus.inputs["image"].gather(torch.tensor([2, 1]))
    assert found.dtype == torch.uint8
    assert found.flatten(1).tolist() == [[168, 196, 224], [84, 112, 140]]
    assert corpus.context.shapes == {"image": (3, 1, 1)}
