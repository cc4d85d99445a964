"""Global image features: the layer before the classifier of any torchvision network."""

from __future__ import annotations

import logging
import threading
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image, ImageFile
from pydantic import Field, model_validator
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode, center_crop, pil_to_tensor, resize, ten_crop

from crossmodal.errors import UserError
from crossmodal.features import extraction, networks
from crossmodal.features.extraction import Item, Work
from crossmodal.features.networks import MEAN, STD

log = logging.getLogger(__name__)

ImageFile.LOAD_TRUNCATED_IMAGES = False  # half a photograph is an error, whatever another library has set


class Settings(networks.Settings):
    """The defaults are the published transform of VSE++ (short side 256, centre crop 224, unit norm)."""

    resize: int = Field(256, ge=8, description="short side in pixels, the aspect kept")
    crop: int = Field(224, ge=8, description="side of the square crop in pixels")
    crops: Literal["center", "ten"] = Field("center", description="ten: corners, centre, mirrors; their mean")
    l2: bool = Field(True, description="unit length; of ten crops, after their mean")
    batch_size: int = Field(16, ge=1, description="crops in a forward pass of one thread")

    @model_validator(mode="after")
    def _inside(self) -> Settings:
        if self.crop > self.resize:
            raise ValueError(f"crop: {self.crop} pixels do not fit in a short side of {self.resize} (`resize`)")
        return self

    @property
    def batch(self) -> int:
        """Images of a batch."""
        return max(1, self.batch_size // 10) if self.crops == "ten" else self.batch_size


def decode(path: Path, settings: Settings) -> Tensor:
    """(C, H, W) uint8 crop, or (10, C, H, W).

    Grey, palette, alpha and CMYK become RGB; an EXIF orientation is ignored, as the published pipelines do.

    Raises
    ------
    UserError : a file that is missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"{path}: not found; complete the image folder and run again") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: is truncated or no image ({error}); fetch it again") from None
    picture = resize(picture, settings.resize, InterpolationMode.BILINEAR)
    if settings.crops == "ten":
        return torch.stack([pil_to_tensor(crop) for crop in ten_crop(picture, settings.crop)])
    return pil_to_tensor(center_crop(picture, settings.crop))


@torch.inference_mode()
def forward(model: nn.Module, pixels: Tensor, settings: Settings, device: torch.device, precision: str) -> Tensor:
    """(B, C, H, W) or (B, 10, C, H, W) uint8 -> (B, D) float32 features."""
    batch = pixels.flatten(0, -4).to(device, non_blocking=True).float().div_(255)
    batch = batch.sub_(batch.new_tensor(MEAN)[:, None, None]).div_(batch.new_tensor(STD)[:, None, None])
    batch = batch.to(memory_format=torch.channels_last)
    out = model(batch.bfloat16() if precision == "bf16" else batch)
    out = out.float().flatten(1)
    if settings.crops == "ten":
        out = out.view(len(pixels), 10, -1).mean(1)
    return nn.functional.normalize(out, dim=1) if settings.l2 else out


def extract(
    items: pd.DataFrame,
    root: Path,
    settings: Settings,
    target: Path,
    *,
    threads: int,
    modality: str = "image",
    store: Path | None = None,
) -> None:
    """Features (N, D) of every item of a modality; see `extraction.extract`.

    Raises
    ------
    UserError : a bad image or bad weights; shards that are finished stay, and the next call goes on from them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, facts = networks.build(settings)
    _check_transform(settings)

    def begin(listed: list[Item]) -> Work:
        return work(model, settings, device, [item.path for item in listed])

    depends = {
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
    extraction.extract(
        items,
        root,
        settings,
        target,
        extractor="image",
        modality=modality,
        threads=threads,
        depends=depends,
        begin=begin,
        packages=("torchvision", "pillow"),
        store=store,
    )


def work(model: nn.Module, settings: Settings, device: torch.device, paths: list[Path]) -> Work:
    """How images are read and computed with a network without its classifier; `paths` holds some to try bf16 on."""
    probe = cache(lambda: _probe(paths, settings))
    run, precision = networks.ready(model, settings, device, lambda net, p: forward(net, probe(), settings, device, p))
    turn = threading.Lock()

    def compute(pixels: list[Tensor]) -> np.ndarray:
        """On the CPU each thread runs its own batch; on a GPU the threads decode and the batches take turns."""
        batch = torch.stack(pixels)
        if device.type != "cuda":
            return forward(run, batch, settings, device, precision).numpy()
        batch = batch.pin_memory()
        with turn:
            return forward(run, batch, settings, device, precision).cpu().numpy()

    facts = {"precision": precision, "device": device.type}
    return Work(lambda item: decode(item.path, settings), compute, settings.batch, facts)


def _probe(paths: list[Path], settings: Settings) -> Tensor:
    """The first good images; noise where there is none, since bad images are not told of here."""
    found = []
    for path in paths[: 50 * networks.PROBE]:
        try:
            found.append(decode(path, settings))
        except UserError:
            continue
        if len(found) == networks.PROBE:
            return torch.stack(found)
    shape = (networks.PROBE, *((10,) if settings.crops == "ten" else ()), 3, settings.crop, settings.crop)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _check_transform(settings: Settings) -> None:
    names = torchvision.models.get_model_weights(settings.network)
    if settings.weights not in names.__members__:
        return
    preset = names[settings.weights].transforms()
    made_for = (preset.resize_size[0], preset.crop_size[0])
    if (settings.resize, settings.crop) != made_for:
        told = (settings.network, settings.weights, *made_for, settings.resize, settings.crop)
        log.warning("%s: %s was measured with resize %d and crop %d; the settings say %d and %d", *told)
