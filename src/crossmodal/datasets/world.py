"""The embedded world: drawn scenes of simple objects with captions from a grammar, in Karpathy's layout.

A scene has one to three objects, each with a class, a colour, a size and a place, in front of a background. A third of
the scenes copy an earlier scene of their partition except for one attribute, so that a model must recognise attributes.
The five captions of a scene omit different details and use different synonyms. Everything follows from a seed.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, Field

from crossmodal.core.files import sha256_file, write_text
from crossmodal.datasets import items, karpathy
from crossmodal.datasets.drawing.captioned_pictures import (
    check_sizes,
    clear_images,
    entries,
    partitions,
    write_picture,
)
from crossmodal.datasets.drawing.scenery import (
    BACKGROUNDS,
    COLOURS,
    HEIGHT,
    SCALE,
    WIDTH,
    Points,
    background,
    outlines,
    shade,
)
from crossmodal.datasets.drawing.work import each, generator, pick

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
DISTRACTORS = 1 / 3


@dataclass(frozen=True)
class Thing:
    """An object of a scene; `box` is (left, top, right, bottom) in pixels after it is drawn."""

    kind: str
    colour: str
    size: str
    place: str
    box: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Scene:
    """The objects and the background of a picture."""

    things: tuple[Thing, ...]
    background: str
    copies: int | None = None
    """Index of the scene from which this one differs in one attribute only; None if it is no copy."""


class Settings(BaseModel):
    """Settings of the embedded world."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(1, ge=0)
    images: int = Field(1500, ge=30)
    val: int = Field(200, ge=5, description="how many of the `images` are for validation")
    test: int = Field(200, ge=5, description="how many of the `images` are for the test")


def _fresh(rng: np.random.Generator) -> Scene:
    count = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2]))
    background = pick(rng, list(BACKGROUNDS))
    places = rng.permutation(list(PLACES))[:count]
    kinds = rng.permutation(list(CLASSES))[:count]
    things = []
    for kind, place in zip(kinds, places, strict=True):
        things.append(Thing(str(kind), pick(rng, _visible(background)), pick(rng, list(SIZES)), str(place)))
    return Scene(tuple(things), background)


def _visible(background: str) -> list[str]:
    """Colours that are visible on a background: not black at night, not white in the snow."""
    return [c for c in COLOURS if (c, background) not in {("black", "night"), ("white", "snow")}]


def _variation(rng: np.random.Generator, scene: Scene, index: int) -> Scene:
    """A copy of `scene`, whose index is `index`, with one attribute changed."""
    what = pick(rng, ("colour", "colour", "kind", "size", "place", "background"))
    if what == "background":
        allowed = [
            b for b in BACKGROUNDS if b != scene.background and all(t.colour in _visible(b) for t in scene.things)
        ]
        return replace(scene, background=pick(rng, allowed), copies=index)
    n = int(rng.integers(len(scene.things)))
    thing = scene.things[n]
    options = {
        "colour": [c for c in _visible(scene.background) if c != thing.colour],
        "kind": [k for k in CLASSES if k not in {t.kind for t in scene.things}],
        "size": [s for s in SIZES if s != thing.size],
        "place": [p for p in PLACES if p not in {t.place for t in scene.things}],
    }[what]
    changed = replace(thing, **{what: pick(rng, options)})
    return Scene((*scene.things[:n], changed, *scene.things[n + 1 :]), scene.background, copies=index)


def scene(seed: int, index: int, first: int = 0) -> Scene:
    """Scene `index` of a seed; the result depends on the arguments only.

    Parameters
    ----------
    first : the first index of the partition; scenes before it are never copied.
    """
    rng = generator(seed, index, 0)
    fresh = _fresh(rng)
    if index > first and rng.random() < DISTRACTORS:
        other = int(rng.integers(max(first, index - 50), index))
        return _variation(rng, scene(seed, other, first), other)
    return fresh


# -- drawing ----------------------------------------------------------------------------------------------------------


def draw_scene(seed: int, index: int, first: int = 0) -> tuple[Image.Image, Scene]:
    """Draw `scene(seed, index, first)`; the result depends on the arguments only.

    Returns
    -------
    The RGB picture of `WIDTH` x `HEIGHT` pixels, and the scene with the boxes of its objects.
    """
    what = scene(seed, index, first)
    rng = generator(seed, index, 1)
    image = background(rng, what.background)
    behind = image.copy()
    boxes: dict[str, tuple[int, int, int, int]] = {}
    for thing in sorted(what.things, key=lambda t: PLACES[t.place][0][1]):  # lower objects are nearer and drawn last
        side = SIZES[thing.size][0] * rng.uniform(0.88, 1.12) * HEIGHT * SCALE * 1.1
        (px, py), _ = PLACES[thing.place]
        x = (px + rng.uniform(-0.05, 0.05)) * WIDTH * SCALE
        y = (py + rng.uniform(-0.05, 0.05)) * HEIGHT * SCALE
        x = float(np.clip(x, side / 2 + 2, WIDTH * SCALE - side / 2 - 2))
        y = float(np.clip(y, side / 2 + 2, HEIGHT * SCALE - side / 2 - 2))
        colour = np.array(COLOURS[thing.colour][0], float) + rng.normal(0, 7, 3)
        paint = {
            "main": shade(colour, 0),
            "dark": shade(colour, -0.3 if thing.colour != "black" else 0.18),
            "light": shade(colour, 0.45 if thing.colour != "white" else -0.12),
            "black": (30, 30, 34),
            "eye": (20, 20, 24) if thing.colour != "black" else (240, 240, 240),
            "stem": (52, 120, 52),
        }
        angle = rng.uniform(-0.2, 0.2)
        cos, sin = math.cos(angle), math.sin(angle)
        stretch = rng.uniform(0.88, 1.0)
        spots: Points = []
        for role, outline in outlines(thing.kind):
            places = []
            for u, v in outline:
                du, dv = (u - 0.5) * side * stretch, (v - 0.5) * side
                places.append((x + du * cos - dv * sin, y + du * sin + dv * cos))
            spots += places
            if role == "hole":  # the background shows through
                mask = Image.new("L", image.size)
                ImageDraw.Draw(mask).polygon(places, fill=255)
                image.paste(behind, (0, 0), mask)
            else:
                edge = shade(colour, -0.5) if thing.colour != "black" else (90, 90, 96)
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
        words.append(pick(rng, SIZES[thing.size][1]))
    if rng.random() < colour:
        words.append(pick(rng, COLOURS[thing.colour][1]))
    words.append(pick(rng, CLASSES[thing.kind]))
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _relation(rng: np.random.Generator, thing: Thing, other: Thing) -> str:
    (x1, y1), (x2, y2) = PLACES[thing.place][0], PLACES[other.place][0]
    options = []
    if abs(x1 - x2) > 0.2:
        options.append(pick(rng, LEFT if x1 < x2 else RIGHT))
    if abs(y1 - y2) > 0.2:
        options.append(pick(rng, ABOVE if y1 < y2 else BELOW))
    return pick(rng, options)


def captions(seed: int, index: int, what: Scene, count: int = 5) -> list[str]:
    """`count` different sentences that describe a scene, with different details and synonyms."""
    rng = generator(seed, index, 2)
    texts: list[str] = []
    while len(texts) < count:
        things = [what.things[i] for i in rng.permutation(len(what.things))]
        if len(things) > 1 and rng.random() < 0.2:
            things = things[:-1]
        where = pick(rng, BACKGROUNDS[what.background][2]) if rng.random() < 0.55 else ""
        nouns = [_noun(rng, thing, 0.85, 0.55) for thing in things]
        if len(things) == 1:
            place = pick(rng, PLACES[things[0].place][1]) if rng.random() < 0.5 else ""
            body = " ".join(filter(None, (nouns[0], place)))
        elif rng.random() < 0.5:
            body = f"{nouns[0]} {_relation(rng, things[0], things[1])} {nouns[1]}"
            body += f" and {nouns[2]}" if len(nouns) > 2 else ""
        else:
            body = ", ".join(nouns[:-1]) + f" {pick(rng, ('and', 'with', 'beside'))} {nouns[-1]}"
        if where and rng.random() < 0.3:
            text = f"{where}, {body}"
        else:
            text = pick(rng, OPENINGS) + " ".join(filter(None, (body, where)))
        text = text[0].upper() + text[1:] + "."
        if text not in texts:
            texts.append(text)
    return texts


# -- files ------------------------------------------------------------------------------------------------------------


def _write_one(folder: Path, seed: int, place: tuple[int, int]) -> Scene:
    index, first = place
    image, what = draw_scene(seed, index, first)
    write_picture(image, folder, index)
    return what


def draw(settings: Settings, folder: Path, *, workers: int | None = None) -> list[Scene]:
    """Write the raw files: `images/`, `dataset_world.json` (Karpathy's layout), `regions.json` and `scenes.json`.

    Parameters
    ----------
    workers : number of processes, by default up to one per core; the files do not depend on it.

    Returns
    -------
    All scenes, in the order of their indices.

    Raises
    ------
    UserError : the disk is full or the folder cannot be written.
    """
    parts = partitions(settings)
    places = [(index, indices.start) for indices in parts.values() for index in indices]
    clear_images(folder / "images", settings.images)
    scenes = each(partial(_write_one, folder / "images", settings.seed), places, workers)
    texts = [captions(settings.seed, index, what) for index, what in enumerate(scenes)]
    regions = {
        f"{index:06d}.jpg": [
            {"box": t.box, "class": t.kind, "attribute": t.colour, "size": t.size, "place": t.place, "confidence": 1.0}
            for t in what.things
        ]
        for index, what in enumerate(scenes)
    }
    write_text(folder / "regions.json", json.dumps(regions))
    write_text(folder / "scenes.json", json.dumps([asdict(what) for what in scenes]))
    write_text(folder / "dataset_world.json", json.dumps({"dataset": "world", "images": entries(texts, parts)}))
    return scenes


def make(settings: Settings, folder: Path, *, title: str) -> None:
    """Draw the raw files into `folder/raw`, read them as Karpathy's layout, and write the items into `folder`.

    Raises
    ------
    UserError : too few images are left for training, the disk is full, or the folder cannot be written.
    """
    check_sizes(settings, folder.name)
    raw = folder / "raw"
    with suppress(OSError):  # `draw` reports a folder that cannot be written
        (folder / "items.parquet").unlink(missing_ok=True)  # outdated as soon as the pictures are redrawn
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
