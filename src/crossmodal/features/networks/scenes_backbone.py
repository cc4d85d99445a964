"""Training of a small network on the drawn scenes, by the rule of `world_backbone` (`crossmodal backbone --of scenes`).

The training starts from the weights `world`, which know the same outlines and colours. The network stands in for one
that was trained on ImageNet: it is asked which classes, colours and backgrounds a picture has, and what lies in each
cell of its last feature map, but its pooled feature is not asked which thing has which colour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field
from torchvision.transforms.functional import pil_to_tensor

from crossmodal.datasets.drawing.scene_layout import COUNTS, Scene, scene
from crossmodal.datasets.drawing.scene_things import KINDS, SIDE, SIZES, paint
from crossmodal.datasets.drawing.scenery import BACKGROUNDS, COLOURS
from crossmodal.datasets.drawing.work import generator
from crossmodal.features.networks import backbones, world_backbone
from crossmodal.features.networks.world_backbone import Labelling, Sample

TABLES = {"class": len(KINDS), "several": len(KINDS), "colour": len(COLOURS), "background": len(BACKGROUNDS)}
"""Number of labels of each kind that are predicted from the pooled feature; `several`: classes that repeat."""
MOST = max(COUNTS)  # maximum number of objects in a scene
_NUMBER = {name: n for names in (KINDS, COLOURS, SIZES, BACKGROUNDS) for n, name in enumerate(names)}


class Settings(world_backbone.Settings):
    """Settings of the training."""

    seed: int = Field(
        7927, description="seed of the scenes, the initial weights and the order; no data set may have the same"
    )
    images: int = Field(2000, ge=1)
    epochs: int = Field(5, ge=1)
    lr: float = Field(1e-3, gt=0, description="highest learning rate of the one-cycle schedule")
    crop: int = Field(SIDE, ge=world_backbone.STRIDE, description="side of the square crop in pixels")


def labels(what: Scene) -> np.ndarray:
    """0/1 vector (L,) of what a scene holds, in the order of `TABLES`."""
    rows = {name: np.zeros(size, np.float32) for name, size in TABLES.items()}
    for thing in what.things:
        kind = _NUMBER[thing.kind]
        rows["several"][kind] = rows["class"][kind]  # 1 from the second on
        rows["class"][kind] = rows["colour"][_NUMBER[thing.colour]] = 1
    rows["background"][_NUMBER[what.background]] = 1
    return np.concatenate(list(rows.values()))


def sample(settings: Settings, index: int) -> Sample:
    """The training sample of scene `index` of the settings' seed."""
    what = scene(settings.seed, 0, index)
    pixels = pil_to_tensor(paint(generator(settings.seed, 0, index, 1), what.things, what.background)).numpy()
    things, centres = np.full((MOST, 3), -1, np.int64), np.zeros((MOST, 2), np.float32)
    for n, thing in enumerate(what.things):
        things[n] = [_NUMBER[name] for name in (thing.kind, thing.colour, thing.size)]
        left, top, right, bottom = thing.box
        centres[n] = (top + bottom) / 2, (left + right) / 2
    return Sample(pixels, labels(what), things, centres)


LABELLING = Labelling(sample, TABLES, (len(KINDS), len(COLOURS), len(SIZES)), start=backbones.WORLD)


def train(settings: Settings, target: Path, *, threads: int) -> None:
    """Train and write the weights `target`, and a manifest `.json` beside them, as `world_backbone.train` does.

    Raises
    ------
    UserError : the target cannot be written.
    """
    world_backbone.train(settings, target, threads=threads, labelling=LABELLING)
