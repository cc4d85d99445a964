"""CVS on five modalities of XMedia's sizes: the loop with its labelled batches and triplets against bare steps.

Bare is the forward pass, the backward pass and the step on batches in memory: with the whole loss, and with the class
loss alone, so that the mining of triplets counts as our part too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import alternate, save

from crossmodal.corpus.batches import batches
from crossmodal.corpus.corpus import Corpus
from crossmodal.corpus.opening import load
from crossmodal.corpus.splits import make_labelled
from crossmodal.datasets import items
from crossmodal.features.engine import store
from crossmodal.models import base, cvs
from crossmodal.training.loop import _epoch

SIZES = {"image": (4000, 4096), "text": (4000, 2048), "video": (400, 4096), "audio": (800, 29), "mesh": (400, 4700)}
CLASSES = 20


def prepared(folder: Path, share: float) -> Corpus:
    """Training items of XMedia's numbers (or a share of them) and dimensions; each class is a place and noise."""
    rng = np.random.default_rng(0)
    rows, arrays = [], {}
    for modality, (count, dim) in SIZES.items():
        labels = np.arange(int(count * share)) % CLASSES
        for number, label in enumerate(labels):
            group = f"{number}" if modality in ("image", "text") else f"{modality}{number}"
            rows.append((f"{modality}{number}", modality, group, f"c{label:02d}", "train", "x"))
        arrays[modality] = rng.normal(size=(CLASSES, dim))[labels] + rng.normal(size=(len(labels), dim))
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": "."})
    (folder / "splits").mkdir()
    make_labelled(frame, "full").to_parquet(folder / "splits" / "full.parquet")
    (folder / "features").mkdir()
    for modality, values in arrays.items():
        target = folder / "features" / f"{modality}.x"
        np.save(f"{target}.npy", values.astype(np.float32))
        store.save(target, frame.item_id[frame.modality == modality].to_list(), {})
    vectors = dict.fromkeys(SIZES, "vector")
    return load(folder, "full", vectors, dict.fromkeys(SIZES, "x"), relevance="label")


def main(share: float = 0.25) -> None:
    from lightning_fabric import Fabric

    torch.set_num_threads(1)
    settings = cvs.Settings(modalities=tuple(SIZES))
    with tempfile.TemporaryDirectory() as name:
        corpus = prepared(Path(name), share)
        torch.manual_seed(0)
        model = cvs.Model(settings, corpus.context)
        ready = list(batches(corpus, settings.batch_size, 0, 0))
        adam = torch.optim.Adam(model.parameters(), lr=settings.lr)
        fabric = Fabric(accelerator="cpu", devices=1)
        stage = base.Stage("train", 1, settings.lr, 15)
        optimiser = fabric.setup_optimizers(torch.optim.Adam(model.parameters(), lr=settings.lr))

        def classes(batch: base.Batch) -> torch.Tensor:
            g = {m: model.branches[m](batch.inputs[m]) for m in SIZES}
            sides = [model.aligned(a, g[a], b, g[b]) for a, b in model.pairs]
            return model.class_loss(
                torch.cat([torch.stack(side) for side in zip(*sides, strict=True)], 1), batch.labels
            )

        def whole(batch: base.Batch) -> torch.Tensor:
            return model.loss(batch, 0.0, "model")["loss"]

        def bare(loss_of) -> None:
            for batch in ready:
                loss = loss_of(batch)
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()

        def ours() -> None:
            _epoch(fabric, model, corpus, {"model": optimiser}, stage, 0, 0)

        seconds = alternate({"bare": lambda: bare(whole), "classes": lambda: bare(classes), "ours": ours}, 5)
    shares = {name: seconds[name] / seconds["ours"] for name in ("bare", "classes")}
    print(
        f"CVS, five modalities: {100 * shares['bare']:.1f} % of the bare loop's steps per second, "
        f"{100 * shares['classes']:.1f} % of those without triplets ({len(ready) / seconds['ours']:.1f} steps/s)"
    )
    save("spaces", {"steps": len(ready), "seconds": seconds, "shares": shares, "torch": torch.__version__})


if __name__ == "__main__":
    main()
