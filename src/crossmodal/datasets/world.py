"""The embedded world: scenes of simple things drawn from a seed, with captions from a grammar, in Karpathy's layout.

A scene has one to three objects, each of a class, a colour, a size and a place, before a background. A third of the
scenes copy an earlier one of their partition in all but one attribute, so that a model must see attributes. The five
captions of a scene leave out different things and use other words for the same.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import track

from crossmodal.datasets import items, karpathy
from crossmodal.errors import UserError
from crossmodal.files import reason, sha256_file, whole, write_text

WIDTH, HEIGHT = 176, 144
SCALE = 3  # drawn this much larger and scaled down, for smooth edges

CLASSES: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "sphere", "globe"),
    "box": ("box", "crate", "cube"),
    "star": ("star", "pentagram"),
    "tree": ("tree", "fir", "conifer"),
    "house": ("house", "cottage", "hut", "home"),
    "car": ("car", "automobile", "vehicle"),
    "boat": ("boat", "ship", "sailboat"),
    "fish": ("fish", "trout"),
    "flower": ("flower", "blossom", "bloom"),
    "cup": ("cup", "mug"),
    "heart": ("heart", "love symbol"),
    "moon": ("moon", "crescent"),
    "arrow": ("arrow", "pointer"),
    "umbrella": ("umbrella", "parasol"),
    "key": ("key", "latchkey"),
    "kite": ("kite", "diamond"),
}
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
SIZES: dict[str, tuple[float, tuple[str, ...]]] = {
    "small": (0.24, ("small", "tiny", "little")),
    "large": (0.44, ("large", "big", "huge")),
}
PLACES: dict[str, tuple[tuple[float, float], tuple[str, ...]]] = {
    "top left": ((0.22, 0.27), ("at the top left", "in the upper left corner")),
    "top right": ((0.78, 0.27), ("at the top right", "in the upper right corner")),
    "centre": ((0.50, 0.50), ("in the middle", "at the centre")),
    "bottom left": ((0.22, 0.74), ("at the bottom left", "in the lower left corner")),
    "bottom right": ((0.78, 0.74), ("at the bottom right", "in the lower right corner")),
}
BACKGROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[str, ...]]] = {
    "meadow": ((178, 222, 240), (134, 184, 104), ("on a meadow", "on the grass", "in a field")),
    "beach": ((196, 228, 240), (232, 208, 156), ("on the beach", "on sand", "at the shore")),
    "sea": ((206, 230, 246), (84, 152, 186), ("at sea", "on the water", "in the ocean")),
    "night": ((44, 46, 84), (70, 72, 104), ("at night", "in the dark", "after sunset")),
    "snow": ((206, 216, 228), (236, 240, 246), ("in the snow", "on a winter day")),
    "room": ((222, 200, 184), (168, 124, 92), ("in a room", "indoors", "on a wooden floor")),
}
DISTRACTORS = 1 / 3
CHUNK = 32  # scenes that a worker draws at a time
ALONE = 200  # scenes that one process draws sooner than others start


@dataclass(frozen=True)
class Thing:
    """An object of a scene; `box` is (left, top, right, bottom) in pixels once drawn."""

    kind: str
    colour: str
    size: str
    place: str
    box: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    background: str
    copies: int | None = None
    """Index of the scene that this one equals in all but one attribute."""


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(1, ge=0)
    images: int = Field(1500, ge=30)
    val: int = Field(200, ge=5, description="validation images, of `images`")
    test: int = Field(200, ge=5, description="test images, of `images`")


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _fresh(rng: np.random.Generator) -> Scene:
    count = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2]))
    background = _pick(rng, list(BACKGROUNDS))
    places = rng.permutation(list(PLACES))[:count]
    kinds = rng.permutation(list(CLASSES))[:count]
    things = []
    for kind, place in zip(kinds, places, strict=True):
        things.append(Thing(str(kind), _pick(rng, _visible(background)), _pick(rng, list(SIZES)), str(place)))
    return Scene(tuple(things), background)


def _visible(background: str) -> list[str]:
    """Colours that stand out: no black by night, no white in the snow."""
    return [c for c in COLOURS if (c, background) not in {("black", "night"), ("white", "snow")}]


def _variation(rng: np.random.Generator, scene: Scene, index: int) -> Scene:
    """`scene` with one attribute changed."""
    what = _pick(rng, ("colour", "colour", "kind", "size", "place", "background"))
    if what == "background":
        allowed = [
            b for b in BACKGROUNDS if b != scene.background and all(t.colour in _visible(b) for t in scene.things)
        ]
        return replace(scene, background=_pick(rng, allowed), copies=index)
    n = int(rng.integers(len(scene.things)))
    thing = scene.things[n]
    options = {
        "colour": [c for c in _visible(scene.background) if c != thing.colour],
        "kind": [k for k in CLASSES if k not in {t.kind for t in scene.things}],
        "size": [s for s in SIZES if s != thing.size],
        "place": [p for p in PLACES if p not in {t.place for t in scene.things}],
    }[what]
    changed = replace(thing, **{what: _pick(rng, options)})
    return Scene((*scene.things[:n], changed, *scene.things[n + 1 :]), scene.background, copies=index)


def scene(seed: int, index: int, first: int = 0) -> Scene:
    """Scene `index` of a seed, whatever else is drawn: a function of its arguments alone.

    Parameters
    ----------
    first : scenes before it are never copied (the start of a partition).
    """
    rng = _rng(seed, index, 0)
    fresh = _fresh(rng)
    if index > first and rng.random() < DISTRACTORS:
        other = int(rng.integers(max(first, index - 50), index))
        return _variation(rng, scene(seed, other, first), other)
    return fresh


# -- drawing ----------------------------------------------------------------------------------------------------------

Points = list[tuple[float, float]]


def _polygon(kind: str) -> list[tuple[str, Points]]:
    """Shapes of a class in the unit square: (role, outline), painted in order; roles are main, dark, light."""
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
            ("black", _circle(0.24, 0.74, 0.13)),
            ("black", _circle(0.76, 0.74, 0.13)),
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
            ("eye", _circle(0.18, 0.44, 0.05)),
        ]
    if kind == "flower":
        petals = [
            ("main", _circle(0.5 + 0.22 * math.cos(a), 0.32 + 0.22 * math.sin(a), 0.15))
            for a in np.arange(0, 2 * math.pi, math.pi / 3)
        ]
        stem = [
            ("stem", [(0.47, 0.4), (0.53, 0.4), (0.53, 1), (0.47, 1)]),
            ("stem", [(0.5, 0.86), (0.82, 0.62), (0.74, 0.84)]),
        ]
        return [*stem, *petals, ("light", _circle(0.5, 0.32, 0.11))]
    if kind == "cup":
        return [
            ("dark", _circle(0.8, 0.52, 0.2)),
            ("hole", _circle(0.8, 0.52, 0.1)),
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
        scallops = [("hole", _circle(x, 0.53, 0.1)) for x in (0.17, 0.39, 0.61, 0.83)]
        return [
            ("main", top),
            *scallops,
            ("dark", [(0.47, 0.4), (0.52, 0.4), (0.52, 0.88), (0.47, 0.88)]),
            ("dark", hook + inner),
        ]
    if kind == "key":
        return [
            ("main", _circle(0.22, 0.5, 0.22)),
            ("hole", _circle(0.2, 0.5, 0.1)),
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
    return [("main", _circle(0.5, 0.5, 0.48)), ("light", _circle(0.36, 0.34, 0.1)), ("dark", _arc_band())]


def _circle(x: float, y: float, r: float) -> Points:
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 40)]


def _arc_band() -> Points:
    outer = [(0.5 + 0.48 * math.cos(a), 0.5 + 0.48 * math.sin(a)) for a in np.linspace(0.1, math.pi - 0.6, 30)]
    inner = [(0.44 + 0.42 * math.cos(a), 0.42 + 0.42 * math.sin(a)) for a in np.linspace(math.pi - 0.7, 0.2, 30)]
    return outer + inner


def _shade(colour: np.ndarray, factor: float) -> tuple[int, int, int]:
    target = 255.0 if factor > 0 else 0.0
    return tuple(int(v) for v in np.clip(colour + (target - colour) * abs(factor), 0, 255))


def _background(rng: np.random.Generator, name: str) -> Image.Image:
    upper, lower, _ = BACKGROUNDS[name]
    horizon = rng.uniform(0.42, 0.62)
    rows = np.linspace(0, 1, HEIGHT)[:, None, None]
    fade = np.where(rows < horizon, 1 - 0.25 * rows / horizon, 0.9 + 0.15 * (rows - horizon) / (1 - horizon))
    base = np.where(rows < horizon, np.array(upper, float), np.array(lower, float)) * fade
    coarse = rng.normal(0, 9, (HEIGHT // 8 + 1, WIDTH // 8 + 1, 1)).repeat(8, 0).repeat(8, 1)[:HEIGHT, :WIDTH]
    field = base + coarse + rng.normal(0, 5, (HEIGHT, WIDTH, 3)) + rng.normal(0, 6, (1, 1, 3))
    image = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    return image.resize((WIDTH * SCALE, HEIGHT * SCALE), Image.Resampling.BILINEAR)


def draw_scene(seed: int, index: int, first: int = 0) -> tuple[Image.Image, Scene]:
    """Picture (`WIDTH` x `HEIGHT` pixels, RGB) of `scene(seed, index, first)`, and the scene with its things' boxes.

    A function of its arguments alone, whatever else is drawn and by how many workers.
    """
    what = scene(seed, index, first)
    rng = _rng(seed, index, 1)
    image = _background(rng, what.background)
    behind = image.copy()
    boxes: dict[str, tuple[int, int, int, int]] = {}
    for thing in sorted(what.things, key=lambda t: PLACES[t.place][0][1]):  # the nearer ones are lower, drawn last
        side = SIZES[thing.size][0] * rng.uniform(0.88, 1.12) * HEIGHT * SCALE * 1.1
        (px, py), _ = PLACES[thing.place]
        x = (px + rng.uniform(-0.05, 0.05)) * WIDTH * SCALE
        y = (py + rng.uniform(-0.05, 0.05)) * HEIGHT * SCALE
        x = float(np.clip(x, side / 2 + 2, WIDTH * SCALE - side / 2 - 2))
        y = float(np.clip(y, side / 2 + 2, HEIGHT * SCALE - side / 2 - 2))
        colour = np.array(COLOURS[thing.colour][0], float) + rng.normal(0, 7, 3)
        paint = {
            "main": _shade(colour, 0),
            "dark": _shade(colour, -0.3 if thing.colour != "black" else 0.18),
            "light": _shade(colour, 0.45 if thing.colour != "white" else -0.12),
            "black": (30, 30, 34),
            "eye": (20, 20, 24) if thing.colour != "black" else (240, 240, 240),
            "stem": (52, 120, 52),
        }
        angle = rng.uniform(-0.2, 0.2)
        cos, sin = math.cos(angle), math.sin(angle)
        stretch = rng.uniform(0.88, 1.0)
        spots: Points = []
        for role, outline in _polygon(thing.kind):
            places = []
            for u, v in outline:
                du, dv = (u - 0.5) * side * stretch, (v - 0.5) * side
                places.append((x + du * cos - dv * sin, y + du * sin + dv * cos))
            spots += places
            if role == "hole":  # what is behind shows through
                mask = Image.new("L", image.size)
                ImageDraw.Draw(mask).polygon(places, fill=255)
                image.paste(behind, (0, 0), mask)
            else:
                edge = _shade(colour, -0.5) if thing.colour != "black" else (90, 90, 96)
                ImageDraw.Draw(image).polygon(places, fill=paint[role], outline=edge, width=2)
        xs, ys = np.array(spots).T / SCALE
        low = (max(0, int(xs.min())), max(0, int(ys.min())))
        boxes[thing.place] = (*low, min(WIDTH, int(xs.max()) + 1), min(HEIGHT, int(ys.max()) + 1))
    things = tuple(replace(thing, box=boxes[thing.place]) for thing in what.things)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BOX), replace(what, things=things)


# -- captions ---------------------------------------------------------------------------------------------------------

OPENINGS = ("", "", "", "there is ", "we see ", "a picture of ", "this shows ", "here is ")
ABOVE = ("above", "higher than", "over")
BELOW = ("below", "lower than", "under")
LEFT = ("to the left of", "left of")
RIGHT = ("to the right of", "right of")


def _noun(rng: np.random.Generator, thing: Thing, colour: float, size: float) -> str:
    words = []
    if rng.random() < size:
        words.append(_pick(rng, SIZES[thing.size][1]))
    if rng.random() < colour:
        words.append(_pick(rng, COLOURS[thing.colour][1]))
    words.append(_pick(rng, CLASSES[thing.kind]))
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _relation(rng: np.random.Generator, one: Thing, other: Thing) -> str:
    (x1, y1), (x2, y2) = PLACES[one.place][0], PLACES[other.place][0]
    options = []
    if abs(x1 - x2) > 0.2:
        options.append(_pick(rng, LEFT if x1 < x2 else RIGHT))
    if abs(y1 - y2) > 0.2:
        options.append(_pick(rng, ABOVE if y1 < y2 else BELOW))
    return _pick(rng, options)


def captions(seed: int, index: int, what: Scene, count: int = 5) -> list[str]:
    """Sentences on a scene; each leaves out something else and has its own words."""
    rng = _rng(seed, index, 2)
    found: list[str] = []
    while len(found) < count:
        things = [what.things[i] for i in rng.permutation(len(what.things))]
        if len(things) > 1 and rng.random() < 0.2:
            things = things[:-1]
        where = _pick(rng, BACKGROUNDS[what.background][2]) if rng.random() < 0.55 else ""
        nouns = [_noun(rng, thing, 0.85, 0.55) for thing in things]
        if len(things) == 1:
            place = _pick(rng, PLACES[things[0].place][1]) if rng.random() < 0.5 else ""
            body = " ".join(filter(None, (nouns[0], place)))
        elif rng.random() < 0.5:
            body = f"{nouns[0]} {_relation(rng, things[0], things[1])} {nouns[1]}"
            body += f" and {nouns[2]}" if len(nouns) > 2 else ""
        else:
            body = ", ".join(nouns[:-1]) + f" {_pick(rng, ('and', 'with', 'beside'))} {nouns[-1]}"
        if where and rng.random() < 0.3:
            text = f"{where}, {body}"
        else:
            text = _pick(rng, OPENINGS) + " ".join(filter(None, (body, where)))
        text = text[0].upper() + text[1:] + "."
        if text not in found:
            found.append(text)
    return found


# -- files ------------------------------------------------------------------------------------------------------------


def partitions(settings: Settings) -> dict[str, tuple[int, int]]:
    """First and one past the last index of each partition."""
    train = settings.images - settings.val - settings.test
    return {
        "train": (0, train),
        "val": (train, train + settings.val),
        "test": (train + settings.val, settings.images),
    }


def _cores() -> int:
    """Cores that this process may use; macOS knows no affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clear(folder: Path, images: int) -> None:
    """Make the image folder, and take out what an earlier drawing left: pictures past the last, half-written files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            drawn = re.fullmatch(r"(\d{6})\.jpg", path.name)
            if (drawn and int(drawn[1]) >= images) or re.fullmatch(r"\.\d{6}\.jpg\.\d+\.part", path.name):
                path.unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {reason(error) or error}") from error


def _write_one(folder: Path, seed: int, place: tuple[int, int]) -> Scene:
    index, first = place
    image, what = draw_scene(seed, index, first)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    with whole(folder / f"{index:06d}.jpg") as temporary:
        temporary.write_bytes(buffer.getvalue())
    return what


def draw(settings: Settings, folder: Path, *, workers: int | None = None) -> list[Scene]:
    """Raw files of the world: `images/`, `dataset_world.json` (Karpathy's layout), `regions.json` and `scenes.json`.

    Parameters
    ----------
    workers : processes, by default up to one a core; the files do not depend on it.

    Raises
    ------
    UserError : the disk is full or the folder cannot be written.
    """
    parts = partitions(settings)
    places = [(index, first) for first, end in parts.values() for index in range(first, end)]
    _clear(folder / "images", settings.images)
    work = partial(_write_one, folder / "images", settings.seed)
    console = Console(stderr=True)
    shown = partial(
        track,
        description="drawing",
        total=len(places),
        console=console,
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    workers = workers or min(_cores(), -(-len(places) // ALONE))
    if workers == 1:
        scenes = list(shown(map(work, places)))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
            scenes = list(shown(pool.map(work, places, chunksize=CHUNK)))
    split_of = {index: name for name, (first, end) in parts.items() for index in range(first, end)}
    entries, sentence = [], 0
    for index, what in enumerate(scenes):
        sentences = []
        for raw in captions(settings.seed, index, what):
            words = raw.lower().replace(",", " ").rstrip(".").split()
            sentences.append({"raw": raw, "tokens": words, "imgid": index, "sentid": sentence})
            sentence += 1
        ids = [one["sentid"] for one in sentences]
        entry = {"filename": f"{index:06d}.jpg", "imgid": index, "split": split_of[index], "sentids": ids}
        entries.append({**entry, "sentences": sentences})
    regions = {
        f"{index:06d}.jpg": [
            {"box": t.box, "class": t.kind, "attribute": t.colour, "size": t.size, "place": t.place, "confidence": 1.0}
            for t in what.things
        ]
        for index, what in enumerate(scenes)
    }
    write_text(folder / "regions.json", json.dumps(regions))
    write_text(folder / "scenes.json", json.dumps([asdict(what) for what in scenes]))
    write_text(folder / "dataset_world.json", json.dumps({"dataset": "world", "images": entries}))
    return scenes


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Draw the raw files into `folder/raw` and read them as any data set of that layout is read.

    Raises
    ------
    UserError : too few images are left to train on; the disk is full or the folder cannot be written.
    """
    if settings.images - settings.val - settings.test < 20:
        raise UserError(
            f"params.yaml: datasets.{folder.name}.images: {settings.images} images less {settings.val} for validation "
            f"and {settings.test} for the test leave fewer than 20 to train on; raise `images` or lower the others"
        )
    raw = folder / "raw"
    with suppress(OSError):  # a folder that cannot be written is named by `draw`
        (folder / "items.parquet").unlink(missing_ok=True)  # it would outlive the pictures that it was made from
    draw(settings, raw)
    read = karpathy.Settings(annotations=raw / "dataset_world.json", images=raw / "images")
    manifest = {
        "reader": "world",
        "title": title,
        "root": "raw/images",
        "annotations": {"file": "raw/dataset_world.json", "sha256": sha256_file(read.annotations)},
        "regions": {
            "file": "raw/regions.json",
            "sha256": sha256_file(raw / "regions.json"),
            "exact": True,
            "synonyms": {name: list(words) for name, words in CLASSES.items()}
            | {name: list(words) for name, (_, words) in COLOURS.items()},
        },
        "settings": settings.model_dump(),
    }
    items.write(karpathy.read(read, folder.name), folder, manifest)
