"""Of items that answers are known of beforehand nothing is read."""

from __future__ import annotations

import torch

from crossmodal.corpus.opening import load


def test_items_without_features_or_words(tiny):
    (tiny / "tokens.parquet").unlink()
    corpus = load(tiny, "full", {"image": "ids", "text": "ids"}, {})
    assert corpus.inputs["text"].ids.tolist() == ["a#0", "a#1", "b#0", "c#0"]
    assert corpus.inputs["image"].gather(torch.tensor([2, 0])).shape == (2, 0)
    assert {m: index.tolist() for m, index in corpus.pairs.items()} == {"image": [0, 0, 1], "text": [0, 1, 2]}
    assert corpus.modalities == ("image", "text")
    assert set(corpus.fingerprint) == {"items", "split"}
