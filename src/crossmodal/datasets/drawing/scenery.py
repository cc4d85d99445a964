"""Elements of drawn pictures: colours, backgrounds, and flat outlines of simple objects."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

WIDTH, HEIGHT = 176, 144
SCALE = 3  # pictures are drawn larger by this factor and scaled down, for smooth edges

COLOURS: dict[str, tuple[tuple[int, int, int], tuple[str, ...]]] = {
    "red": ((214, 40, 40), ("red", "crimson", "scarlet")),
    "orange": ((244, 140, 30), ("orange", "amber")),
    "yellow": ((246, 214, 50), ("yellow", "golden")),
    "green": ((44, 150, 62), ("green", "emerald")),
    "blue": ((36, 88, 206), ("blue", "azure", "navy")),
    "purple": ((136, 56, 168), ("purple", "violet")),
    "white": ((246, 246, 246), ("white", "snowy")),
    "black": ((28, 28, 32), ("black", "dark", "ebony")),
}
BACKGROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[str, ...]]] = {
    "meadow": ((178, 222, 240), (134, 184, 104), ("on a meadow", "on the grass", "in a field")),
    "beach": ((196, 228, 240), (232, 208, 156), ("on the beach", "on sand", "at the shore")),
    "sea": ((206, 230, 246), (84, 152, 186), ("at sea", "on the water", "in the ocean")),
    "night": ((44, 46, 84), (70, 72, 104), ("at night", "in the dark", "after sunset")),
    "snow": ((206, 216, 228), (236, 240, 246), ("in the snow", "on a winter day")),
    "room": ((222, 200, 184), (168, 124, 92), ("in a room", "indoors", "on a wooden floor")),
}

Points = list[tuple[float, float]]


def outlines(kind: str) -> list[tuple[str, Points]]:
    """(role, outline) of the shapes of a class in the unit square, in the order of painting.

    A role names a paint (such as main, dark or light), or is `hole`, through which the background shows.
    """
    if kind == "star":
        spikes = [(0.5 if i % 2 == 0 else 0.21, math.pi * i / 5 - math.pi / 2) for i in range(10)]
        return [("main", [(0.5 + r * math.cos(a), 0.52 + r * math.sin(a)) for r, a in spikes])]
    if kind == "tree":
        return [
            ("dark", [(0.43, 0.78), (0.57, 0.78), (0.57, 1), (0.43, 1)]),
            ("main", [(0.5, 0), (0.76, 0.36), (0.24, 0.36)]),
            ("main", [(0.5, 0.2), (0.84, 0.6), (0.16, 0.6)]),
            ("main", [(0.5, 0.42), (0.92, 0.84), (0.08, 0.84)]),
        ]
    if kind == "house":
        return [
            ("main", [(0.12, 0.45), (0.88, 0.45), (0.88, 1), (0.12, 1)]),
            ("dark", [(0.5, 0.02), (1, 0.48), (0, 0.48)]),
            ("light", [(0.42, 0.68), (0.6, 0.68), (0.6, 1), (0.42, 1)]),
            ("light", [(0.2, 0.56), (0.36, 0.56), (0.36, 0.72), (0.2, 0.72)]),
        ]
    if kind == "car":
        return [
            (
                "main",
                [(0, 0.5), (0.18, 0.46), (0.32, 0.24), (0.7, 0.24), (0.84, 0.46), (1, 0.52), (1, 0.74), (0, 0.74)],
            ),
            ("light", [(0.26, 0.46), (0.36, 0.3), (0.49, 0.3), (0.49, 0.46)]),
            ("light", [(0.54, 0.46), (0.54, 0.3), (0.66, 0.3), (0.76, 0.46)]),
            ("black", circle(0.24, 0.74, 0.13)),
            ("black", circle(0.76, 0.74, 0.13)),
        ]
    if kind == "boat":
        return [
            ("main", [(0, 0.68), (1, 0.68), (0.8, 0.98), (0.2, 0.98)]),
            ("dark", [(0.47, 0.02), (0.52, 0.02), (0.52, 0.68), (0.47, 0.68)]),
            ("light", [(0.56, 0.06), (0.94, 0.6), (0.56, 0.6)]),
            ("main", [(0.43, 0.16), (0.43, 0.6), (0.14, 0.6)]),
        ]
    if kind == "fish":
        return [
            ("dark", [(0.7, 0.5), (1, 0.22), (0.94, 0.5), (1, 0.78)]),
            ("main", [(0.4 + 0.4 * math.cos(a), 0.5 + 0.26 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 40)]),
            ("dark", [(0.36, 0.25), (0.56, 0.1), (0.6, 0.3)]),
            ("eye", circle(0.18, 0.44, 0.05)),
        ]
    if kind == "flower":
        petals = [
            ("main", circle(0.5 + 0.22 * math.cos(a), 0.32 + 0.22 * math.sin(a), 0.15))
            for a in np.arange(0, 2 * math.pi, math.pi / 3)
        ]
        stem = [
            ("stem", [(0.47, 0.4), (0.53, 0.4), (0.53, 1), (0.47, 1)]),
            ("stem", [(0.5, 0.86), (0.82, 0.62), (0.74, 0.84)]),
        ]
        return [*stem, *petals, ("light", circle(0.5, 0.32, 0.11))]
    if kind == "cup":
        return [
            ("dark", circle(0.8, 0.52, 0.2)),
            ("hole", circle(0.8, 0.52, 0.1)),
            ("main", [(0.08, 0.16), (0.8, 0.16), (0.72, 0.94), (0.16, 0.94)]),
            ("dark", [(0.44 + 0.36 * math.cos(a), 0.16 + 0.08 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 30)]),
        ]
    if kind == "heart":
        t = np.linspace(0, 2 * math.pi, 60)
        x = 16 * np.sin(t) ** 3
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return [("main", list(zip(0.5 + x / 34, 0.45 - y / 34, strict=True)))]
    if kind == "moon":
        outer = [(0.5 + 0.48 * math.cos(a), 0.5 + 0.48 * math.sin(a)) for a in np.linspace(0.9, 2 * math.pi - 0.9, 40)]
        inner = [(0.68 + 0.40 * math.cos(a), 0.5 + 0.40 * math.sin(a)) for a in np.linspace(2 * math.pi - 1.2, 1.2, 40)]
        return [("main", outer + inner)]
    if kind == "arrow":
        return [("main", [(0, 0.38), (0.55, 0.38), (0.55, 0.14), (1, 0.5), (0.55, 0.86), (0.55, 0.62), (0, 0.62)])]
    if kind == "umbrella":
        top = [(0.5 + 0.5 * math.cos(a), 0.5 + 0.46 * math.sin(a)) for a in np.linspace(math.pi, 2 * math.pi, 40)]
        hook = [(0.57 + 0.1 * math.cos(a), 0.88 + 0.1 * math.sin(a)) for a in np.linspace(0, math.pi, 12)]
        inner = [(0.57 + 0.05 * math.cos(a), 0.88 + 0.05 * math.sin(a)) for a in np.linspace(math.pi, 0, 12)]
        scallops = [("hole", circle(x, 0.53, 0.1)) for x in (0.17, 0.39, 0.61, 0.83)]
        return [
            ("main", top),
            *scallops,
            ("dark", [(0.47, 0.4), (0.52, 0.4), (0.52, 0.88), (0.47, 0.88)]),
            ("dark", hook + inner),
        ]
    if kind == "key":
        return [
            ("main", circle(0.22, 0.5, 0.22)),
            ("hole", circle(0.2, 0.5, 0.1)),
            ("main", [(0.4, 0.44), (1, 0.44), (1, 0.56), (0.4, 0.56)]),
            ("main", [(0.7, 0.5), (0.78, 0.5), (0.78, 0.76), (0.7, 0.76)]),
            ("main", [(0.9, 0.5), (1, 0.5), (1, 0.8), (0.9, 0.8)]),
        ]
    if kind == "kite":
        return [
            ("main", [(0.5, 0), (0.84, 0.34), (0.5, 0.8), (0.16, 0.34)]),
            ("dark", [(0.5, 0), (0.84, 0.34), (0.5, 0.34)]),
            ("dark", [(0.16, 0.34), (0.5, 0.34), (0.5, 0.8)]),
            ("light", [(0.49, 0.8), (0.6, 0.88), (0.46, 0.94), (0.56, 1), (0.4, 0.94), (0.53, 0.88)]),
        ]
    if kind == "box":
        return [
            ("main", [(0.04, 0.3), (0.7, 0.3), (0.7, 0.98), (0.04, 0.98)]),
            ("light", [(0.04, 0.3), (0.3, 0.04), (0.96, 0.04), (0.7, 0.3)]),
            ("dark", [(0.7, 0.3), (0.96, 0.04), (0.96, 0.72), (0.7, 0.98)]),
        ]
    return [("main", circle(0.5, 0.5, 0.48)), ("light", circle(0.36, 0.34, 0.1)), ("dark", _arc_band())]


def circle(x: float, y: float, r: float) -> Points:
    """The outline of a circle with the centre (x, y) and the radius r."""
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 40)]


def _arc_band() -> Points:
    outer = [(0.5 + 0.48 * math.cos(a), 0.5 + 0.48 * math.sin(a)) for a in np.linspace(0.1, math.pi - 0.6, 30)]
    inner = [(0.44 + 0.42 * math.cos(a), 0.42 + 0.42 * math.sin(a)) for a in np.linspace(math.pi - 0.7, 0.2, 30)]
    return outer + inner


def shade(colour: np.ndarray, factor: float) -> tuple[int, int, int]:
    """A colour lightened towards white (factor 0 to 1) or darkened towards black (factor -1 to 0)."""
    target = 255.0 if factor > 0 else 0.0
    return tuple(int(v) for v in np.clip(colour + (target - colour) * abs(factor), 0, 255))


def background(
    rng: np.random.Generator, name: str, width: int = WIDTH, height: int = HEIGHT, scale: int = SCALE
) -> Image.Image:
    """A background of `BACKGROUNDS` with a horizon and noise, of `width * scale` x `height * scale` pixels."""
    upper, lower, _ = BACKGROUNDS[name]
    horizon = rng.uniform(0.42, 0.62)
    rows = np.linspace(0, 1, height)[:, None, None]
    fade = np.where(rows < horizon, 1 - 0.25 * rows / horizon, 0.9 + 0.15 * (rows - horizon) / (1 - horizon))
    base = np.where(rows < horizon, np.array(upper, float), np.array(lower, float)) * fade
    coarse = rng.normal(0, 9, (height // 8 + 1, width // 8 + 1, 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    field = base + coarse + rng.normal(0, 5, (height, width, 3)) + rng.normal(0, 6, (1, 1, 3))
    image = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    return image.resize((width * scale, height * scale), Image.Resampling.BILINEAR)
