"""What drawn worlds of captioned pictures share: their partitions, and their files in Karpathy's layout."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from crossmodal.core.errors import UserError
from crossmodal.core.files import atomic_write
from crossmodal.datasets.drawing.work import clear

FEWEST = 20  # training images


class Sizes(Protocol):
    """Settings that say how many images there are, and how many of them are for validation and for the test."""

    images: int
    val: int
    test: int


def partitions(settings: Sizes) -> dict[str, range]:
    """{partition: the numbers of its images}."""
    train = settings.images - settings.val - settings.test
    return {
        "train": range(train),
        "val": range(train, train + settings.val),
        "test": range(train + settings.val, settings.images),
    }


def check_sizes(settings: Sizes, dataset: str) -> None:
    """Check that enough images are left for training.

    Raises
    ------
    UserError : there are fewer than `FEWEST`.
    """
    if len(partitions(settings)["train"]) < FEWEST:
        raise UserError(
            f"params.yaml: datasets.{dataset}.images: {settings.images} images less {settings.val} for validation "
            f"and {settings.test} for the test leave fewer than {FEWEST} to train on; raise `images` or lower the "
            "others"
        )


def clear_images(folder: Path, images: int) -> None:
    """Create the folder of pictures; remove those beyond the last one, and half-written files.

    Raises
    ------
    UserError : the folder cannot be written.
    """
    clear(folder, partial(_left_over, images=images))


def _left_over(name: str, images: int) -> bool:
    drawn = re.fullmatch(r"(\d{6})\.jpg", name)
    return bool((drawn and int(drawn[1]) >= images) or re.fullmatch(r"\.\d{6}\.jpg\.\d+\.part", name))


def write_picture(image: Image.Image, folder: Path, index: int) -> None:
    """Write the picture of an index as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    with atomic_write(folder / f"{index:06d}.jpg") as temporary:
        temporary.write_bytes(buffer.getvalue())


def entries(captions: Sequence[Sequence[str]], parts: Mapping[str, range]) -> list[dict[str, Any]]:
    """The images and their sentences, in Karpathy's layout.

    Parameters
    ----------
    captions : those of each image, in the order of the images.
    parts : as `partitions` returns them.
    """
    split_of = {index: name for name, indices in parts.items() for index in indices}
    listed, sentence = [], 0
    for index, texts in enumerate(captions):
        sentences = []
        for raw in texts:
            words = raw.lower().replace(",", " ").rstrip(".").split()
            sentences.append({"raw": raw, "tokens": words, "imgid": index, "sentid": sentence})
            sentence += 1
        ids = [fields["sentid"] for fields in sentences]
        entry = {"filename": f"{index:06d}.jpg", "imgid": index, "split": split_of[index], "sentids": ids}
        listed.append({**entry, "sentences": sentences})
    return listed
