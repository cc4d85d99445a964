"""Small prepared data sets that tests of corpus, training and inference open: the fixtures of their conftest.py."""

import numpy as np
import pandas as pd
import pytest

from crossmodal.corpus.splits import make, make_labelled
from crossmodal.datasets import items
from crossmodal.features.engine import store
from crossmodal.language.tokens import token_table
from crossmodal.tasks.ranked.selection import validate
from crossmodal.training.loop import Selection

EXTRACTED = {"extractor": "image", "settings": {"network": "shufflenet_v2_x0_5", "weights": "seeded"}}
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
    pixels = rng.integers(0, 256, (60, 3, 8, 8), np.uint8)
    for name, array in (("raw", vectors), ("regions", regions), ("pixels", pixels)):
        np.save(folder / "features" / f"image.{name}.npy", array)
        told = EXTRACTED if name == "raw" else {"extractor": "made by hand"}
        store.save(folder / "features" / f"image.{name}", [row[0] for row in images], told)
    return folder.parent


MODALITIES = {"image": (8, 5), "text": (8, 6), "audio": (4, 3)}  # items of each class and dimensions


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """`data/kinds`: six classes, `f` without training items, in three modalities; images have texts of their own."""
    folder = tmp_path_factory.mktemp("data") / "kinds"
    rng = np.random.default_rng(0)
    rows, arrays = [], {}
    for modality, (count, dim) in MODALITIES.items():
        for kind, label in enumerate("abcdef"):
            centre = np.zeros(dim)
            centre[kind % dim] = 3 - kind
            for i in range(count):
                part = "test" if label == "f" or i % 4 == 3 else "val" if i == 2 else "train"
                group = f"{label}{i}" if modality in ("image", "text") else f"{modality}{label}{i}"
                rows.append((f"{modality}/{label}{i}", modality, group, label, part, "x"))
                arrays.setdefault(modality, []).append(centre + rng.normal(size=dim))
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": "."})
    (folder / "splits").mkdir()
    for name in ("full", "classes1of3", "classes2of3"):
        make_labelled(frame, name).to_parquet(folder / "splits" / f"{name}.parquet")
    (folder / "features").mkdir()
    for modality, values in arrays.items():
        stem = folder / "features" / f"{modality}.raw"
        np.save(folder / "features" / f"{modality}.raw.npy", np.asarray(values, np.float32))
        store.save(stem, frame.item_id[frame.modality == modality].to_list(), {"extractor": "made by hand"})
    return folder.parent


BY_RECALL, BY_CLASS = (Selection(criterion, validate) for criterion in ("recall_sum", "map@50_sum"))
"""How runs choose their epochs where items are relevant by group, and by class."""
