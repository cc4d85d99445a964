"""Regional semantics by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.features.engine import store
from crossmodal.features.region_annotations import semantics
from crossmodal.language.tokens import SPECIAL, Vocabulary


def test_the_surest_region_is_told_first():
    classes, attributes = ["dog", "", "Fire Hydrant", "tree"], ["brown", "", "red", ""]
    found = semantics.sequence(classes, attributes, [0.4, 0.0, 0.9, 0.4])
    assert found == ["red", "fire", "hydrant", "brown", "dog", "tree"]
    assert semantics.sequence(classes, attributes, [0.4, 0.0, 0.9, 0.4], most=2) == found[:-1]
    assert semantics.sequence(["", ""], ["", ""], [0, 0]) == []


def test_a_table_as_captions_have_it(tmp_path):
    np.save(tmp_path / "image.r.npy", np.zeros((2, 3, 4), np.float32))
    index = {
        "item_id": ["a", "b"],
        "count": [2, 1],
        "class": [["cat", "sky"], ["boat"]],
        "attribute": [["black", "blue"], [""]],
        "confidence": [[0.3, 0.7], [0.2]],
    }
    store.save(tmp_path / "image.r", pd.DataFrame(index), {})
    features = store.open_features(tmp_path / "image.r")
    table = semantics.token_table(features)
    assert table.item_id.tolist() == ["a", "b"]
    assert table.tokens.tolist() == [["blue", "sky", "black", "cat"], ["boat"]]
    vocabulary = Vocabulary.build(table.tokens, min_count=1)
    _, lengths = vocabulary.encode(table.tokens.to_list(), 82)
    assert lengths.tolist() == [6, 3]
    assert len(vocabulary) == len(SPECIAL) + 5
    store.save(tmp_path / "image.r", ["a", "b"], {})
    with pytest.raises(UserError, match="no column 'class'"):
        semantics.token_table(store.open_features(tmp_path / "image.r"))
