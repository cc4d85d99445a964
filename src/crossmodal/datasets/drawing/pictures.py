"""Pictures, short videos and meshes of the objects of the five-modality world."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from crossmodal.datasets.drawing import animals, render, things
from crossmodal.datasets.drawing.classes import KINDS, NAMES, Instance
from crossmodal.datasets.drawing.scenery import HEIGHT, WIDTH, background
from crossmodal.datasets.drawing.solids import Part, joined, turn
from crossmodal.datasets.drawing.work import pick

FAMILIES = {**animals.FAMILIES, **things.FAMILIES}
SCALE = 2  # pictures are drawn larger by this factor and scaled down, for smooth edges
VIDEO_WIDTH, VIDEO_HEIGHT = 160, 128
FRAMES_A_SECOND = 12
_SHARE = {"small": 0.5, "large": 0.75}  # size of an object relative to the picture's height
_FLAT = ("violin", "guitar", "flute")  # seen from above rather than from the side


def parts(what: Instance, beat: float) -> list[Part]:
    """The solids of an object at a `beat` of its motion; its proportions are the same at each beat."""
    rng = what.rng(1)
    return FAMILIES[what.kind](lambda low, high: float(rng.uniform(low, high)), beat)


def _camera(kind: str, rng: np.random.Generator) -> np.ndarray:
    yaw = rng.uniform(-0.9, 0.9) + (math.pi if rng.random() < 0.5 else 0.0)
    if kind in _FLAT:
        return render.view(yaw, rng.uniform(0.5, 1.3), rng.uniform(-0.8, 0.8))
    return render.view(yaw, rng.uniform(0.0, 0.5), rng.normal(0, 0.08))


def _finish(image: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """The image scaled down to `size`, with random brightness, saturation and blur, as if taken by some camera."""
    image = image.resize(size, Image.Resampling.BOX)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.2))
    image = ImageEnhance.Color(image).enhance(rng.uniform(0.6, 1.2))
    blur = rng.uniform(-0.8, 1.1)
    return image.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.3 else image


def picture(what: Instance) -> Image.Image:
    """RGB picture (`WIDTH` x `HEIGHT`) of an object on a background, sometimes with smaller objects around it."""
    rng = what.rng(2)
    image = background(rng, what.place, WIDTH, HEIGHT, SCALE)
    full = HEIGHT * SCALE
    for _ in range(int(rng.choice([0, 1, 2], p=[0.7, 0.25, 0.05]))):
        other = pick(rng, [name for name in NAMES if name != what.kind])
        solid = FAMILIES[other](lambda low, high: float(rng.uniform(low, high)), float(rng.uniform()))
        paint = render.paints(pick(rng, KINDS[other].colours), rng)
        place = (rng.uniform(0.12, 0.88) * WIDTH * SCALE, rng.uniform(0.3, 0.85) * full)
        camera = _camera(other, rng)
        render.draw(image, solid, paint, camera=camera, centre=place, size=full * rng.uniform(0.16, 0.3))
    size = _SHARE[what.size] * rng.uniform(0.8, 1.2) * full
    place = (rng.uniform(0.34, 0.66) * WIDTH * SCALE, rng.uniform(0.42, 0.62) * full)
    paint = render.paints(what.colour, rng)
    camera = _camera(what.kind, rng)
    render.draw(image, parts(what, float(rng.uniform())), paint, camera=camera, centre=place, size=size)
    return _finish(image, rng, (WIDTH, HEIGHT))


def mesh(what: Instance) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) vertices and (F, 3) faces of an object, with random yaw, slight tilt, stretch, noise and scale."""
    rng = what.rng(3)
    vertices, faces = joined(parts(what, float(rng.uniform())))
    askew = turn("x", rng.normal(0, 0.1)) @ turn("y", rng.normal(0, 0.1)) @ turn("z", rng.uniform(0, 2 * math.pi))
    stretch = rng.uniform(0.72, 1.3, 3)
    jitter = rng.normal(0, rng.uniform(0, 0.008), vertices.shape)  # simulates the noise of a 3D scan
    return (vertices * stretch + jitter) @ askew.T * rng.uniform(0.5, 20), faces


# -- motion -----------------------------------------------------------------------------------------------------------


def _course(kind: str, t: float, speed: float, phase: float) -> tuple[float, ...]:
    """Position (right, up) in heights of the picture, yaw, pitch and roll in radians, and beat, after t seconds."""
    turns = speed * t + phase
    wave = math.sin(2 * math.pi * turns)
    half = abs(math.sin(math.pi * turns))
    ahead = speed * (t - 1.0)
    return {
        "dog": (0.22 * ahead, 0.03 * half, 0, 0, 0.05 * wave, 1.4 * turns),
        "wolf": (0.2 * ahead, 0.02 * half, 0, 0, 0.03 * wave, 1.2 * turns),
        "cat": (0.09 * ahead, 0.008 * half, 0, 0, 0, 0.7 * turns),
        "horse": (0.3 * ahead, 0.07 * half, 0, 0, 0.1 * wave, 1.3 * turns),
        "elephant": (0.06 * ahead, 0.012 * half, 0.04 * wave, 0, 0, 0.5 * turns),
        "bird": (0.3 * ahead, 0.08 * math.sin(2 * turns) + 0.02 * wave, 0, 0, 0.1 * wave, 2.5 * turns),
        "owl": (0.03 * ahead, 0.005 * wave, 0, 0, 0, 0.4 * turns),
        "frog": (0.16 * math.floor(turns) * 0.8 + 0.16 * half - 0.2, 0.26 * max(0.0, wave), 0, 0, 0.3 * wave, turns),
        "bee": (0.14 * math.sin(3.1 * turns) + 0.04 * wave, 0.12 * math.sin(4.3 * turns), math.sin(2 * turns), 0, 0,
                5.3 * turns),
        "car": (0.42 * ahead, 0.004 * wave, 0.05 * ahead, 0, 0, turns),
        "motorcycle": (0.5 * ahead, 0.006 * wave, 0.25 * ahead, 0.25 * math.sin(turns), 0.02 * wave, turns),
        "train": (0.3 * ahead, 0.003 * wave, 0, 0, 0, turns),
        "airplane": (0.35 * ahead, 0.14 * ahead, 0, 0.25 * math.sin(turns), -0.3, 2.7 * turns),
        "helicopter": (0.05 * math.sin(turns), 0.08 * math.sin(1.3 * turns), 0.5 * math.sin(0.8 * turns), 0,
                       0.06 * wave, 2.3 * turns),
        "boat": (0.09 * ahead, 0.025 * wave, 0, 0, 0.12 * math.sin(2 * math.pi * turns * 0.6), 0),
        "drum": (0, 0.008 * half, 0, 0, 0.01 * wave, 1.5 * turns),
        "bell": (0.02 * wave, 0, 0.1, 0, 0, 0.8 * turns),
        "violin": (0.01 * wave, 0.01 * math.sin(turns), 0, 0.05 * wave, 0.1 * math.sin(2 * turns), turns),
        "guitar": (0.006 * wave, 0.004 * half, 0, 0.03 * wave, 0.05 * math.sin(turns), 1.5 * turns),
        "flute": (0.012 * math.sin(2 * turns), 0.015 * math.sin(turns), 0, 0, 0.14 * math.sin(2 * turns), 1.3 * turns),
    }[kind]  # fmt: skip


def frames(what: Instance, shortest: float = 1.5, longest: float = 3.0) -> Iterator[np.ndarray]:
    """Yield (`VIDEO_HEIGHT`, `VIDEO_WIDTH`, 3) uint8 pictures of a moving object, `FRAMES_A_SECOND` per second.

    Parameters
    ----------
    shortest, longest : range of the duration in seconds.
    """
    rng = what.rng(4)
    width, height = VIDEO_WIDTH * SCALE, VIDEO_HEIGHT * SCALE
    count = int(rng.uniform(shortest, longest) * FRAMES_A_SECOND)
    margin = 16
    behind = background(rng, what.place, VIDEO_WIDTH + 2 * margin, VIDEO_HEIGHT + 2 * margin, SCALE)
    camera = _camera(what.kind, rng)
    paint = render.paints(what.colour, rng)
    size = _SHARE[what.size] * rng.uniform(0.75, 1.05) * height
    speed, phase = rng.uniform(0.6, 1.5), rng.uniform(0, 1)
    pan, shake = rng.uniform(-0.05, 0.05, 2), rng.uniform(0, 0.006)
    where = np.array([rng.uniform(0.42, 0.58), rng.uniform(0.45, 0.6)])
    first = np.concatenate([part.vertices for part in parts(what, phase)]) @ camera.T
    unit = size / max(float(np.ptp(first[:, 0])), float(np.ptp(first[:, 2])), 1e-6)
    origin = (first.max(0) + first.min(0)) / 2
    facing = 1.0 if (camera @ [1.0, 0, 0])[0] > 0 else -1.0
    gain, grain = rng.uniform(0.8, 1.15), rng.uniform(1, 7)
    for k in range(count):
        t = k / FRAMES_A_SECOND
        right, up, yaw, pitch, roll, beat = _course(what.kind, t, speed, phase)
        drift = pan * (t - 1) + rng.normal(0, shake, 2)
        corner = np.clip(margin * SCALE + drift * height, 0, 2 * margin * SCALE).astype(int)
        image = behind.crop((*corner, corner[0] + width, corner[1] + height))
        solid = [part.moved(turn=turn("z", yaw) @ turn("x", pitch) @ turn("y", -roll)) for part in parts(what, beat)]
        centre = (
            where[0] * width + facing * right * height - drift[0] * height - origin[0] * unit,
            where[1] * height - up * height - drift[1] * height + origin[2] * unit,
        )
        render.draw(image, solid, paint, camera=camera, centre=centre, size=size, unit=unit)
        frame = np.asarray(image.resize((VIDEO_WIDTH, VIDEO_HEIGHT), Image.Resampling.BOX), float)
        yield np.clip(frame * gain + rng.normal(0, grain, (VIDEO_HEIGHT, VIDEO_WIDTH, 1)), 0, 255).astype(np.uint8)
