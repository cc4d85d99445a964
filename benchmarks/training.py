"""Processor seconds of the training loop against the bare forward, backward and step on batches already in memory.

Names of systems on the command line choose among them: the results of the others stay as they are, if they were
measured with the same PyTorch. `--small` takes a few steps, to see that it runs, and saves nothing. The loop makes its
batches in a thread of its own, whose seconds count here, although they cost no time where a core is free.
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import alternate, file_of, save

from crossmodal.core import registry
from crossmodal.core.files import read_json
from crossmodal.corpus.batches import batches
from crossmodal.corpus.opening import Corpus, load
from crossmodal.corpus.splits import make, make_labelled
from crossmodal.datasets import items, world
from crossmodal.features.engine import store
from crossmodal.language.tokens import token_table
from crossmodal.models import base
from crossmodal.training.closed_form import prepare
from crossmodal.training.loop import Limit, _epoch

STEPS = 40
EVERY_CLASS = "classes1of1"  # the subset of the systems that are trained on classes


def prepared(
    folder: Path, split: str = "10pct-5cap", train: int = 1600, regions: int = 12, width: int = 1024, pixels: int = 32
) -> None:
    """A data set of scenes' captions, 400 of them not to train on, and made-up features: global, of regions, pixels.

    Each picture and its captions have one of twenty classes.
    """
    rows = []
    images = train + 400
    for index in range(images):
        partition = "train" if index < train else "val" if index < train + 200 else "test"
        rows.append((f"{index}", "image", f"{index}", f"class {index % 20}", partition, f"{index}.jpg"))
        sentences = world.captions(1, index, world.scene(1, index))
        rows += [
            (f"{index}#{k}", "text", f"{index}", f"class {index % 20}", partition, text)
            for k, text in enumerate(sentences)
        ]
    frame = pd.DataFrame(rows, columns=list(items.COLUMNS))
    items.write(frame, folder, {"root": "."})
    token_table(frame).to_parquet(folder / "tokens.parquet")
    (folder / "splits").mkdir()
    make(frame, split, 0).to_parquet(folder / "splits" / f"{split}.parquet")
    make_labelled(frame, EVERY_CLASS).to_parquet(folder / "splits" / f"{EVERY_CLASS}.parquet")
    (folder / "features").mkdir()
    rng = np.random.default_rng(0)
    index = frame.loc[frame.modality == "image", ["item_id"]].assign(count=regions)
    things = [world.scene(1, n).things for n in range(images)]
    index["class"], index["attribute"], index["confidence"] = (
        pd.Series([[told(one) for one in some] for some in things], index=index.index)
        for told in (lambda one: one.kind, lambda one: one.colour, lambda one: 0.9)
    )
    corners = np.sort(rng.random((images, regions, 2, 2), np.float32) * 128, axis=2).reshape(images, regions, 4)
    index = index.assign(boxes=[one.tolist() for one in corners], size=[[128, 128]] * images)
    texts = frame.loc[frame.modality == "text", "item_id"]
    np.save(folder / "features" / "text.t.npy", rng.random((len(texts), 512), np.float32))
    store.save(folder / "features" / "text.t", texts, {})
    arrays = {"x": rng.random((images, 2048), np.float32), "r": rng.random((images, regions, width), np.float32)}
    arrays["p"] = rng.integers(0, 256, (images, 3, pixels, pixels), np.uint8)
    for name, array in arrays.items():
        target = folder / "features" / f"image.{name}"
        np.save(f"{target}.npy", array)
        store.save(target, index if name == "r" else index.item_id, {})


WORDS = {"word_dim": 64, "word_embedding": "seeded"}
SYSTEMS = {
    "vsepp": {"dim": 256, "batch_size": 64},
    "scan": {"dim": 128, "word_dim": 64, "batch_size": 32},
    "dan": {"dim": 128, "word_dim": 64, "batch_size": 32, "optimiser": "adam"},
    "dpc": {"dim": 128, "word_dim": 64, "widths": (64, 128), "inner": (64, 128), "blocks": (1, 1), "optimiser": "adam"},
    "a3vse": {"dim": 128, "word_dim": 64, "batch_size": 32},
    "mfsr": {"dim": 96, "part_dim": 64, "word_dim": 64, "layers": 1, "image_size": 32, "channels": 8},
    "order_embeddings": {"dim": 256, "batch_size": 64},
    "cmpm": {"dim": 256, "word_dim": 128, "units": 128, "batch_size": 64},
    "dspe": {"hidden": (512,), "dim": 256, "batch_size": 64},
    "rrfnet": {"hidden": (512,), "dim": 256, "batch_size": 128},
    "cmrsc": {"dim": 128, "word_dim": 64, "batch_size": 32},
    "pvse": {**WORDS, "dim": 256, "batch_size": 64},
    "dsve": {**WORDS, "dim": 256, "units": 256, "layers": 2, "batch_size": 64},
    "dvsa": {**WORDS, "dim": 128, "batch_size": 32},
    "gsmn": {"dim": 128, "word_dim": 64, "batch_size": 32},
    "sgm": {**WORDS, "dim": 128, "units": 256, "batch_size": 32},
    "mcnn": {**WORDS, "dim": 64, "maps": (32, 48, 48), "joint": 64, "length": 16, "batch_size": 32},
    "sco": {"dim": 128, "word_dim": 64, "concepts": 64, "batch_size": 64},
    "gxn": {"dim": 128, "word_dim": 64, "image_size": 32, "channels": 8, "noise": 16, "condition_dim": 32},
    "cmgan": {"units": 256, "dim": 256, "judge_units": 128},
    "ccl": {"hidden": (512,), "dim": 256},
    "corrae": {"hidden": (512,), "dim": 256},
    "cbt": {"hidden": (512,), "dim": 256},
    "mcsm": {**WORDS, "dim": 256, "units": 64, "widths": (64, 64)},
    "ugach": {"hidden": (1024,), "bits": 64, "batch_size": 64},
    "uncsm": {"hidden": (512,), "dim": 128, "metric_units": 128},
    "scacmr": {"hidden": (512,)},
}
"""Settings of each system that is measured; those in closed form have no steps."""
CLASSED = ("cmgan", "ccl", "corrae", "cbt", "mcsm", "ugach", "uncsm", "scacmr")
"""Systems that are trained on classes."""


def built(name: str, folder: Path, split: str, **settings: object) -> tuple[base.Model, Corpus]:
    """A system and what it reads of the `prepared` data set."""
    module = registry.module("models", name)
    inputs = {"image": "x" if module.Model.reads["image"] == "vector" else "r", "text": "t"}
    if module.Model.reads["text"] == "tokens":
        del inputs["text"]
    second_form = {modality: (form, "p") for modality, form in module.Model.second_form.items()}
    more = {"second_form": second_form, "further": module.Model.further}
    if name in CLASSED:
        split, more["relevance"] = EVERY_CLASS, "label"
    corpus = load(folder, split, module.Model.reads, inputs, **more)
    torch.manual_seed(0)
    return module.Model(module.Settings(**settings), corpus.context).train(), corpus


def take(
    model: base.Model,
    ready: list[base.Batch],
    optimisers: dict[str, torch.optim.Optimizer],
    autocast: torch.dtype | None = None,
) -> None:
    """The bare steps: forward, backward, clipping and update of each optimiser, on batches in memory."""
    device, clip = next(model.parameters()).device.type, model.settings.clip
    for batch in ready:
        for turn, optimiser in optimisers.items():
            with torch.autocast(device, autocast, enabled=autocast is not None):
                loss = model.loss(batch, 0.0, turn)["loss"]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            own = [p for group in optimiser.param_groups for p in group["params"]]
            if clip and model.settings.clip_by == "norm":
                torch.nn.utils.clip_grad_norm_(own, clip)
            elif clip:
                torch.nn.utils.clip_grad_value_(own, clip)
            optimiser.step()


def measured(folder: Path, name: str, steps: int) -> dict:
    """Seconds of `steps` of the loop and of their bare forward, backward and step."""
    from lightning_fabric import Fabric

    model, corpus = built(name, folder, "10pct-5cap", **SYSTEMS[name], epoch_steps=steps)
    prepare(model, corpus)
    stage = model.stages()[-1]
    model.begin(stage)
    sampling = getattr(model.settings, "sampling", "shuffled")
    captions = getattr(model.settings, "captions_per_image", 1)
    given = {"steps": steps, "sampling": sampling, "captions_per_image": captions}
    stream = batches(corpus, model.settings.batch_size, 0, 0, model.unannotated, **given)
    ready = list(islice(stream, steps))  # an epoch of data with classes has more
    limit = Limit(steps)
    bare_optimisers = model.optimisers(stage)
    fabric = Fabric(accelerator="cpu", devices=1)
    optimisers = {turn: fabric.setup_optimizers(one) for turn, one in model.optimisers(stage).items()}

    def ours() -> None:
        _epoch(fabric, model, corpus, optimisers, stage, 0, 0, limit)

    return alternate({"bare": lambda: take(model, ready, bare_optimisers), "ours": ours}, 5, time.process_time)


def main() -> None:
    torch.set_num_threads(1)
    chosen = [name for name in sys.argv[1:] if name in SYSTEMS] or list(SYSTEMS)
    steps = 4 if "--small" in sys.argv else STEPS
    about = {"steps": steps, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder))
        for name in chosen:
            seconds = measured(Path(folder), name, steps)
            share = seconds["bare"] / seconds["ours"]
            rate = steps / seconds["ours"]
            print(
                f"training {name}: {100 * share:.1f} % of the bare loop's steps per second ({rate:.1f} steps/s)",
                flush=True,
            )
            if steps == STEPS:
                found = earlier(file_of("training"), about) | {name: {"seconds": seconds, "share_of_bare": share}}
                save("training", {**about, "systems": found})


def earlier(path: Path, about: dict) -> dict:
    """The systems of an earlier result with the same facts `about` it; none if there is no such result."""
    saved = read_json(path) if path.exists() else {}
    same = all(saved.get(key) == value for key, value in about.items())
    return {name: value for name, value in saved.get("systems", {}).items() if name in SYSTEMS} if same else {}


if __name__ == "__main__":
    main()
