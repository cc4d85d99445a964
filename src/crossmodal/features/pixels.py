"""Thumbnails (N, 3, S, S) of 8 bits per value, the targets of models that reconstruct images."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from torchvision.transforms.functional import pil_to_tensor

from crossmodal.core import pictures
from crossmodal.features.engine import extraction
from crossmodal.features.engine.extraction import Given, Item, Recipe, Work
from crossmodal.features.image import crop_inside


class Settings(extraction.Settings):
    """Settings of the extractor.

    The defaults are the size of DCGAN's images; with 256 and 256, crops for the image networks can be cut from them.
    """

    resize: int = Field(64, ge=8, description="length of the short side in pixels; the aspect ratio is kept")
    crop: int = Field(64, ge=8, description="side of the square crop in pixels")
    dtype: Literal["uint8"] = Field("uint8", description="type of the numbers of the stored array")

    _inside = model_validator(mode="after")(crop_inside)


def recipe(settings: Settings, given: Given) -> Recipe:
    """Recipe for the RGB pixels (N, 3, S, S) of images.

    Raises
    ------
    UserError : the modality is not image, or an image cannot be read.
    """
    extraction.expect("image", given.modality, "pixels")

    def load(item: Item) -> np.ndarray:
        return pil_to_tensor(pictures.middle(pictures.read(item.path), settings.resize, settings.crop)).numpy()

    return Recipe(
        lambda listed: Work(load, np.stack, 16),
        {"transform": {"interpolation": "bilinear, antialiased", "crop": "center", "exif": "ignored"}},
        packages=("torchvision", "pillow"),
    )
