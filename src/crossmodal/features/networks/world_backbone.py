"""Training of the small network whose weights are committed as `world`, the stand-in for weights trained on ImageNet.

The network is trained from scratch on drawn scenes of a seed that no data set uses. It predicts, from the pooled
feature, which labels a scene has (combinations of class with colour, size and place, ...) and, from the cell of the
last feature map in which an object lies, the class, colour and size of that object. The network of another drawn world
is trained by the same rule, with the labels of that world (`Labelling`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torchvision
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor, resize

from crossmodal.core.files import atomic_write, hardware, library_versions, sha256_file, write_json
from crossmodal.datasets import world
from crossmodal.features.networks.backbones import MEAN, STD, read_state

log = logging.getLogger(__name__)

KINDS, COLOURS, SIZES = list(world.CLASSES), list(world.COLOURS), list(world.SIZES)
PLACES, BACKGROUNDS = list(world.PLACES), list(world.BACKGROUNDS)
TABLES = {
    "class_colour": len(KINDS) * len(COLOURS),
    "class_size": len(KINDS) * len(SIZES),
    "class_place": len(KINDS) * len(PLACES),
    "place_colour": len(PLACES) * len(COLOURS),
    "class": len(KINDS),
    "colour": len(COLOURS),
    "background": len(BACKGROUNDS),
}
"""Number of labels of each kind that are predicted from the pooled feature."""
PARTS = (len(KINDS), len(COLOURS), len(SIZES))  # numbers of labels that are predicted of an object
MOST = 3  # maximum number of objects in a scene
STRIDE = 32  # side of a cell of the last feature map in pixels
MARGIN = 6  # maximum shift of a picture in pixels


class Settings(BaseModel):
    """Settings of the training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["shufflenet_v2_x1_0"] = "shufflenet_v2_x1_0"
    seed: int = Field(
        7919, description="seed of the scenes, the initial weights and the order; no data set may have the same"
    )
    images: int = Field(8000, ge=1)
    held_out: int = Field(400, ge=1, description="number of further scenes on which the accuracy is measured")
    epochs: int = Field(12, ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(3e-3, gt=0, description="highest learning rate of the one-cycle schedule")
    crop: int = Field(
        128,
        ge=STRIDE,
        description="lengths in pixels of the short side of the picture and of the side of the square crop",
    )


class Sample(NamedTuple):
    """A drawn scene with its labels."""

    pixels: np.ndarray  # (3, crop, wide) uint8, short side `crop`
    labels: np.ndarray  # (L,) 0/1, the labels of all `TABLES` concatenated
    things: np.ndarray  # (MOST, 3) class, colour, size of each object; -1 if there is none
    centres: np.ndarray  # (MOST, 2) row and column of each object's middle, in pixels of `pixels`


class Labelling(NamedTuple):
    """What a network learns of a drawn world."""

    sample: Callable[[Any, int], Sample]  # the training sample of a scene, by the settings and its index
    tables: dict[str, int]  # number of labels of each kind that are predicted from the pooled feature
    parts: tuple[int, int, int]  # numbers of classes, colours and sizes, which are predicted of each object
    start: Path | None = None  # weights from which the training starts; None: random ones


def labels(what: world.Scene) -> np.ndarray:
    """0/1 vector (L,) of what a scene holds, in the order of `TABLES`."""
    rows = {name: np.zeros(size, np.float32) for name, size in TABLES.items()}
    for thing in what.things:
        kind, colour = KINDS.index(thing.kind), COLOURS.index(thing.colour)
        size, place = SIZES.index(thing.size), PLACES.index(thing.place)
        rows["class_colour"][kind * len(COLOURS) + colour] = 1
        rows["class_size"][kind * len(SIZES) + size] = 1
        rows["class_place"][kind * len(PLACES) + place] = 1
        rows["place_colour"][place * len(COLOURS) + colour] = 1
        rows["class"][kind] = rows["colour"][colour] = 1
    rows["background"][BACKGROUNDS.index(what.background)] = 1
    return np.concatenate(list(rows.values()))


def sample(settings: Settings, index: int) -> Sample:
    """The training sample of scene `index` of the settings' seed."""
    image, what = world.draw_scene(settings.seed, index)
    pixels = pil_to_tensor(resize(image, settings.crop)).numpy()
    scale = pixels.shape[1] / image.height
    things, centres = np.full((MOST, 3), -1, np.int64), np.zeros((MOST, 2), np.float32)
    for n, thing in enumerate(what.things):
        things[n] = KINDS.index(thing.kind), COLOURS.index(thing.colour), SIZES.index(thing.size)
        left, top, right, bottom = thing.box
        centres[n] = (top + bottom) / 2 * scale, (left + right) / 2 * scale
    return Sample(pixels, labels(what), things, centres)


WORLD = Labelling(sample, TABLES, PARTS)


class Trainee(nn.Module):
    """The network with one head on its pooled feature and another, `cells`, on the cells of its last feature map."""

    def __init__(self, settings: Settings, share: Tensor, labelling: Labelling) -> None:
        super().__init__()
        self.network = torchvision.models.get_model(settings.network, weights=None)
        width = self.network.fc.in_features
        self.network.fc = nn.Identity()
        if labelling.start is not None:
            self.network.load_state_dict(read_state(labelling.start), strict=False)
        self.pooled = nn.Linear(width, sum(labelling.tables.values()))
        with torch.no_grad():  # the bias starts from each label's frequency, since most labels are rare
            self.pooled.bias.copy_(torch.logit(share.clamp(1e-3, 1 - 1e-3)))
        self.cells = nn.Linear(width, sum(labelling.parts))

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Map pictures (B, 3, H, W) to the last feature map (B, C, h, w) and the logits of the labels (B, L)."""
        net = self.network
        for part in (net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4, net.conv5):
            batch = part(batch)
        return batch, self.pooled(batch.mean((2, 3)))


def train(settings: Settings, target: Path, *, threads: int, labelling: Labelling = WORLD) -> None:
    """Train and write the weights `target` (safetensors, float16, no classifier) and a manifest `.json` beside them.

    The same settings, threads and library versions give the same bytes on the same processor.

    Raises
    ------
    UserError : the target cannot be written.
    """
    began = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    pixels, truth, things, centres = drawn(settings, threads, labelling.sample)
    n = settings.images
    model = Trainee(settings, truth[:n].mean(0), labelling).to(memory_format=torch.channels_last)
    steps = settings.epochs * -(-n // settings.batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, total_steps=steps, pct_start=0.2)
    for epoch in range(settings.epochs):
        start, totals = time.perf_counter(), torch.zeros(2)
        model.train()
        for picks in torch.randperm(n).split(settings.batch_size):
            # Pictures are shifted but neither mirrored nor recoloured, since captions name places and colours.
            down, right = torch.randint(-MARGIN, MARGIN + 1, (2,)).tolist()
            batch, corner = shifted_crop(pixels[picks], settings.crop, down, right)
            last, logits = model(normalised(batch))
            whole_loss = nn.functional.binary_cross_entropy_with_logits(logits, truth[picks], reduction="sum")
            part_loss = cell_loss(model.cells, last, things[picks], centres[picks] - corner, labelling.parts)
            loss = (whole_loss + part_loss) / len(picks)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            totals += torch.stack([whole_loss.detach(), part_loss.detach()])
        progress = (epoch + 1, settings.epochs, *(totals / n).tolist(), time.perf_counter() - start)
        log.info("epoch %d of %d: loss %.2f pooled, %.2f of cells (%.0f s)", *progress)
    from safetensors.torch import save_file

    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    model.network.load_state_dict(state, strict=False)  # the stored float16 weights are the ones measured
    accuracy = _accuracy(model, shifted_crop(pixels[n:], settings.crop, 0, 0)[0], truth[n:], labelling.tables)
    log.info("held out: %s", accuracy)
    with atomic_write(target) as temporary:
        save_file(state, temporary)
    write_json(
        target.with_suffix(".json"),
        {
            "settings": settings.model_dump(),
            "held_out_accuracy": accuracy,
            "sha256": sha256_file(target),
            "threads": threads,
            "seconds": round(time.perf_counter() - began),
            "hardware": hardware(),
            "versions": library_versions("torch", "torchvision", "pillow", "numpy"),
        },
    )


def drawn(settings: Any, workers: int, sample: Callable[[Any, int], tuple[np.ndarray, ...]]) -> tuple[Tensor, ...]:
    """Stacked samples of all scenes, drawn once; the last `held_out` are not trained on.

    Parameters
    ----------
    settings : they have the numbers of `images` and of those that are `held_out`.
    workers : number of processes.
    sample : the arrays of a scene, by the settings and its index.
    """
    indices = range(settings.images + settings.held_out)
    if workers == 1:
        samples = [sample(settings, index) for index in indices]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
            samples = list(pool.map(partial(sample, settings), indices, chunksize=64))
    return tuple(torch.from_numpy(np.stack(column)) for column in zip(*samples, strict=True))


def shifted_crop(pixels: Tensor, side: int, down: int, right: int) -> tuple[Tensor, Tensor]:
    """The middle square shifted by (down, right) pixels, and the (row, column) of its corner.

    Pixels outside the picture repeat its edge.
    """
    height, width = pixels.shape[-2:]
    top, left = (height - side) // 2 + down, (width - side) // 2 + right
    rows = (torch.arange(side) + top).clamp(0, height - 1)
    columns = (torch.arange(side) + left).clamp(0, width - 1)
    return pixels[:, :, rows][:, :, :, columns], torch.tensor([top, left], dtype=torch.float32)


def cell_loss(
    head: nn.Linear,
    last: Tensor,
    things: Tensor,
    centres: Tensor,
    sizes: tuple[int, ...] = PARTS,
    stride: int = STRIDE,
) -> Tensor:
    """Sum over objects of the cross-entropies of class, colour and size, predicted from the cell of its middle.

    Parameters
    ----------
    last : (B, C, h, w) last feature map.
    things : (B, MOST, 3) class, colour and size of each object.
    centres : (B, MOST, 2) row and column of each object's middle in pixels.
    sizes : numbers of classes, colours and sizes.
    stride : side of a cell in pixels.
    """
    scene, slot = (things[:, :, 0] >= 0).nonzero(as_tuple=True)
    row, column = (centres[scene, slot] / stride).long().clamp(min=0).unbind(1)
    row, column = row.clamp(max=last.shape[2] - 1), column.clamp(max=last.shape[3] - 1)
    logits = head(last[scene, :, row, column])  # (objects, classes + colours + sizes)
    parts = logits.split(list(sizes), 1)
    chosen = things[scene, slot].unbind(1)
    losses = [nn.functional.cross_entropy(p, c, reduction="sum") for p, c in zip(parts, chosen, strict=True)]
    return torch.stack(losses).sum()


def normalised(pixels: Tensor) -> Tensor:
    """Normalise (B, 3, H, W) uint8 pixels by ImageNet's mean and standard deviation, as channels-last input."""
    batch = pixels.to(memory_format=torch.channels_last).float().div_(255)
    return batch.sub_(batch.new_tensor(MEAN)[:, None, None]).div_(batch.new_tensor(STD)[:, None, None])


@torch.inference_mode()
def _accuracy(model: Trainee, pixels: Tensor, truth: Tensor, tables: dict[str, int]) -> dict[str, float]:
    """R-precision per kind of label: the share of a scene's R labels that are among the R with the highest scores."""
    model.eval()
    logits = torch.cat([model(normalised(part))[1] for part in pixels.split(100)])
    sizes = list(tables.values())
    accuracy = {}
    for name, score, right in zip(tables, logits.split(sizes, 1), truth.split(sizes, 1), strict=True):
        rank = score.argsort(1, descending=True).argsort(1)
        hit = ((rank < right.sum(1, keepdim=True)) & (right > 0)).sum() / right.sum()
        accuracy[name] = round(float(hit), 4)
    return accuracy
