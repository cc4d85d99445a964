"""Captioners: training against the bare loop, beams of five for 1,000 images, and the reward's share of a step.

Names of captioners on the command line choose among them; `--small` takes a few steps, to see that it runs. Shares are
of seconds of the processor in the same run. The floor of a beam is the LSTM and the softmax of its steps alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import processor, save
from training import built as built_of
from training import prepared, take

from crossmodal.corpus.batches import batches
from crossmodal.corpus.opening import Corpus
from crossmodal.models import base
from crossmodal.models.parts import reward
from crossmodal.training.loop import _epoch

SIZES = {"dim": 512, "word_dim": 512, "attention_dim": 512, "batch_size": 50}
SYSTEMS: dict[str, dict[str, Any]] = {
    "nic": {"dim": 512, "word_dim": 512, "batch_size": 50},
    "sat": SIZES,
    "adaptive": SIZES,
    "updown": {**SIZES, "word_dim": 1000},
    "scst": SIZES,
    "twod": {"batch_size": 50, "dim": 64},
}
BEAMED = ("nic", "updown")
IMAGES, BEAM, WORDS = 1000, 5, 10_000


def built(name: str, folder: Path, **settings: object) -> tuple[base.Model, Corpus]:
    """A captioner and its data; its vocabulary has as many words as that of MS-COCO."""
    model, corpus = built_of(name, folder, "full", **settings)
    torch.manual_seed(0)
    return type(model)(model.settings, replace(corpus.context, vocabulary_size=WORDS)).train(), corpus


class Steps:
    """The LSTMs and the softmax of a beam's steps, for as many unfinished captions; nothing is attended or chosen."""

    def __init__(self, model: base.Model, rows: int):
        networks = [m for m in model.modules() if isinstance(m, torch.nn.LSTM | torch.nn.LSTMCell)]
        widths = [m.input_size for m in networks] or [model.settings.word_dim]
        self.dim, self.rows, self.word = model.settings.dim, rows, model.word
        self.cells = [(torch.nn.LSTMCell(width, self.dim), torch.zeros(rows, width)) for width in widths]

    @torch.no_grad()
    def run(self, steps: int) -> None:
        states = [(torch.zeros(self.rows, self.dim),) * 2 for _ in self.cells]
        out = torch.zeros(self.rows, self.word.in_features)
        for _ in range(steps):
            states = [cell(read, state) for (cell, read), state in zip(self.cells, states, strict=True)]
            torch.log_softmax(self.word(out), 1)


def trained(model: base.Model, corpus: Corpus, steps: int, rounds: int) -> dict[str, float]:
    """Seconds of the loop's steps and of the bare ones."""
    from lightning_fabric import Fabric

    ready = [*batches(corpus, model.settings.batch_size, 0, 0, steps=steps)]
    stage = model.stages()[0]
    bare = model.optimisers(stage)
    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped = {turn: fabric.setup_optimizers(one) for turn, one in model.optimisers(stage).items()}
    return {
        "bare": processor(lambda: take(model, ready, bare), rounds),
        "loop": processor(lambda: _epoch(fabric, model, corpus, wrapped, stage, 0, 0), rounds),
    }


def beamed(model: base.Model, corpus: Corpus, images: int) -> dict[str, float]:
    """Seconds of one core for beams of five of so many images, and of their floor."""
    model.eval()
    places = np.arange(images) % len(corpus.inputs["image"].ids)
    ready = [*corpus.items("image", places, 125)]
    spent = processor(lambda: [model.generate(batch, BEAM) for batch in ready], 1)
    floor = Steps(model, 125 * BEAM)
    return {"core": spent, "floor": processor(lambda: floor.run(20 * len(ready)), 1)}


def rewarded(model: base.Model, corpus: Corpus) -> dict[str, float]:
    """Seconds of self-critical steps, and those of their reward."""
    model.train()
    model.inherit(model.state_dict())
    batch = next(batches(corpus, 50, 0, 0))
    optimisers = model.optimisers(model.stages()[0])
    take(model, [batch], optimisers)  # the n-grams of the training captions are numbered once
    spent = 0.0
    original = reward.Reward.__call__

    def timed(self: reward.Reward, *args: Any) -> np.ndarray:
        nonlocal spent
        began = time.process_time()
        result = original(self, *args)
        spent += time.process_time() - began
        return result

    reward.Reward.__call__ = timed
    try:
        whole = processor(lambda: take(model, [batch], optimisers), 1)
    finally:
        reward.Reward.__call__ = original
    return {"step": whole, "reward": spent}


def main() -> None:
    torch.set_num_threads(1)
    small = "--small" in sys.argv
    chosen = [name for name in sys.argv[1:] if name in SYSTEMS] or list(SYSTEMS)
    steps, rounds, images = (2, 1, 125) if small else (6, 5, IMAGES)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder), "full", train=800, regions=36, width=2048)
        for name in chosen:
            model, corpus = built(name, Path(folder), **SYSTEMS[name], epoch_steps=steps)
            seconds = trained(model, corpus, steps, rounds)
            found[name] = {"seconds": seconds, "share_of_bare": seconds["bare"] / seconds["loop"]}
            print(f"{name}: {100 * found[name]['share_of_bare']:.1f} % of the bare loop's steps", flush=True)
            if name in BEAMED:
                found[name]["beam"] = beam = beamed(model, corpus, images)
                print(
                    f"{name}: beams of {BEAM} for {images} images in {beam['core']:.1f} s of a core, "
                    f"{beam['floor'] / beam['core']:.2f} of the rate of their floor",
                    flush=True,
                )
        about = {**SYSTEMS["updown"], "objective": "self-critical"}
        model, corpus = built("updown", Path(folder), **about)
        found["self-critical"] = rewarded(model, corpus)
        share = found["self-critical"]["reward"] / found["self-critical"]["step"]
        print(f"the reward takes {100 * share:.2f} % of a self-critical step")
    if chosen == list(SYSTEMS) and not small:
        save("captioning", {"steps": steps, "images": images, "systems": found, "torch": torch.__version__})


if __name__ == "__main__":
    main()
