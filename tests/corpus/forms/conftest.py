"""A data set so small that every input can be written down."""

import json

import numpy as np
import pandas as pd
import pytest

from crossmodal.datasets.items import COLUMNS
from crossmodal.features.engine import store
from tests.prepared import labelled, outside, prepared

__all__ = ["labelled", "outside", "prepared"]

CAPTIONS = {"a#0": "red kite", "a#1": "a car", "b#0": "a red car", "c#0": "crate kite"}
QUESTIONS = {"a?0": "what is red", "b?0": "what is it", "b?1": "is it a car", "c?0": "what flies"}
REGIONS = {  # classes, attributes and confidences of each image's regions
    "a": (["kite", "box"], ["red", ""], [0.25, 0.75]),
    "b": (["car", ""], ["Red", ""], [0.5, 0.9]),
    "c": (["box", "box"], ["", "red"], [0.4, 0.2]),
}
ARRAYS = {
    "vectors": np.array([[1, 2], [3, 6], [5, 7]], np.float16),
    "regions": np.arange(12, dtype=np.float16).reshape(3, 2, 2),
    "pixels": np.arange(9, dtype=np.uint8).reshape(3, 3, 1, 1) * 28,
}


@pytest.fixture
def tiny(tmp_path):
    """`data/tiny`: the images a and b to train on and c to test on, their captions, and questions about them."""
    folder = tmp_path / "data" / "tiny"
    (folder / "splits").mkdir(parents=True)
    (folder / "features").mkdir()
    partition = {"a": "train", "b": "train", "c": "test"}
    rows = [(i, "image", f"g{i}", None, part, f"{i}.jpg") for i, part in partition.items()]
    for modality, texts in (("text", CAPTIONS), ("question", QUESTIONS)):
        rows += [(key, modality, f"g{key[0]}", None, partition[key[0]], text) for key, text in texts.items()]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(folder / "items.parquet")
    (folder / "items.json").write_text(json.dumps({"regions": {"synonyms": {"box": ["crate"]}}}))
    tokens = {key: text.split() for key, text in (CAPTIONS | QUESTIONS).items()}
    pd.DataFrame({"item_id": [*tokens], "tokens": [*tokens.values()]}).to_parquet(folder / "tokens.parquet")
    pairs = pd.DataFrame([("a", "a#0"), ("a", "a#1"), ("b", "b#0")], columns=["image_id", "caption_id"])
    pairs.to_parquet(folder / "splits" / "full.parquet")
    pairs.assign(caption_id=[None, None, "b#0"]).iloc[1:].to_parquet(folder / "splits" / "sparse.parquet")
    named = pd.DataFrame([(key, *REGIONS[key]) for key in "abc"])
    named.columns = ["item_id", "class", "attribute", "confidence"]
    for name, array in ARRAYS.items():
        np.save(folder / "features" / f"image.{name}.npy", array)
        rows = named.assign(count=[2, 1, 2]) if name == "regions" else [*"abc"]
        store.save(folder / "features" / f"image.{name}", rows, {"extractor": "made by hand"})
    return folder
