"""Regions of the drawn world `scenes` as a detector gives them, in place of its exact things.

Things are missed, found twice and confused with what looks like them; some regions are a part of a thing, many are of
the background. Classes and attributes are words of a vocabulary of its own, of which about a seventh is shared with the
captions (A3VSE, section 4.6, measures 13.1 %). The rates are chosen, not measured on any detector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossmodal.datasets.drawing.scene_layout import Scene
from crossmodal.datasets.drawing.scene_things import SIDE, Box, Thing, area, shared_area
from crossmodal.datasets.drawing.work import pick

MOST = 36  # regions per picture, as of bottom-up attention
MISSED, MISSED_SMALL, MISSED_HIDDEN = 0.08, 0.07, 0.2  # shares of things that are missed, added where they apply
CONFUSED = 0.15  # share of the classes that are those of something alike, and of the colours
TWICE, PARTS = 0.35, 0.4  # shares of the things that are found twice, and of those of which a part is found
BACKGROUND = (8, 23)  # least number of regions of the background, and one more than the most
JITTER = 0.07  # standard deviation of an edge, as a share of the side of the box
LEAST_SIDE = 6.0  # pixels

NAMES: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "orb", "marble"),
    "box": ("box", "carton", "crate"),
    "star": ("star", "badge", "starfish"),
    "tree": ("pine", "tree", "fir"),
    "house": ("building", "house", "cabin"),
    "car": ("car", "sedan", "taxi"),
    "boat": ("boat", "yacht", "ship"),
    "fish": ("fish", "carp", "shark"),
    "flower": ("plant", "flower", "daisy"),
    "cup": ("pot", "cup", "bucket"),
    "heart": ("heart", "valentine", "balloon"),
    "moon": ("banana", "moon", "crescent"),
    "arrow": ("sign", "cursor", "arrow"),
    "umbrella": ("umbrella", "canopy", "mushroom"),
    "key": ("wrench", "key", "tool"),
    "kite": ("kite", "gem", "tile"),
}
"""What the detector calls things of each class, from the most to the least frequent."""
SHARES = (0.6, 0.28, 0.12)
ALIKE: dict[str, tuple[str, ...]] = {
    "ball": ("moon", "heart", "cup"),
    "box": ("house", "cup", "kite"),
    "star": ("kite", "flower", "arrow"),
    "tree": ("flower", "arrow", "kite"),
    "house": ("box", "car", "tree"),
    "car": ("boat", "house", "fish"),
    "boat": ("kite", "car", "tree"),
    "fish": ("arrow", "key", "car"),
    "flower": ("star", "tree", "umbrella"),
    "cup": ("box", "ball", "house"),
    "heart": ("ball", "star", "umbrella"),
    "moon": ("ball", "fish", "umbrella"),
    "arrow": ("key", "fish", "star"),
    "umbrella": ("flower", "moon", "heart"),
    "key": ("arrow", "fish", "flower"),
    "kite": ("star", "boat", "box"),
}
COLOUR_NAMES: dict[str, tuple[str, ...]] = {
    "red": ("red", "maroon", "pink"),
    "orange": ("orange", "rust", "tan"),
    "yellow": ("yellow", "golden", "beige"),
    "green": ("green", "leafy", "lime"),
    "blue": ("blue", "navy", "teal"),
    "purple": ("lilac", "purple", "violet"),
    "white": ("white", "pale", "clear"),
    "black": ("black", "charcoal", "grey"),
}
ALIKE_COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("orange", "purple"),
    "orange": ("yellow", "red"),
    "yellow": ("orange", "white"),
    "green": ("blue", "yellow"),
    "blue": ("purple", "black"),
    "purple": ("blue", "red"),
    "white": ("yellow",),
    "black": ("blue", "purple"),
}
OTHER_ATTRIBUTES = ("shiny", "plastic", "painted", "small", "large", "standing")
PARTS_OF: dict[str, tuple[str, ...]] = {
    "ball": ("highlight", "shadow"),
    "box": ("lid", "side"),
    "star": ("spike", "tip"),
    "tree": ("trunk", "branch"),
    "house": ("roof", "door", "window"),
    "car": ("wheel", "window"),
    "boat": ("sail", "mast", "hull"),
    "fish": ("fin", "eye", "tail"),
    "flower": ("petal", "stem", "leaf"),
    "cup": ("handle", "rim"),
    "heart": ("curve", "tip"),
    "moon": ("curve", "tip"),
    "arrow": ("tip", "shaft"),
    "umbrella": ("handle", "awning"),
    "key": ("hole", "shaft"),
    "kite": ("string", "tip"),
}
STUFF: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "meadow": (("sky", "cloud", "horizon"), ("grass", "hill", "field"), ("bright", "grassy", "cloudy")),
    "beach": (("sky", "horizon", "haze"), ("sand", "shore", "ground"), ("bright", "hazy")),
    "sea": (("sky", "horizon", "cloud"), ("water", "wave", "sea"), ("wet", "cloudy")),
    "night": (("sky", "dark", "shadow"), ("ground", "shadow"), ("dark", "dim")),
    "snow": (("sky", "cloud", "haze"), ("snow", "ice"), ("cold", "hazy")),
    "room": (("wall", "ceiling"), ("floor", "rug"), ("brown", "wooden", "indoor")),
}
"""Names of the upper and of the lower half of each background, and their attributes."""
SYNONYMS = {NAMES[kind][0]: [*NAMES[kind][:2]] for kind in NAMES} | {
    COLOUR_NAMES[colour][0]: [*COLOUR_NAMES[colour][:2]] for colour in COLOUR_NAMES
}
"""Names of the detector that mean the same, for systems that expand them without WordNet."""


def vocabulary() -> frozenset[str]:
    """All words of the detector."""
    lists = [*NAMES.values(), *COLOUR_NAMES.values(), *PARTS_OF.values(), OTHER_ATTRIBUTES]
    return frozenset(
        word for words in [*lists, *(part for stuff in STUFF.values() for part in stuff)] for word in words
    )


def detections(rng: np.random.Generator, what: Scene) -> list[dict[str, Any]]:
    """Up to `MOST` regions of a scene: `box` in pixels, `class`, `attribute` (may be empty) and `confidence`."""
    regions: list[dict[str, Any]] = []
    for thing in what.things:
        hidden = sum(shared_area(thing.box, t.box) for t in what.things if t.depth > thing.depth) / area(thing.box)
        missed = MISSED + MISSED_SMALL * (thing.size == "small") + MISSED_HIDDEN * (hidden > 0.15)
        if rng.random() >= missed:
            regions.append(_of_thing(rng, thing, JITTER, (8, 2)))
        if rng.random() < TWICE:
            regions.append(_of_thing(rng, thing, 2.5 * JITTER, (3, 4)))
        if rng.random() < PARTS:
            regions.append(_part(rng, thing))
    regions += [_stuff(rng, what.background) for _ in range(int(rng.integers(*BACKGROUND)))]
    return sorted(regions, key=lambda region: -region["confidence"])[:MOST]


def _of_thing(rng: np.random.Generator, thing: Thing, jitter: float, certain: tuple[int, int]) -> dict[str, Any]:
    kind, colour = thing.kind, thing.colour
    wrong = rng.random() < CONFUSED
    if wrong:
        kind, certain = pick(rng, ALIKE[kind]), (4, 4)
    if rng.random() < CONFUSED:
        colour = pick(rng, ALIKE_COLOURS[colour])
    attribute = _one_of(rng, COLOUR_NAMES[colour])
    other = rng.random()
    attribute = "" if other < 0.1 else pick(rng, OTHER_ATTRIBUTES) if other < 0.25 else attribute
    return _region(rng, thing.box, jitter, _one_of(rng, NAMES[kind]), attribute, certain)


def _part(rng: np.random.Generator, thing: Thing) -> dict[str, Any]:
    left, top, right, bottom = thing.box
    wide, high = (rng.uniform(0.35, 0.55, 2) * (right - left, bottom - top)).tolist()
    x, y = rng.uniform(left, right - wide), rng.uniform(top, bottom - high)
    attribute = _one_of(rng, COLOUR_NAMES[thing.colour]) if rng.random() < 0.6 else pick(rng, OTHER_ATTRIBUTES)
    return _region(rng, (x, y, x + wide, y + high), 0.05, pick(rng, PARTS_OF[thing.kind]), attribute, (3, 5))


def _stuff(rng: np.random.Generator, where: str) -> dict[str, Any]:
    """A region of the background, which may well hold things, as the regions of detectors do."""
    upper, lower, attributes = STUFF[where]
    wide, high = rng.uniform(0.25, 0.95) * SIDE, rng.uniform(0.15, 0.5) * SIDE
    above = rng.random() < 0.5
    x, y = rng.uniform(0, SIDE - wide), rng.uniform(0, 0.5 * SIDE - high * 0.8) + (0 if above else 0.45 * SIDE)
    attribute = pick(rng, attributes) if rng.random() < 0.7 else ""
    return _region(rng, (x, y, x + wide, y + high), 0.02, pick(rng, upper if above else lower), attribute, (4, 4))


def _region(
    rng: np.random.Generator, box: Box, jitter: float, name: str, attribute: str, certain: tuple[int, int]
) -> dict[str, Any]:
    """The region with its edges moved, inside of the picture."""
    wide, high = box[2] - box[0], box[3] - box[1]
    moved = np.add(box, rng.normal(0, jitter, 4).clip(-0.25, 0.25) * (wide, high, wide, high))
    left, top = np.clip(moved[:2], 0, SIDE - LEAST_SIDE)
    right, bottom = np.clip(np.maximum(moved[2:], (left + LEAST_SIDE, top + LEAST_SIDE)), 0, SIDE)
    edges = [round(float(v), 1) for v in (left, top, right, bottom)]
    return {"box": edges, "class": name, "attribute": attribute, "confidence": round(float(rng.beta(*certain)), 4)}


def _one_of(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.choice(len(names), p=SHARES))]
