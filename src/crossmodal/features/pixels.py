"""Small square pictures (N, 3, S, S) of 8 bits a value: what a system that makes images anew compares with."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from torchvision.transforms.functional import pil_to_tensor

from crossmodal import pictures
from crossmodal.features import extraction
from crossmodal.features.extraction import Given, Item, Recipe, Work
from crossmodal.features.image import crop_inside


class Settings(extraction.Settings):
    """The defaults are the size of DCGAN's images; 256 and 256 give what crops for the image networks are cut from."""

    resize: int = Field(64, ge=8, description="short side in pixels, the aspect kept")
    crop: int = Field(64, ge=8, description="side of the square crop in pixels")
    dtype: Literal["uint8"] = Field("uint8", description="numbers of the stored array")

    _inside = model_validator(mode="after")(crop_inside)


def recipe(settings: Settings, given: Given) -> Recipe:
    """Pixels (N, 3, S, S) of images, red, green and blue.

    Raises
    ------
    UserError : another modality, a bad image.
    """
    extraction.expect("image", given.modality, "pixels")

    def load(item: Item) -> np.ndarray:
        return pil_to_tensor(pictures.middle(pictures.read(item.path), settings.resize, settings.crop)).numpy()

    return Recipe(
        lambda listed: Work(load, np.stack, 16),
        {"transform": {"interpolation": "bilinear, antialiased", "crop": "center", "exif": "ignored"}},
        packages=("torchvision", "pillow"),
    )
