"""The one opener of pictures: which formats are opened, how large they may be, and what their numbers mean.

Pillow tells a format by a file's content, whatever its name; a PostScript file would start Ghostscript. Only the
formats that photographs come in are tried.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, features

from crossmodal import isolation, limits
from crossmodal.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF")
LEAST_SIDE = 4  # pixels
ROWS = 2**20  # values that are scaled at a time
THIN = 16  # times its short side, above which a scaled picture is not made whole
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF's tags
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")

# What broken files make Pillow raise is not documented; these are what its own plugins do.
BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError),
    *(ArithmeticError, RuntimeError, MemoryError, RecursionError, NotImplementedError, struct.error),
    Image.DecompressionBombError,
)

ImageFile.LOAD_TRUNCATED_IMAGES = False  # half a photograph is an error, whatever another library has set
Image.MAX_IMAGE_PIXELS = None  # Pillow's own warning; `limits.pixels` is ours


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that Pillow was built with."""
    Image.init()
    lacking = {name.upper() for name in ("webp", "avif") if not features.check(name)}
    return tuple(name for name in FORMATS if name in Image.OPEN and name not in lacking)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose size and format are known and which is not decoded yet.

    Raises
    ------
    UserError : a file that is missing or no picture of `FORMATS`, one too small or too large; inside of the `with`
        one that turns out to be damaged.
    """
    try:
        with isolation.holding(path), Image.open(path, formats=_formats()) as image:
            _check_size(path, *image.size)
            yield image
    except FileNotFoundError:
        raise UserError(f"{path}: not found; complete the image folder and run again") from None
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); change its permissions") from None
    except Image.UnidentifiedImageError:
        raise UserError(
            f"{path}: is truncated or no image of a format that is opened ({', '.join(_formats())}); convert it or "
            "fetch it again"
        ) from None
    except BROKEN as error:
        raise UserError(f"{path}: is truncated or no image ({error or type(error).__name__}); fetch it again") from None


def _check_size(path: Path, wide: int, high: int) -> None:
    most = limits.current().pixels
    if min(wide, high) < LEAST_SIDE or wide * high > most:
        raise UserError(
            f"{path}: is {wide} x {high} pixels; expected at least {LEAST_SIDE} a side and at most "
            f"{most / 10**6:g} million in all (`limits.pixels` in params.yaml); replace it, or scale it down"
        )


def read(path: Path) -> Image.Image:
    """A picture in RGB, of 8 bits a value.

    Grey, palette, alpha and CMYK become RGB; 16 bits and floats are scaled by the range of their type. An EXIF
    orientation is ignored, as published pipelines do.

    Raises
    ------
    UserError : as `opened`; numbers without a range that is known.
    """
    with opened(path) as image:
        return rgb(image, path)


def rgb(image: Image.Image, path: Path) -> Image.Image:
    """An opened picture in RGB, of 8 bits a value: 0 is black and the highest value of its type is white.

    The range of unsigned integers is that of their bits (65,535 of 16), of floats it is 0 to 1.

    Raises
    ------
    UserError : signed or 32-bit integers, whose white is not known; floats outside of 0 to 1 or not finite.
    """
    if image.mode in SIXTEEN:
        bits = _tag(image, BITS, 16)
        return _scaled(image, path, 2 ** min(bits, 16) - 1).convert("RGB")
    if image.mode == "F":
        return _scaled(image, path, 1.0).convert("RGB")
    if image.mode == "I":
        raise UserError(
            f"{path}: holds signed or 32-bit integers (mode {image.mode!r}), whose white is not known; save it with 8 "
            "or 16 bits a value"
        )
    return image.convert("RGB")


def _tag(image: Image.Image, number: int, usual: int) -> int:
    """The first value of a TIFF's tag; `usual` for another format, or where it is not told."""
    value: Any = getattr(image, "tag_v2", {}).get(number, usual)
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int) else usual


def _scaled(image: Image.Image, path: Path, white: float) -> Image.Image:
    """A grey picture of one channel, brought from 0 ... `white` to 0 ... 255 in 8 bits, some rows at a time."""
    values = np.asarray(image)
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, ROWS // values.shape[1])
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float32)
        if not ((part >= 0) & (part <= white)).all():  # a number that is none is neither
            low, high = float(part.min()), float(part.max())
            raise UserError(
                f"{path}: holds numbers from {low:g} to {high:g} (mode {image.mode!r}); expected 0 (black) to "
                f"{white:g} (white): scale them, or save the picture with 8 or 16 bits a value"
            )
        grey[start : start + rows] = np.rint(part * np.float32(255 / white))
    if _tag(image, PHOTOMETRIC, 1) == 0:  # white is 0; Pillow turns pictures of 8 bits alone
        np.subtract(255, grey, out=grey)
    return Image.fromarray(grey)


# -- scaled and cut ---------------------------------------------------------------------------------------------------


def middle(picture: Image.Image, short: int, side: int) -> Image.Image:
    """The square of `side` pixels in the middle of a picture whose short side is scaled to `short`."""
    return crops(picture, short, side, ten=False)[0]


def crops(picture: Image.Image, short: int, side: int, *, ten: bool) -> list[Image.Image]:
    """Squares of a picture whose short side is scaled to `short`, bilinearly and antialiased, the aspect kept.

    They are torchvision's `resize` and `center_crop` or `ten_crop`. Of a picture that is many times longer than wide no
    more than the squares is made: scaled whole, one of some kilobytes would take gigabytes.

    Parameters
    ----------
    side : of a square, at most `short`. ten : the corners, the middle, and those of the picture mirrored; else the
        middle alone.
    """
    wide, high = picture.size
    size = (short, int(short * high / wide)) if wide <= high else (int(short * wide / high), short)
    bilinear = Image.Resampling.BILINEAR
    thin = max(size) > THIN * short
    whole = picture if thin or size == picture.size else picture.resize(size, bilinear)

    def cut(left: int, top: int) -> Image.Image:
        box = (left, top, left + side, top + side)
        if not thin:
            return whole.crop(box)
        across, down = wide / size[0], high / size[1]
        return picture.resize((side, side), bilinear, (box[0] * across, box[1] * down, box[2] * across, box[3] * down))

    right, bottom = size[0] - side, size[1] - side
    centre = (round(right / 2.0), round(bottom / 2.0))
    if not ten:
        return [cut(*centre)]
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom), centre]
    mirrored = [cut(right - left, top).transpose(Image.Transpose.FLIP_LEFT_RIGHT) for left, top in places]
    return [*(cut(*place) for place in places), *mirrored]
