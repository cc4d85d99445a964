"""A grid's cells are regions all of which are there."""

from __future__ import annotations

import numpy as np

from crossmodal.core import registry
from crossmodal.corpus.forms import form


def test_all_cells_are_valid():
    array = np.arange(16, dtype=np.float32).reshape(2, 4, 2)
    features, counts = form("grid").of_features(None, array, {})
    assert features.tolist() == array.tolist()
    assert counts.tolist() == [4, 4]


def test_its_extractor_is_named_apart_from_that_of_regions():
    assert (registry.form("grid", "image")["array"], registry.form("regions", "image")["array"]) == ("grid", "regions")
