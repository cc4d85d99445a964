"""Steps per second of each system at its paper's sizes on a GPU, fp32 and bf16; epochs on arrays of Flickr30K's size.

The sizes are the settings' defaults; 36 regions of 2,048 numbers, sparse annotation (10pct-5cap) for the step rates,
and every pair for the epochs of VSE++ and SCAN. Captions are the drawn world's, whose words are fewer than a real
corpus's. bf16 is autocast around the loss, a measurement alone: runs are trained in fp32.

Takes 20 GB of memory and of disk. Without a GPU it measures nothing and says so. `--small` takes the sizes of
`training.py` on whatever there is, to see that it runs. Names of systems on the command line choose among them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from common import alternate, save
from lightning_fabric import Fabric
from training import SYSTEMS, built, prepared, take

from crossmodal.corpus.batches import batches
from crossmodal.training.loop import _epoch

ROUNDS = 3
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}
EPOCHS = ("vsepp", "scan")
FLICKR30K = 29_000  # training images, five captions each


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def rates(name: str, folder: Path, small: bool, device: torch.device, steps: int) -> dict[str, float]:
    """Steps (forward, backward, clipping, and update of each optimiser) per second on batches on the device."""
    model, corpus = built(name, folder, "10pct-5cap", **(SYSTEMS[name] if small else {}))
    model.to(device)
    stage = model.stages()[0]
    optimisers = model.optimisers(stage)
    size = model.settings.batch_size
    ready = list(batches(corpus, size, 0, 0, model.unannotated, device, steps=steps))

    def run(kind: torch.dtype | None) -> None:
        take(model, ready, optimisers, kind)
        wait(device)

    cases = {label: lambda kind=kind: run(kind) for label, kind in PRECISIONS.items()}
    for case in cases.values():
        case()  # kernels are chosen at the first call
    return {label: steps / seconds for label, seconds in alternate(cases, ROUNDS).items()}


def epoch(name: str, folder: Path, small: bool, device: torch.device) -> float:
    """Seconds of an epoch of the training loop, reading included."""
    model, corpus = built(name, folder, "full", **(SYSTEMS[name] if small else {}))
    fabric = Fabric(accelerator=device.type, devices=1)
    model.to(device)
    stage = model.stages()[0]
    optimisers = {turn: fabric.setup_optimizers(one) for turn, one in model.optimisers(stage).items()}

    def run() -> None:
        _epoch(fabric, model, corpus, optimisers, stage, 0, 0)
        wait(device)

    return alternate({"epoch": run}, 1)["epoch"]


def main() -> None:
    small = "--small" in sys.argv
    if not torch.cuda.is_available() and not small:
        print("no GPU: step rates at the papers' sizes are not measured")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = [name for name in sys.argv[1:] if name in SYSTEMS] or list(SYSTEMS)
    sizes = {"train": 300} if small else {"regions": 36, "width": 2048, "pixels": 64}
    steps = 2 if small else 20
    found: dict = {"steps": steps, "torch": torch.__version__, "steps_per_second": {}, "epoch_seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder), **sizes)
        for name in chosen:
            found["steps_per_second"][name] = told = rates(name, Path(folder), small, device, steps)
            print(f"{name}: " + ", ".join(f"{rate:.1f} steps/s in {label}" for label, rate in told.items()))
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder), "full", **(sizes if small else {**sizes, "train": FLICKR30K}))
        for name in [one for one in EPOCHS if one in chosen]:
            found["epoch_seconds"][name] = seconds = epoch(name, Path(folder), small, device)
            print(f"{name}: an epoch in {seconds:.1f} s")
    if chosen == list(SYSTEMS) and not small:
        save("device", found)


if __name__ == "__main__":
    main()
