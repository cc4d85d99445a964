"""Steps a second of the training loop against the bare forward, backward and step on batches already in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import alternate, save

from crossmodal.datasets import items, world
from crossmodal.features import store
from crossmodal.models import base, vsepp
from crossmodal.splits import make
from crossmodal.text import token_table
from crossmodal.training.data import batches, load
from crossmodal.training.loop import _epoch


def prepared(folder: Path) -> None:
    """A data set of 2,000 scenes' captions and made-up ResNet-sized features."""
    rows = []
    for index in range(2000):
        partition = "train" if index < 1600 else "val" if index < 1800 else "test"
        rows.append((f"{index}", "image", f"{index}", None, partition, f"{index}.jpg"))
        sentences = world.captions(1, index, world.scene(1, index))
        rows += [(f"{index}#{k}", "text", f"{index}", None, partition, text) for k, text in enumerate(sentences)]
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": "."})
    token_table(frame).to_parquet(folder / "tokens.parquet")
    (folder / "splits").mkdir()
    make(frame, "full", 0).to_parquet(folder / "splits" / "full.parquet")
    (folder / "features").mkdir()
    target = folder / "features" / "image.x"
    np.save(f"{target}.npy", np.random.default_rng(0).random((2000, 2048), np.float32))
    store.save(target, frame.item_id[frame.modality == "image"], {})


def main() -> None:
    from lightning_fabric import Fabric

    torch.set_num_threads(1)
    settings = vsepp.Settings(dim=256, batch_size=64, lr=1e-3)
    with tempfile.TemporaryDirectory() as name:
        prepared(Path(name))
        corpus = load(Path(name), "full", vsepp.Model.reads, {"image": "x"})
        model = vsepp.Model(settings, corpus.context)
        ready = list(batches(corpus, 64, 0, 0))
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        fabric = Fabric(accelerator="cpu", devices=1)
        stage = base.Stage("train", 1, 1e-3, 15)
        optimiser = fabric.setup_optimizers(torch.optim.Adam(model.parameters(), lr=1e-3))

        def bare() -> None:
            for batch in ready:
                loss = model.loss(batch, 0.0, "model")["loss"]
                adam.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                adam.step()

        def ours() -> None:
            _epoch(fabric, model, corpus, {"model": optimiser}, stage, 0, 0)

        seconds = alternate({"bare": bare, "ours": ours}, 5)
    share = seconds["bare"] / seconds["ours"]
    print(
        f"training: {100 * share:.1f} % of the bare loop's steps a second ({len(ready) / seconds['ours']:.1f} steps/s)"
    )
    save("training", {"steps": len(ready), "seconds": seconds, "share_of_bare": share, "torch": torch.__version__})


if __name__ == "__main__":
    main()
