"""Short texts about the objects of the five-modality world, of which many do not mention the name of the class."""

from __future__ import annotations

import numpy as np

from crossmodal.datasets.drawing.classes import KINDS, NAMES, Instance
from crossmodal.datasets.drawing.scenery import BACKGROUNDS, COLOURS
from crossmodal.datasets.drawing.work import pick

NAMED = 0.5  # share of the texts that mention a name of the object's class
TOLD = 0.6  # share of the texts that mention an action typical of the class
SIZES = {"small": ("small", "tiny", "little"), "large": ("large", "big", "huge")}
MORE_COLOURS = {"brown": ("brown", "chestnut"), "grey": ("grey", "silvery"), "tan": ("tan", "sandy")}
OPENINGS = ("", "", "", "", "Here ", "Today ", "Once more ", "As so often ")
ACTS = ("is seen", "can be met", "is there again", "waits", "catches the eye", "is on its own", "moves a little")
ASIDES = (
    "People stop and look.",
    "It was seen by many that day.",
    "Nobody knows how old it is.",
    "The picture was taken in the morning.",
    "This is a well known sight.",
    "Children point at it.",
    "Few have seen one so close.",
    "The light is good and the air is clear.",
)


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _described(rng: np.random.Generator, what: Instance, noun: str) -> str:
    words = []
    if rng.random() < 0.4:
        words.append(pick(rng, SIZES[what.size]))
    if rng.random() < 0.6:
        words.append(pick(rng, MORE_COLOURS.get(what.colour) or COLOURS[what.colour][1]))
    return _a(" ".join([*words, noun]))


def text(what: Instance) -> str:
    """One to five sentences about an object: its name or a generic one, its action, sound and traits, and its place."""
    rng = what.rng(10)
    traits = KINDS[what.kind]
    named = rng.random() < NAMED
    noun = pick(rng, traits.names if named else traits.kin)
    act = pick(rng, traits.acts if rng.random() < TOLD else ACTS)
    where = pick(rng, BACKGROUNDS[what.place][2])
    first = pick(rng, OPENINGS) + f"{_described(rng, what, noun)} {act}"
    if rng.random() < 0.7:
        first = f"{first} {where}" if rng.random() < 0.7 else f"{where}, {first[0].lower()}{first[1:]}"
    rest = []
    if rng.random() < 0.45:
        rest.append(
            pick(rng, ("It {}.", "One can hear how it {}.", "Sometimes it {}.")).format(pick(rng, traits.noises))
        )
    if rng.random() < 0.45:
        rest.append(pick(rng, ("It has {}.", "One notices {}.", "You can see {}.")).format(pick(rng, traits.traits)))
    if rng.random() < 0.25:
        other = pick(rng, NAMES)
        about = pick(rng, KINDS[other].names)
        rest.append(pick(rng, ("It is not {}.", "Nearby there is {}.", "Someone took it for {}.")).format(_a(about)))
    if rng.random() < 0.4:
        rest.append(pick(rng, ASIDES))
    rest = [rest[k] for k in rng.permutation(len(rest))]
    return " ".join([f"{first[0].upper()}{first[1:]}.", *rest])
