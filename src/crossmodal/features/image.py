"""Global image features: the input of the classifier (the penultimate layer) of any torchvision network."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from crossmodal.core import pictures
from crossmodal.core.pictures import read
from crossmodal.features.engine.extraction import Given, Recipe, Work
from crossmodal.features.networks import backbones
from crossmodal.features.networks.backbones import MEAN, STD

log = logging.getLogger(__name__)


def crop_inside(settings: Any) -> Any:
    """Return `settings` after checking that a square of `crop` pixels fits in a short side of `resize`.

    Raises
    ------
    ValueError : the crop is larger than the resized picture.
    """
    if settings.crop > settings.resize:
        raise ValueError(f"crop: {settings.crop} pixels do not fit in a short side of {settings.resize} (`resize`)")
    return settings


class Settings(backbones.Settings):
    """Settings of the extractor; the defaults are VSE++'s transform (short side 256, centre crop 224, unit norm)."""

    resize: int = Field(256, ge=8, description="length of the short side in pixels; the aspect ratio is kept")
    crop: int = Field(224, ge=8, description="side of the square crop in pixels")
    crops: Literal["center", "ten"] = Field(
        "center",
        description="crops of an image; ten: the four corners and the centre, and their mirror images, whose "
        "features are averaged",
    )
    l2: bool = Field(True, description="whether features are scaled to unit length; those of ten crops after averaging")
    batch_size: int = Field(16, ge=1, description="number of crops per forward pass of one thread")

    _inside = model_validator(mode="after")(crop_inside)

    @property
    def batch(self) -> int:
        """Number of images per batch."""
        return max(1, self.batch_size // 10) if self.crops == "ten" else self.batch_size


def decode(path: Path, settings: Settings) -> Tensor:
    """(3, H, W) uint8 crop of the picture in a file, or (10, 3, H, W) with `crops: ten`.

    Raises
    ------
    UserError : for the same reasons as `pictures.read`.
    """
    return transform(read(path), settings)


def transform(picture: Image.Image, settings: Settings) -> Tensor:
    """(3, H, W) uint8 crop of an RGB picture, or (10, 3, H, W) with `crops: ten`."""
    ten = settings.crops == "ten"
    squares = [pil_to_tensor(crop) for crop in pictures.crops(picture, settings.resize, settings.crop, ten=ten)]
    return torch.stack(squares) if ten else squares[0]


@torch.inference_mode()
def forward(model: nn.Module, pixels: Tensor, settings: Settings, device: torch.device, precision: str) -> Tensor:
    """Map (B, C, H, W) or (B, 10, C, H, W) uint8 pixels to (B, D) float32 features."""
    out = model(backbones.normalised(pixels.flatten(0, -4), device, precision)).float().flatten(1)
    if settings.crops == "ten":
        out = out.view(len(pixels), 10, -1).mean(1)
    return nn.functional.normalize(out, dim=1) if settings.l2 else out


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the (N, D) features of images.

    Raises
    ------
    UserError : an image or the weights cannot be read.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, facts = backbones.build(settings)
    _check_transform(settings)
    return Recipe(
        lambda listed: work(model, settings, device, [item.path for item in listed]),
        described(settings, facts),
        packages=("torchvision", "pillow"),
    )


def described(settings: Settings, facts: dict[str, Any]) -> dict[str, Any]:
    """Describe, for the manifest, what the features depend on besides the settings.

    Parameters
    ----------
    facts : the description of the weights from `networks.build`.
    """
    return {
        "network": settings.network,
        **facts,
        "layer": "input of the classifier",
        "transform": {
            "resize": settings.resize,
            "crop": settings.crop,
            "crops": "center" if settings.crops == "center" else "ten, averaged before the norm",
            "interpolation": "bilinear, antialiased",
            "mean": MEAN,
            "std": STD,
            "exif": "ignored",
        },
    }


def work(model: nn.Module, settings: Settings, device: torch.device, paths: list[Path]) -> Work:
    """How to read images and compute their features.

    Parameters
    ----------
    model : a network without its classifier.
    paths : images of which the first good ones are used to try bf16.
    """
    run, facts = runner(model, settings, device, [lambda path=path: decode(path, settings) for path in paths])
    return Work(
        lambda item: decode(item.path, settings),
        lambda pixels: run(torch.stack(pixels)).numpy(),
        settings.batch,
        facts,
    )


def runner(
    model: nn.Module, settings: Settings, device: torch.device, probes: list[Callable[[], Tensor]]
) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """A function from pixels to features in main memory, and the precision and device it runs with.

    Parameters
    ----------
    probes : functions that each read the crops of one image, on which bf16 is tried.
    """
    probe = cache(lambda: _probe(probes, settings))
    net, precision = backbones.ready(model, settings, device, lambda net, p: forward(net, probe(), settings, device, p))
    in_turn = backbones.in_turn(device, lambda batch: forward(net, batch, settings, device, precision).cpu())

    def run(batch: Tensor) -> Tensor:
        """Compute one batch: on the CPU in the calling thread, on a GPU in turn with the batches of other threads."""
        return in_turn(batch.pin_memory() if device.type == "cuda" else batch)

    return run, {"precision": precision, "device": device.type}


def _probe(probes: list[Callable[[], Tensor]], settings: Settings) -> Tensor:
    """(`PROBE`, ...) crops of the first images that can be read, or noise if too few can."""
    tensors = backbones.first_readable(probes, lambda load: load())
    if len(tensors) == backbones.PROBE:
        return torch.stack(tensors)
    shape = (backbones.PROBE, *((10,) if settings.crops == "ten" else ()), 3, settings.crop, settings.crop)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _check_transform(settings: Settings) -> None:
    names = torchvision.models.get_model_weights(settings.network)
    if settings.weights not in names.__members__:
        return
    preset = names[settings.weights].transforms()
    made_for = (preset.resize_size[0], preset.crop_size[0])
    if (settings.resize, settings.crop) != made_for:
        values = (settings.network, settings.weights, *made_for, settings.resize, settings.crop)
        log.warning("%s: %s was measured with resize %d and crop %d; the settings say %d and %d", *values)
