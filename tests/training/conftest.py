import numpy as np
import pandas as pd
import pytest

from crossmodal.datasets import items
from crossmodal.features import store
from crossmodal.splits import make
from crossmodal.text import token_table

WORDS = [f"word{letter}" for letter in "abcdefghijklmno"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """`data/toy`: 60 things with vectors, each with three captions that name the coordinates above zero."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 15)).astype(np.float32)
    images, texts = [], []
    for i, vector in enumerate(vectors):
        part = "train" if i < 36 else "val" if i < 48 else "test"
        images.append((f"i{i}", "image", f"i{i}", None, part, f"i{i}.jpg"))
        for k in range(3):
            named = [w for w, v in zip(WORDS, vector, strict=True) if v > 0]
            texts.append((f"i{i}#{k}", "text", f"i{i}", None, part, " ".join(rng.permutation(named))))
    frame = pd.DataFrame(images + texts, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": "."})
    token_table(frame).to_parquet(folder / "tokens.parquet")
    (folder / "splits").mkdir()
    for name in ("full", "50pct-2cap"):
        make(frame, name, 0).to_parquet(folder / "splits" / f"{name}.parquet")
    (folder / "features").mkdir()
    regions = rng.normal(size=(60, 4, 6)).astype(np.float32)
    for name, array in (("raw", vectors), ("regions", regions)):
        np.save(folder / "features" / f"image.{name}.npy", array)
        store.save(folder / "features" / f"image.{name}", [row[0] for row in images], {"extractor": "made by hand"})
    return folder.parent
