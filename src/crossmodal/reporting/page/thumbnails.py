"""Thumbnails of items, which a page embeds as data URIs: images, sounds, videos and renderings of meshes.

Sounds become MP3 and videos H.264, which every browser plays; both are cut after a few seconds. A file that cannot be
read is logged and left out.
"""

from __future__ import annotations

import base64
import io
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossmodal.core import isolation
from crossmodal.core.errors import UserError

log = logging.getLogger(__name__)

HEIGHT = 112  # pixels of an image or video
LONG = 2**16  # pixels of a side that no photograph has
SECONDS = 5.0  # of a sound or video
FILM_RATE = 10  # frames per second
SOUND_RATE = 22_050
SOUND_RATES = (8000, 11_025, 12_000, 16_000, SOUND_RATE, 24_000)  # MP3's rates that suit speech and noises
BARS = 56
MOST_FACES = 60_000


@dataclass(frozen=True)
class Medium:
    """Data URIs of an item's picture and, for sounds and videos, of what the page plays; None where there is none."""

    picture: str | None = None
    player: str | None = None


def medium(path: Path, modality: str) -> Medium:
    """The thumbnail of an item's file; an empty one, with a line in the log, for a file that cannot be read."""
    makers = {"image": _image, "audio": _sound, "video": _film, "mesh": _mesh}
    try:
        with isolation.holding(path):
            return makers[modality](path)
    except Exception as error:  # what broken files raise is not documented, and one item must not end a page
        log.warning("%s: no thumbnail: %s", path, error or type(error).__name__)
        return Medium()


def picture(path: Path, height: int) -> tuple[str, int, int] | None:
    """The data URI of an image of this height, and its file's width and height in pixels.

    None, with a line in the log, for a file that cannot be read.
    """
    from crossmodal.core import pictures

    try:
        with isolation.holding(path):
            image = pictures.read(path)
            return _jpeg(image, height), image.width, image.height
    except Exception as error:  # as in `medium`
        log.warning("%s: no picture: %s", path, error or type(error).__name__)
        return None


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _jpeg(image: Any, height: int = HEIGHT) -> str:
    from PIL import Image

    width = max(1, round(image.width * height / image.height))
    # The weights of a row of millions of pixels would take more than the picture, which is therefore thinned out first.
    gap = 3.0 if max(image.size) > LONG else None
    small = image.resize((min(width, height * 3), height), Image.Resampling.LANCZOS, reducing_gap=gap)
    small.info.clear()  # Pillow would keep the comment of the source
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return _uri("image/jpeg", stream.getvalue())


def _image(path: Path) -> Medium:
    from crossmodal.core import pictures

    with pictures.opened(path) as image:
        image.draft("RGB", (HEIGHT * 4, HEIGHT * 2))
        return Medium(_jpeg(pictures.rgb(image, path)))


def _sound(path: Path) -> Medium:
    """The beginning of a sound as MP3, with the outline of its wave as the picture."""
    import soundfile

    from crossmodal.core import sounds
    from crossmodal.features import audio

    wave, rate = sounds.read(path)
    wave = wave[: int(SECONDS * rate)]
    if rate not in SOUND_RATES:
        wave, rate = audio.resampled(wave, rate, SOUND_RATE), SOUND_RATE
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(wave, -1, 1), rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.7)
    return Medium(_outline(wave), _uri("audio/mpeg", stream.getvalue()))


def _outline(wave: np.ndarray) -> str:
    loud = [float(np.abs(part).max(initial=0)) for part in np.array_split(wave, BARS)]
    highest = max(loud) or 1.0
    heights = [max(1.0, 40 * value / highest) for value in loud]
    bars = "".join(f"M{3 * i + 1.5:g} {20 - h / 2:.1f}v{h:.1f}" for i, h in enumerate(heights))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {3 * BARS} 40"><path d="{bars}" stroke="#5f86cf" '
    return _uri("image/svg+xml", (svg + 'stroke-width="1.6" stroke-linecap="round"/></svg>').encode())


def _film(path: Path) -> Medium:
    """The beginning of a video with at most `FILM_RATE` frames per second, of which the middle one is the picture."""
    from PIL import Image

    from crossmodal.core import films
    from crossmodal.datasets.drawing.media import mp4

    frames, due = [], 0.0
    try:
        with films.opened(path) as (container, stream):
            first = None
            for frame in films.frames(path, container, stream):
                now = float(frame.time or 0.0)
                first = now if first is None else first
                if now - first >= SECONDS:
                    break
                if now - first + 1e-6 >= due:
                    width = min(HEIGHT * 3, max(2, round(frame.width * HEIGHT / frame.height / 2) * 2))
                    frames.append(frame.to_ndarray(format="rgb24", width=width, height=HEIGHT))
                    due += 1 / FILM_RATE
    except films.UNREADABLE as error:
        raise UserError(f"cannot be decoded ({films.reason(error)})") from None
    if not frames:
        raise UserError("holds no frames")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "film.mp4"
        mp4(target, frames, FILM_RATE, "libx264")
        return Medium(_jpeg(Image.fromarray(frames[len(frames) // 2])), _uri("video/mp4", target.read_bytes()))


def _mesh(path: Path, size: int = 2 * HEIGHT) -> Medium:
    """A rendering of a mesh, seen from the front, above and right, with z upwards as in most 3D collections.

    It is lit from the viewer's left, and faces that lie behind are painted first.
    """
    from PIL import Image, ImageDraw

    from crossmodal.features import mesh

    vertices, faces = mesh.normalised(*mesh.read(path))
    if len(faces) > MOST_FACES:
        raise UserError(f"{len(faces):,} faces; pictures are drawn of at most {MOST_FACES:,}")
    turn, tilt = np.radians(35), np.radians(25)
    around = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    over = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    points = (vertices[:, [0, 2, 1]] * [1, 1, -1]) @ (over @ around).T  # to the right, upwards, to the viewer
    corners = points[faces]  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    normals *= np.where(normals[:, 2:] < 0, -1, 1)  # both sides are lit: meshes in the wild are turned either way
    light = np.array([-0.45, 0.55, 0.7]) / np.linalg.norm([-0.45, 0.55, 0.7])
    shade = 0.35 + 0.65 * np.clip(normals @ light, 0, 1)
    colours = (shade[:, None] * np.array([150, 178, 224])).astype(int)
    middle = (points.max(0) + points.min(0)) / 2
    scale = 0.92 * size / max(float(np.ptp(points[:, :2], axis=0).max()), 1e-9)
    flat = (corners[:, :, :2] - middle[:2]) * np.array([scale, -scale]) + size / 2
    image = Image.new("RGBA", (size, size))
    draw = ImageDraw.Draw(image)
    for face in np.argsort(corners[:, :, 2].mean(1)):
        colour = (*colours[face].tolist(), 255)
        draw.polygon([tuple(point) for point in flat[face]], fill=colour, outline=colour)
    stream = io.BytesIO()
    image.resize((HEIGHT, HEIGHT), Image.Resampling.LANCZOS).save(stream, "PNG", optimize=True)
    return Medium(_uri("image/png", stream.getvalue()))
