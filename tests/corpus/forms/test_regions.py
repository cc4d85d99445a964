"""Sets of regions come with how many of each row are regions."""

from __future__ import annotations

import numpy as np
import torch

from crossmodal.corpus.forms import form
from crossmodal.corpus.opening import load


def test_regions_of_items(tiny):
    corpus = load(tiny, "full", {"image": "regions"}, {"image": "regions"})
    features, counts = corpus.inputs["image"].gather(torch.tensor([1, 0]))
    assert features.dtype == torch.float32
    assert features.tolist() == [[[4, 5], [6, 7]], [[0, 1], [2, 3]]]
    assert counts.tolist() == [1, 2]
    assert corpus.context.shapes == {"image": (2, 2)}


def test_regions_from_outside():
    array = np.ones((1, 3, 2), np.float32)
    assert form("regions").of_features(None, array, {"count": [2]}).counts.tolist() == [2]
    assert form("regions").of_features(None, array, {}).counts.tolist() == [3]  # whose extractor makes as many of all
