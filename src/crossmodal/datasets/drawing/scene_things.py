"""Things of the drawn world `scenes`: their classes, colours, sizes and places, and how they are painted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from crossmodal.datasets.drawing.scenery import COLOURS, Points, background, outlines, shade

SIDE = 192  # width and height of a picture in pixels
SCALE = 2  # pictures are drawn larger by this factor and scaled down, for smooth edges
MARGIN = 2.0  # least distance of a thing from the border in pixels

KINDS: dict[str, tuple[tuple[str, str], ...]] = {
    "ball": (("ball", "balls"), ("sphere", "spheres"), ("globe", "globes")),
    "box": (("box", "boxes"), ("crate", "crates"), ("cube", "cubes")),
    "star": (("star", "stars"), ("pentagram", "pentagrams")),
    "tree": (("tree", "trees"), ("fir", "firs"), ("conifer", "conifers")),
    "house": (("house", "houses"), ("cottage", "cottages"), ("hut", "huts"), ("home", "homes")),
    "car": (("car", "cars"), ("automobile", "automobiles"), ("vehicle", "vehicles")),
    "boat": (("boat", "boats"), ("ship", "ships"), ("sailboat", "sailboats")),
    "fish": (("fish", "fish"), ("trout", "trout")),
    "flower": (("flower", "flowers"), ("blossom", "blossoms"), ("bloom", "blooms")),
    "cup": (("cup", "cups"), ("mug", "mugs")),
    "heart": (("heart", "hearts"), ("love symbol", "love symbols")),
    "moon": (("moon", "moons"), ("crescent", "crescents")),
    "arrow": (("arrow", "arrows"), ("pointer", "pointers")),
    "umbrella": (("umbrella", "umbrellas"), ("parasol", "parasols")),
    "key": (("key", "keys"), ("latchkey", "latchkeys")),
    "kite": (("kite", "kites"), ("diamond", "diamonds")),
}
"""The words of each class, each with its plural; the first pair is the one of questions and answers."""
SIZES: dict[str, tuple[tuple[float, float], tuple[str, ...]]] = {
    "small": ((29.0, 36.0), ("small", "tiny", "little")),
    "large": ((53.0, 64.0), ("large", "big", "huge")),
}
"""The range of the side of a thing's square in pixels, and the words of each size."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """An object of a scene.

    `x` and `y` are the middle of its square of `side` pixels, which is tilted by `angle` radians; `box` is (left, top,
    right, bottom) of its outline, in pixels; a thing with a greater `depth` is nearer and hides others.
    """

    kind: str
    colour: str
    size: str
    side: float
    angle: float
    x: float = 0.0
    y: float = 0.0
    depth: float = 0.0

    @property
    def box(self) -> Box:
        left, top, right, bottom = _extent(self.kind, self.side, self.angle)
        return left + self.x, top + self.y, right + self.x, bottom + self.y

    def at(self, x: float, y: float) -> Thing:
        """The thing with the middle of its box at (x, y)."""
        left, top, right, bottom = _extent(self.kind, self.side, self.angle)
        return replace(self, x=x - (left + right) / 2, y=y - (top + bottom) / 2)


@lru_cache(maxsize=4096)
def _extent(kind: str, side: float, angle: float) -> Box:
    """The box of an outline around the middle of its square."""
    points = np.array([point for role, outline in outlines(kind) if role != "hole" for point in outline]) - 0.5
    cos, sin = math.cos(angle), math.sin(angle)
    across, down = points @ [cos, -sin], points @ [sin, cos]
    return tuple(float(side * v) for v in (across.min(), down.min(), across.max(), down.max()))


def visible_colours(where: str) -> list[str]:
    """Colours that stand out on a background: not black at night, not white in the snow."""
    return [c for c in COLOURS if (c, where) not in {("black", "night"), ("white", "snow")}]


def inside_picture(box: Box) -> bool:
    """Whether a box lies in the picture, with a margin."""
    return box[0] >= MARGIN and box[1] >= MARGIN and box[2] <= SIDE - MARGIN and box[3] <= SIDE - MARGIN


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def shared_area(a: Box, b: Box) -> float:
    """Area of the intersection of two boxes."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def paint(rng: np.random.Generator, things: tuple[Thing, ...], where: str) -> Image.Image:
    """The RGB picture (`SIDE` x `SIDE`) of things on a background of `BACKGROUNDS`."""
    image = background(rng, where, SIDE, SIDE, SCALE)
    behind = image.copy()
    noise = rng.normal(0, 7, (len(things), 3))
    for n in sorted(range(len(things)), key=lambda n: things[n].depth):
        _paint_one(image, behind, things[n], np.array(COLOURS[things[n].colour][0], float) + noise[n])
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _paint_one(image: Image.Image, behind: Image.Image, thing: Thing, colour: np.ndarray) -> None:
    black, white = thing.colour == "black", thing.colour == "white"
    paints = {
        "main": shade(colour, 0),
        "dark": shade(colour, 0.18 if black else -0.3),
        "light": shade(colour, -0.12 if white else 0.45),
        "black": (30, 30, 34),
        "eye": (240, 240, 240) if black else (20, 20, 24),
        "stem": (52, 120, 52),
    }
    edge = (90, 90, 96) if black else shade(colour, -0.5)
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    canvas = ImageDraw.Draw(image)
    for role, outline in outlines(thing.kind):
        places: Points = []
        for u, v in outline:
            across, down = (u - 0.5) * thing.side, (v - 0.5) * thing.side
            places.append(
                ((thing.x + across * cos - down * sin) * SCALE, (thing.y + across * sin + down * cos) * SCALE)
            )
        if role == "hole":  # the background shows through
            mask = Image.new("L", image.size)
            ImageDraw.Draw(mask).polygon(places, fill=255)
            image.paste(behind, (0, 0), mask)
        else:
            canvas.polygon(places, fill=paints[role], outline=edge, width=2)
