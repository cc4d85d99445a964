"""Opens all images: it defines which formats are read, how large images may be, and the range of their values.

Pillow detects the format by a file's content, whatever its name, and a PostScript file would start Ghostscript.
Therefore only the usual formats of photographs are tried.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, features

from crossmodal.core import isolation, limits
from crossmodal.core.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF")
LEAST_SIDE = 4  # pixels
ROWS = 2**20  # values that are scaled at once
SCANS = 100  # of a progressive JPEG: each goes over the whole picture, though a few bytes may state it
HEAVY = dict.fromkeys(("AVIF", "WEBP", "progressive CMYK"), 2)
"""How many times as much memory as others some kinds of pictures take while they are decoded."""
BYTES = {"JPEG": 5, "MPO": 5, "progressive": 8, "CMYK": 9, "progressive CMYK": 12, "AVIF": 15, "WEBP": 15}
"""Bytes of memory per pixel while a picture is decoded, by its kind; 8 for all others."""
TOGETHER = 2**29  # bytes of memory for the pictures that threads decode at once; a picture alone may take more
ROOMLESS = 2**24  # bytes below which a picture waits for none
THIN = 16  # ratio of the sides above which a picture is not scaled as a whole
BITS, PHOTOMETRIC, TILE = 258, 262, (322, 323)  # TIFF's tags
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")

# Pillow does not document what it raises for broken files; its own plugins raise these.
BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError),
    *(ArithmeticError, RuntimeError, MemoryError, RecursionError, NotImplementedError, struct.error),
    Image.DecompressionBombError,
)

ImageFile.LOAD_TRUNCATED_IMAGES = False  # a truncated image is an error, whatever another library has set
Image.MAX_IMAGE_PIXELS = None  # `limits.pixels` replaces Pillow's own limit


@cache
def _formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that Pillow was built with."""
    Image.init()
    lacking = {name.upper() for name in ("webp", "avif") if not features.check(name)}
    return tuple(name for name in FORMATS if name in Image.OPEN and name not in lacking)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture after checking its size and format; it is not decoded yet.

    Raises
    ------
    UserError : the file is missing, no picture of `FORMATS`, too small or too large, or (inside the `with` block) turns
        out to be damaged.
    """
    try:
        with isolation.holding(path), Image.open(path, formats=_formats()) as image:
            _check_size(path, *image.size, _kind(image))
            _check_work(path, image)
            with _room.taken(_memory(image)):
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


class _Room:
    """Lets as many threads decode at once as `TOGETHER` has room for, and one at least."""

    def __init__(self) -> None:
        self.changed, self.bytes, self.thread = threading.Condition(), 0, threading.local()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait for the room of a picture, and take it in a `with` block; a thread's second one waits for none."""
        if size < ROOMLESS or getattr(self.thread, "has_room", False):
            yield
            return
        with self.changed:
            self.changed.wait_for(lambda: not self.bytes or self.bytes + size <= TOGETHER)
            self.bytes += size
        self.thread.has_room = True
        try:
            yield
        finally:
            self.thread.has_room = False
            with self.changed:
                self.bytes -= size
                self.changed.notify_all()


_room = _Room()


def _memory(image: Image.Image) -> int:
    """About the bytes of memory that a picture takes while it is decoded and becomes RGB."""
    return image.width * image.height * BYTES.get(_kind(image), 8)


def _kind(image: Image.Image) -> str:
    """The format of a picture, or of a JPEG what makes it take more memory."""
    if image.format != "JPEG":
        return image.format or ""
    parts = ["progressive"] * bool(image.info.get("progressive")) + ["CMYK"] * (image.mode == "CMYK")
    return " ".join(parts) or image.format


def _check_size(path: Path, wide: int, high: int, kind: str = "") -> None:
    share = HEAVY.get(kind, 1)
    most = limits.current().pixels // share
    if min(wide, high) < LEAST_SIDE or wide * high > most:
        raise UserError(
            f"{path}: is {wide} x {high} pixels; expected at least {LEAST_SIDE} per side and at most "
            f"{most / 10**6:g} million in all (`limits.pixels` in params.yaml"
            f"{f', half of which for {kind}' if share > 1 else ''}); replace it, or scale it down"
        )


def _check_work(path: Path, image: Image.Image) -> None:
    """Refuse a picture whose parts take more time or memory than its size tells: TIFF's tiles, a JPEG's scans."""
    wide, high = (_tag(image, number, 0) for number in TILE)
    if wide * high > (most := limits.current().pixels):
        raise UserError(
            f"{path}: has tiles of {wide} x {high} pixels, expected at most {most / 10**6:g} million "
            "(`limits.pixels` in params.yaml); save it again without tiles"
        )
    if image.info.get("progressive") and (scans := path.read_bytes().count(b"\xff\xda")) > SCANS:
        raise UserError(f"{path}: has {scans:,} scans, expected at most {SCANS}; save it again")


def read(path: Path) -> Image.Image:
    """A picture in RGB with 8 bits per value.

    Grey, palette, alpha and CMYK images become RGB; 16-bit and float images are scaled by the range of their type. The
    EXIF orientation is ignored, as in published pipelines.

    Raises
    ------
    UserError : as `opened`; or the values have no known range.
    """
    with opened(path) as image:
        return rgb(image, path)


def rgb(image: Image.Image, path: Path) -> Image.Image:
    """An opened picture in RGB with 8 bits per value: 0 is black, and the highest value of its type is white.

    Unsigned integers range to the maximum of their bits (65,535 for 16 bits), and floats from 0 to 1.

    Raises
    ------
    UserError : the values are signed or 32-bit integers, whose white is unknown, or floats outside of 0 to 1.
    """
    if image.mode in SIXTEEN:
        bits = _tag(image, BITS, 16)
        return _scaled(image, path, 2 ** min(bits, 16) - 1).convert("RGB")
    if image.mode == "F":
        return _scaled(image, path, 1.0).convert("RGB")
    if image.mode == "I":
        raise UserError(
            f"{path}: holds signed or 32-bit integers (mode {image.mode!r}), whose white is not known; save it with 8 "
            "or 16 bits per value"
        )
    if image.mode == "RGB":
        image.load()  # `convert` would copy it
        return image
    return image.convert("RGB")


def _tag(image: Image.Image, number: int, usual: int) -> int:
    """The first value of a TIFF tag; `usual` for other formats, or where the tag is missing."""
    value: Any = getattr(image, "tag_v2", {}).get(number, usual)
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if isinstance(value, int) else usual


def _scaled(image: Image.Image, path: Path, white: float) -> Image.Image:
    """A grey picture of one channel, scaled from 0 ... `white` to 0 ... 255 in 8 bits, some rows at a time."""
    values = np.asarray(image)
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, ROWS // values.shape[1])
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float32)
        if not ((part >= 0) & (part <= white)).all():  # NaN fails both comparisons
            low, high = float(part.min()), float(part.max())
            raise UserError(
                f"{path}: holds numbers from {low:g} to {high:g} (mode {image.mode!r}); expected 0 (black) to "
                f"{white:g} (white): scale them, or save the picture with 8 or 16 bits per value"
            )
        grey[start : start + rows] = np.rint(part * np.float32(255 / white))
    if _tag(image, PHOTOMETRIC, 1) == 0:  # 0 is white; Pillow inverts 8-bit pictures only
        np.subtract(255, grey, out=grey)
    return Image.fromarray(grey)


# -- scaled and cut ---------------------------------------------------------------------------------------------------


def middle(picture: Image.Image, short: int, side: int) -> Image.Image:
    """The central square of `side` pixels of a picture whose short side is scaled to `short`."""
    return crops(picture, short, side, ten=False)[0]


def crops(picture: Image.Image, short: int, side: int, *, ten: bool) -> list[Image.Image]:
    """Square crops of a picture whose short side is scaled to `short`, bilinearly, antialiased, with its aspect ratio.

    They equal torchvision's `resize` followed by `center_crop` or `ten_crop`. Of a picture that is many times longer
    than wide only the crops are scaled, since a file of some kilobytes could otherwise take gigabytes.

    Parameters
    ----------
    side : pixels of a side of the crops, at most `short`.
    ten : whether to take the four corners, the centre, and the same of the mirrored picture, or the centre only.
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
