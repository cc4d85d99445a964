"""Systems learn at their published batch size, optimiser, clip and weights.

They train with the hardest negatives, or with the contrastive losses of CLIP and SigLIP, on scenes of three coloured
things, made here. With the mean of the hinges in place of the sum, gradients lie below the norm at which they are
clipped, and within these epochs the systems with hinges stay on or near the plateau of twice the margin.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from crossmodal.corpus.opening import load
from crossmodal.corpus.splits import make
from crossmodal.datasets import items
from crossmodal.features.engine import store
from crossmodal.language.tokens import token_table
from crossmodal.models import a3vse, contrastive, scan, vsepp
from crossmodal.training.loop import train
from tests.prepared import BY_RECALL

THINGS, COLOURS, DIM, IMAGES = 24, 8, 48, 700


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """`data/scenes`: 700 images of three regions each, with five captions that name two or three of their things."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    rng = np.random.default_rng(0)
    thing, colour = rng.normal(size=(THINGS, DIM)), rng.normal(size=(COLOURS, DIM))
    rows, regions, named = [], [], []
    for i in range(IMAGES):
        part = "train" if i < IMAGES - 200 else "val" if i < IMAGES - 100 else "test"
        kinds, shades = rng.choice(THINGS, 3, replace=False), rng.integers(0, COLOURS, 3)
        regions.append(np.abs(thing[kinds] + colour[shades] + rng.normal(scale=0.5, size=(3, DIM))))
        rows.append((f"i{i}", "image", f"i{i}", None, part, f"i{i}.jpg"))
        for k in range(5):
            said = rng.permutation(3)[: 2 + k % 2]
            text = " and ".join(f"a shade{shades[j]} thing{kinds[j]}" for j in said)
            rows.append((f"i{i}#{k}", "text", f"i{i}", None, part, text))
        named.append((f"i{i}", [f"thing{j}" for j in kinds], [f"shade{j}" for j in shades], [0.9, 0.8, 0.7]))
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": ".", "regions": {"file": "regions.json", "synonyms": {}}})
    token_table(frame).to_parquet(folder / "tokens.parquet")
    (folder / "splits").mkdir()
    for name in ("full", "20pct-5cap"):
        make(frame, name, 0).to_parquet(folder / "splits" / f"{name}.parquet")
    (folder / "features").mkdir()
    sets = np.stack(regions).astype(np.float32)
    vectors = sets.mean(1) / np.linalg.norm(sets.mean(1), axis=1, keepdims=True)
    index = pd.DataFrame(named, columns=["item_id", "class", "attribute", "confidence"])
    for name, array, table in (("regions", sets, index.assign(count=3)), ("vectors", vectors, index.item_id)):
        np.save(folder / "features" / f"image.{name}.npy", array)
        store.save(folder / "features" / f"image.{name}", table, {"extractor": "made by hand"})
    return folder


# Dimensions and learning rates are for seconds on one core; all else is the published default.
SMALL = {"dim": 96, "word_dim": 64, "lr": 2e-3}
RUNS = {
    "vsepp": (vsepp, "vectors", "full", {"dim": 256, "word_dim": 100, "lr": 1e-3, "epochs": 16}, 400),
    "infonce": (contrastive, "vectors", "full", SMALL | {"epochs": 4}, 400),
    "sigmoid": (contrastive, "vectors", "full", SMALL | {"epochs": 6, "loss": "sigmoid"}, 400),
    "scan": (scan, "regions", "full", {"dim": 128, "word_dim": 64, "lr": 5e-4, "epochs": 8}, 460),
    "a3vse": (a3vse, "regions", "20pct-5cap", {"dim": 64, "word_dim": 64, "epochs": 12, "epoch_steps": 25}, 400),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_it_learns(scenes, name):
    """Sums of six recalls over 100 images: 600 at best, some 57 by chance."""
    module, extractor, split, settings, least = RUNS[name]
    corpus = load(scenes, split, module.Model.reads, {"image": extractor}, further=module.Model.further, min_count=4)
    torch.manual_seed(0)
    model = module.Model(module.Settings(**settings), corpus.context)
    assert (model.settings.batch_size, model.settings.clip, getattr(model.settings, "warm_up", 0)) == (128, 2, 0)
    history = train(model, corpus, 0, torch.device("cpu"), BY_RECALL).history
    assert history.val_recall_sum.max() > least
