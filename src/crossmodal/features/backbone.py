"""Trains the small network whose weights are committed as `world`: the embedded stand-in for ImageNet's.

It learns to name what is drawn (class with colour, class with size, class with place, background) on scenes of a seed
that no data set uses, from scratch.
"""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torchvision
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from crossmodal.datasets import world
from crossmodal.features.image import MEAN, STD
from crossmodal.files import library_versions, sha256_file, whole, write_json

log = logging.getLogger(__name__)


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str = "shufflenet_v2_x1_0"
    seed: int = Field(7919, description="of the scenes; no data set may have it")
    images: int = 6000
    held_out: int = 400
    epochs: int = 14
    batch_size: int = 64
    lr: float = 2e-3
    resize: int = 128
    crop: int = 128


def targets(what: world.Scene) -> np.ndarray:
    """0/1 vector: class x colour, class x size, class x place of the things, then the background."""
    kinds, colours = list(world.CLASSES), list(world.COLOURS)
    sizes, places, backgrounds = list(world.SIZES), list(world.PLACES), list(world.BACKGROUNDS)
    tables = [np.zeros((len(kinds), len(values)), np.float32) for values in (colours, sizes, places)]
    for thing in what.things:
        kind = kinds.index(thing.kind)
        tables[0][kind, colours.index(thing.colour)] = 1
        tables[1][kind, sizes.index(thing.size)] = 1
        tables[2][kind, places.index(thing.place)] = 1
    behind = np.zeros(len(backgrounds), np.float32)
    behind[backgrounds.index(what.background)] = 1
    return np.concatenate([*(table.ravel() for table in tables), behind])


def _sample(settings: Settings, index: int) -> tuple[np.ndarray, np.ndarray]:
    image, what = world.draw_scene(settings.seed, index)
    return pil_to_tensor(center_crop(resize(image, settings.resize), settings.crop)).numpy(), targets(what)


def train(settings: Settings, target: Path, *, threads: int) -> None:
    """Train and write `target` (safetensors, float16, no classifier) and a manifest beside it."""
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("forkserver")) as pool:
        drawn = list(pool.map(partial(_sample, settings), range(settings.images + settings.held_out), chunksize=64))
    pixels = torch.from_numpy(np.stack([p for p, _ in drawn]))
    labels = torch.from_numpy(np.stack([t for _, t in drawn]))
    model = torchvision.models.get_model(settings.network, weights=None, num_classes=labels.shape[1])
    model = model.to(memory_format=torch.channels_last)
    steps = settings.epochs * -(-settings.images // settings.batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, total_steps=steps)
    for epoch in range(settings.epochs):
        began, total = time.perf_counter(), 0.0
        model.train()
        for picks in torch.randperm(settings.images).split(settings.batch_size):
            # A shift of a few pixels; no mirroring and no change of colour, which captions speak of.
            shift = torch.randint(-6, 7, (2,)).tolist()
            batch = torch.roll(_normalised(pixels[picks]), shift, (2, 3))
            loss = (
                nn.functional.binary_cross_entropy_with_logits(model(batch), labels[picks], reduction="none")
                .sum(1)
                .mean()
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(picks)
        log.info("epoch %d: loss %.3f (%.0f s)", epoch + 1, total / settings.images, time.perf_counter() - began)
    accuracy = _accuracy(model, pixels[settings.images :], labels[settings.images :])
    log.info("held out: %s", accuracy)
    from safetensors.torch import save_file

    head = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    state = {
        k: v.half().contiguous() if v.is_floating_point() else v
        for k, v in model.state_dict().items()
        if not k.startswith(f"{head}.") and not k.endswith("num_batches_tracked")
    }
    with whole(target) as temporary:
        save_file(state, temporary)
    write_json(
        target.with_suffix(".json"),
        {
            "settings": settings.model_dump(),
            "held_out_accuracy": accuracy,
            "sha256": sha256_file(target),
            "threads": threads,
            "versions": library_versions("torch", "torchvision", "pillow", "numpy"),
        },
    )


def _normalised(pixels: Tensor) -> Tensor:
    batch = pixels.float().div_(255)
    batch = batch.sub_(batch.new_tensor(MEAN)[:, None, None]).div_(batch.new_tensor(STD)[:, None, None])
    return batch.to(memory_format=torch.channels_last)


@torch.inference_mode()
def _accuracy(model: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of held-out scenes' labels that are found (the right number of best-scored ones), per kind of label."""
    model.eval()
    logits = torch.cat([model(_normalised(part)) for part in pixels.split(100)])
    n = len(world.CLASSES)
    widths = [n * len(world.COLOURS), n * len(world.SIZES), n * len(world.PLACES), len(world.BACKGROUNDS)]
    found = {}
    for name, score, truth in zip(
        ("class_colour", "class_size", "class_place", "background"),
        logits.split(widths, 1),
        labels.split(widths, 1),
        strict=True,
    ):
        order = score.argsort(1, descending=True).argsort(1)
        hit = ((order < truth.sum(1, keepdim=True)) & (truth > 0)).sum() / truth.sum()
        found[name] = round(float(hit), 4)
    return found
