"""Pictures of birds with given attributes, such as those in field guides, and sentences about visible attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from crossmodal.datasets.drawing.scenery import COLOURS, HEIGHT, WIDTH, Points, background, shade
from crossmodal.datasets.drawing.work import generator, pick

SCALE = 2  # pictures are drawn larger by this factor and scaled down, for smooth edges

Look = Mapping[str, str]
"""The look of a bird or class: the value of each group of attributes."""

_COLOURS = tuple(COLOURS)
GROUPS: dict[str, tuple[str, ...]] = {
    "has_shape": ("perching-like", "long-legged-like", "duck-like", "upright-perching_hawk-like"),
    "has_size": ("small", "medium", "large"),
    "has_bill_shape": ("dagger", "cone", "hooked", "spatulate"),
    "has_crown_color": _COLOURS,
    "has_breast_color": _COLOURS,
    "has_breast_pattern": ("solid", "striped", "spotted"),
    "has_wing_color": _COLOURS,
    "has_wing_pattern": ("solid", "striped", "spotted"),
    "has_tail_shape": ("forked_tail", "fan-shaped_tail", "pointed_tail"),
    "has_leg_color": ("yellow", "black", "red", "orange"),
}
ATTRIBUTES = [f"{group}::{value}" for group, values in GROUPS.items() for value in values]
NOUNS = {
    "perching-like": ("Finch", "Warbler", "Tanager", "Sparrow", "Bunting"),
    "long-legged-like": ("Heron", "Stilt", "Sandpiper", "Egret", "Crane"),
    "duck-like": ("Teal", "Grebe", "Pochard", "Merganser", "Coot"),
    "upright-perching_hawk-like": ("Falcon", "Kestrel", "Harrier", "Buzzard", "Kite"),
}
BACKGROUNDS = {
    "perching-like": ("meadow", "meadow", "snow", "beach"),
    "long-legged-like": ("sea", "beach", "meadow"),
    "duck-like": ("sea", "sea", "beach"),
    "upright-perching_hawk-like": ("meadow", "snow", "night", "beach"),
}
NEAR = 0.4  # share of the classes that differ from an earlier class in a few groups only


def classes(seed: int, count: int) -> list[dict[str, str]]:
    """The looks of `count` classes, of which any two differ in three or more groups.

    The values of a group occur about equally often, so that a held-out class shares each of its values with others.
    """
    rng = generator(seed, 0)
    dealt = {}
    for group, values in GROUPS.items():
        rounds = [rng.permutation(len(values)) for _ in range(-(-count // len(values)) + 1)]
        dealt[group] = [values[k] for k in np.concatenate(rounds)[:count]]
    looks: list[dict[str, str]] = []
    for k in range(count):
        while True:
            look = {group: dealt[group][k] for group in GROUPS}
            if looks and rng.random() < NEAR:
                look = dict(looks[int(rng.integers(len(looks)))])
                for group in rng.permutation(list(GROUPS))[:3]:
                    look[str(group)] = pick(rng, [v for v in GROUPS[str(group)] if v != look[str(group)]])
            elif any(_apart(look, other) < 3 for other in looks):
                for group in GROUPS:
                    dealt[group][k] = pick(rng, GROUPS[group])
            if all(_apart(look, other) >= 3 for other in looks):
                break
        looks.append(look)
    return looks


def held_out(seed: int, looks: Sequence[Look], count: int) -> list[int]:
    """Numbers of `count` classes to hold out of training; each of their values also occurs in a training class.

    Raises
    ------
    ValueError : fewer than `count` classes can be held out.
    """
    chosen: list[int] = []
    for k in generator(seed, 3).permutation(len(looks)).tolist():
        stay = [look for j, look in enumerate(looks) if j != k and j not in chosen]
        if all(
            any(other[group] == look[group] for other in stay)
            for look in [looks[k], *(looks[j] for j in chosen)]
            for group in GROUPS
        ):
            chosen.append(k)
        if len(chosen) == count:
            return sorted(chosen)
    raise ValueError(f"only {len(chosen)} of {len(looks)} classes can be left out so that the others have their values")


def _apart(look: Look, other: Look) -> int:
    return sum(look[group] != other[group] for group in GROUPS)


def names(looks: Sequence[Look]) -> list[str]:
    """One name per class, such as `012.Red_crowned_Finch`, from the colour of a part and, loosely, the shape."""
    chosen: list[str] = []
    parts = (("crown", "crowned"), ("wing", "winged"), ("breast", "breasted"), ("leg", "legged"))
    for k, look in enumerate(looks):
        options = [
            f"{look[f'has_{part}_color'].title()}_{word}_{noun}"
            for noun in NOUNS[look["has_shape"]]
            for part, word in (*parts[k % 3 :], *parts[: k % 3])
        ]
        taken = {name.partition(".")[2] for name in chosen}
        chosen.append(f"{k + 1:03d}.{next((name for name in options if name not in taken), options[0])}")
    return chosen


def varied(look: Look, rng: np.random.Generator) -> dict[str, str]:
    """The look of one bird of a class, which randomly differs from its class in a few groups (as young birds do)."""
    shown = dict(look)
    for group, values in GROUPS.items():
        if group != "has_shape" and rng.random() < 0.03:
            shown[group] = pick(rng, values)
    return shown


# -- pictures ---------------------------------------------------------------------------------------------------------

# Coordinates in a unit square, with the bird facing right and y downwards: body (x, y, half length, half height,
# angle), head (x, y, radius), tail (x, y, angle), legs (x, y, length).
_BUILDS: dict[str, dict[str, tuple[float, ...]]] = {
    "perching-like": {
        "body": (0.5, 0.55, 0.27, 0.165, -0.45),
        "head": (0.7, 0.33, 0.125),
        "tail": (0.29, 0.66, 2.75),
        "legs": (0.5, 0.68, 0.17),
    },
    "long-legged-like": {
        "body": (0.45, 0.45, 0.25, 0.125, -0.15),
        "head": (0.76, 0.14, 0.085),
        "tail": (0.22, 0.48, 3.0),
        "legs": (0.45, 0.55, 0.42),
    },
    "duck-like": {
        "body": (0.47, 0.62, 0.32, 0.16, -0.05),
        "head": (0.76, 0.36, 0.12),
        "tail": (0.17, 0.58, 3.4),
        "legs": (0.45, 0.76, 0.06),
    },
    "upright-perching_hawk-like": {
        "body": (0.5, 0.5, 0.28, 0.165, -1.2),
        "head": (0.59, 0.19, 0.13),
        "tail": (0.42, 0.76, 1.9),
        "legs": (0.53, 0.74, 0.13),
    },
}


class _Sheet:
    """A picture with the coordinate frame of the bird on it; it records the extent of all that is drawn."""

    def __init__(self, image: Image.Image, middle: tuple[float, float], side: float, turn: float, mirrored: bool):
        self.image, self.middle, self.side = image, middle, side
        self.cos, self.sin, self.sign = math.cos(turn), math.sin(turn), -1 if mirrored else 1
        self.low, self.high = np.full(2, np.inf), np.full(2, -np.inf)

    def place(self, points: Points) -> Points:
        spots = []
        for x, y in points:
            u, v = (x - 0.5) * self.side, (y - 0.5) * self.side
            spots.append(
                (
                    self.middle[0] + self.sign * (u * self.cos - v * self.sin),
                    self.middle[1] + u * self.sin + v * self.cos,
                )
            )
        self.low, self.high = np.minimum(self.low, np.min(spots, 0)), np.maximum(self.high, np.max(spots, 0))
        return spots

    def fill(self, points: Points, colour: tuple[int, int, int]) -> None:
        ImageDraw.Draw(self.image).polygon(self.place(points), fill=colour)

    def mask(self, points: Points) -> Image.Image:
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self.place(points), fill=255)
        return mask

    def patch(self, mask: Image.Image, pattern: str, colour: np.ndarray, rng: np.random.Generator) -> None:
        """Paint the masked part in a colour, with stripes or spots of a contrasting colour."""
        self.image.paste(shade(colour, 0), (0, 0), mask)
        if pattern == "solid" or mask.getbbox() is None:
            return
        left, top, right, bottom = mask.getbbox()
        marks = Image.new("L", self.image.size)
        canvas = ImageDraw.Draw(marks)
        step = self.side * rng.uniform(0.05, 0.065)
        if pattern == "striped":
            lean = rng.uniform(0.6, 1.4) * self.sign
            for x in np.arange(left - (bottom - top) * 1.5, right + (bottom - top) * 1.5, step):
                canvas.line((x, top, x + lean * (bottom - top), bottom), fill=255, width=max(2, int(step * 0.42)))
        else:
            for row, y in enumerate(np.arange(top, bottom, step)):
                for x in np.arange(left + (row % 2) * step / 2, right, step):
                    dx, dy = rng.normal(0, step * 0.1, 2)
                    r = step * 0.27
                    canvas.ellipse((x + dx - r, y + dy - r, x + dx + r, y + dy + r), fill=255)
        contrast = shade(colour, -0.6) if colour.mean() > 95 else shade(colour, 0.65)
        self.image.paste(contrast, (0, 0), ImageChops.multiply(marks, mask))


def _oval(
    x: float, y: float, a: float, b: float, angle: float = 0.0, start: float = 0.0, end: float = 2 * math.pi
) -> Points:
    turns = np.linspace(start, end, 36)
    u, v = a * np.cos(turns), b * np.sin(turns)
    cos, sin = math.cos(angle), math.sin(angle)
    return list(zip(x + u * cos - v * sin, y + u * sin + v * cos, strict=True))


def _bill(shape: str, x: float, y: float, r: float) -> Points:
    tip = x + r * 0.85
    return {
        "dagger": [(tip, y - 0.3 * r), (tip + 2.0 * r, y + 0.1 * r), (tip, y + 0.25 * r)],
        "cone": [(tip - 0.1 * r, y - 0.6 * r), (tip + 0.75 * r, y + 0.1 * r), (tip - 0.1 * r, y + 0.55 * r)],
        "hooked": [(tip, y - 0.45 * r), (tip + 0.8 * r, y - 0.3 * r), (tip + 1.05 * r, y + 0.7 * r),
                   (tip + 0.65 * r, y + 0.2 * r), (tip, y + 0.3 * r)],
        "spatulate": [(tip, y - 0.2 * r), (tip + 0.9 * r, y - 0.1 * r), (tip + 1.7 * r, y - 0.3 * r),
                      (tip + 1.7 * r, y + 0.45 * r), (tip + 0.9 * r, y + 0.25 * r), (tip, y + 0.3 * r)],
    }[shape]  # fmt: skip


def _tail(shape: str, x: float, y: float, angle: float, long: float) -> Points:
    flat = {
        "forked_tail": [(0, -0.04), (1.1, -0.13), (0.62, 0.0), (1.1, 0.13), (0, 0.04)],
        "fan-shaped_tail": [(0, -0.03), (0.8, -0.2), (0.95, -0.07), (0.98, 0.06), (0.8, 0.2), (0, 0.03)],
        "pointed_tail": [(0, -0.05), (0.7, -0.05), (1.35, 0.0), (0.7, 0.05), (0, 0.05)],
    }[shape]
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x + long * (u * cos - v * sin), y + long * (u * sin + v * cos)) for u, v in flat]


def draw(look: Look, rng: np.random.Generator) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """RGB picture (`WIDTH` x `HEIGHT`) of a bird with that look, and its box (left, top, right, bottom) in pixels."""
    build = _BUILDS[look["has_shape"]]
    place = pick(rng, BACKGROUNDS[look["has_shape"]])
    image = background(rng, place, scale=SCALE)
    share = {"small": 0.5, "medium": 0.66, "large": 0.84}[look["has_size"]] * rng.uniform(0.9, 1.1)
    middle = (rng.uniform(0.36, 0.64) * WIDTH * SCALE, rng.uniform(0.45, 0.56) * HEIGHT * SCALE)
    sheet = _Sheet(image, middle, share * HEIGHT * SCALE, rng.uniform(-0.22, 0.22), rng.random() < 0.5)

    def tint(group: str) -> np.ndarray:
        return np.array(COLOURS[look[group]][0], float) + rng.normal(0, 9, 3)

    wing, breast, crown, leg = (tint(f"has_{part}_color") for part in ("wing", "breast", "crown", "leg"))
    back = shade(wing, -0.22 if wing.mean() > 60 else 0.2)
    x, y, a, b, lean = build["body"]
    a, b, lean = a * rng.uniform(0.93, 1.07), b * rng.uniform(0.9, 1.12), lean + rng.normal(0, 0.08)
    hx, hy, hr = build["head"]
    hx, hy, hr = hx + rng.normal(0, 0.015), hy + rng.normal(0, 0.02), hr * rng.uniform(0.92, 1.08)
    lx, ly, long = build["legs"]
    for dx in (-0.05, 0.06):
        foot = lx + dx + rng.normal(0, 0.015)
        sheet.fill([(lx + dx, ly), (lx + dx + 0.025, ly), (foot + 0.018, ly + long), (foot, ly + long)], shade(leg, 0))
        sheet.fill(
            [(foot - 0.02, ly + long), (foot + 0.09, ly + long + 0.012), (foot - 0.02, ly + long + 0.025)],
            shade(leg, -0.15),
        )
    tx, ty, away = build["tail"]
    sheet.fill(
        _tail(look["has_tail_shape"], tx, ty, away + rng.normal(0, 0.12), 0.27 * rng.uniform(0.9, 1.1)),
        shade(wing, -0.35 if wing.mean() > 60 else 0.3),
    )
    cos, sin = math.cos(lean), math.sin(lean)
    neck_x, neck_y = x + a * 0.72 * cos, y + a * 0.72 * sin
    body = sheet.mask(_oval(x, y, a, b, lean))
    image.paste(back, (0, 0), body)
    sheet.fill(
        [
            (neck_x - b * 0.5, neck_y - b * 0.3),
            (hx - hr * 0.75, hy),
            (hx + hr * 0.6, hy + hr * 0.5),
            (neck_x + b * 0.5, neck_y + b * 0.4),
        ],
        back,
    )
    front = sheet.mask(
        _oval(x + a * 0.42 * cos - b * 0.5 * sin, y + a * 0.42 * sin + b * 0.5 * cos, a * 0.85, b * 0.85, lean)
    )
    sheet.patch(ImageChops.multiply(front, body), look["has_breast_pattern"], breast, rng)
    if rng.random() < 0.25 and look["has_shape"] != "duck-like":  # one wing is lifted
        lift = [
            (x + a * 0.45, y - b * 0.2),
            (x - a * 0.1, y - b - 0.26),
            (x - a * 0.75, y - b - 0.3),
            (x - a * 0.5, y - b * 0.1),
        ]
        sheet.patch(sheet.mask(lift), look["has_wing_pattern"], wing, rng)
    else:
        folded = _oval(
            x - a * 0.22 * cos + b * 0.12 * sin, y - a * 0.22 * sin - b * 0.12 * cos, a * 0.72, b * 0.62, lean - 0.08
        )
        sheet.patch(sheet.mask(folded), look["has_wing_pattern"], wing, rng)
    sheet.fill(_oval(hx, hy, hr, hr), back)
    sheet.fill(_oval(hx, hy, hr * 1.04, hr * 1.04, rng.normal(-0.1, 0.1), math.pi, 2 * math.pi), shade(crown, 0))
    sheet.fill(
        _bill(look["has_bill_shape"], hx, hy + hr * 0.1, hr), (66, 60, 52) if place != "night" else (150, 140, 120)
    )
    sheet.fill(_oval(hx + hr * 0.4, hy + hr * 0.06, hr * 0.2, hr * 0.2), (245, 245, 240))
    sheet.fill(_oval(hx + hr * 0.42, hy + hr * 0.06, hr * 0.13, hr * 0.13), (16, 16, 18))
    if look["has_shape"] == "duck-like":  # water covers the legs
        band = sheet.place([(0.0, 0.79), (1.0, 0.79), (1.0, 0.86), (0.0, 0.86)])
        water = shade(np.array(image.getpixel((2, image.height - 4)), float), 0.12)
        ImageDraw.Draw(image).polygon(band, fill=water)
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    gain = rng.uniform(0.82, 1.12)
    image = image.point([min(255, int(v * gain)) for v in range(256)] * 3)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    low, high = np.maximum(sheet.low / SCALE, 0), np.minimum(sheet.high / SCALE, (WIDTH, HEIGHT))
    return image, (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


# -- sentences --------------------------------------------------------------------------------------------------------

_SHAPES = {
    "perching-like": ("songbird", "perching bird", "garden bird"),
    "long-legged-like": ("wading bird", "bird with long legs", "long-legged bird"),
    "duck-like": ("water bird", "swimming bird", "duck-like bird"),
    "upright-perching_hawk-like": ("bird of prey", "upright bird", "hawk-like bird"),
}
_SIZES = {"small": ("small", "tiny"), "medium": ("medium sized", "mid-sized"), "large": ("large", "big")}
_BILLS = {
    "dagger": ("a long pointed bill", "a dagger bill"),
    "cone": ("a short thick bill", "a cone-shaped beak"),
    "hooked": ("a hooked beak", "a curved bill"),
    "spatulate": ("a flat bill", "a spoon-shaped beak"),
}
_TAILS = {
    "forked_tail": ("a forked tail",),
    "fan-shaped_tail": ("a wide tail", "a fan-shaped tail"),
    "pointed_tail": ("a long thin tail", "a pointed tail"),
}
_PATTERNS = {"striped": ("striped", "barred"), "spotted": ("spotted", "speckled")}


def _coloured(rng: np.random.Generator, look: Look, part: str) -> str:
    words = [pick(rng, COLOURS[look[f"has_{part}_color"]][1])]
    pattern = look.get(f"has_{part}_pattern", "solid")
    if pattern != "solid" and rng.random() < 0.75:
        words.insert(0, pick(rng, _PATTERNS[pattern]))
    noun = {
        "wing": ("wings",),
        "leg": ("legs", "feet"),
        "crown": ("crown", "head", "cap"),
        "breast": ("breast", "belly", "chest"),
    }[part]
    noun = pick(rng, noun)
    article = "" if part in ("wing", "leg") else ("an " if words[0][0] in "aeiou" else "a ")
    return f"{article}{' '.join(words)} {noun}"


def captions(look: Look, rng: np.random.Generator, count: int) -> list[str]:
    """`count` different sentences about a bird; each mentions two to five attributes but never the class name."""
    texts: list[str] = []
    while len(texts) < count:
        phrases = [_coloured(rng, look, part) for part in ("crown", "breast", "wing")]
        phrases += [pick(rng, _BILLS[look["has_bill_shape"]])]
        if rng.random() < 0.5:
            phrases.append(pick(rng, _TAILS[look["has_tail_shape"]]))
        if rng.random() < 0.35 and look["has_shape"] != "duck-like":
            phrases.append(_coloured(rng, look, "leg"))
        phrases = [phrases[k] for k in rng.permutation(len(phrases))[: int(rng.integers(2, 6))]]
        noun = pick(rng, _SHAPES[look["has_shape"]]) if rng.random() < 0.6 else "bird"
        size = f"{pick(rng, _SIZES[look['has_size']])} " if rng.random() < 0.5 else ""
        listed = ", ".join(phrases[:-1]) + " and " + phrases[-1]
        text = pick(
            rng,
            (f"this {size}{noun} has {listed}.", f"a {size}{noun} with {listed}.", f"{listed} mark this {size}{noun}."),
        )
        if text not in texts:
            texts.append(text)
    return texts
