"""The twenty classes of the five-modality world: their names, actions, sounds in words, traits, colours and places.

The classes form groups that are similar in some modality; `kin` are words that a class shares with similar classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossmodal.datasets.drawing.work import generator, pick
from crossmodal.modalities import MODALITIES


@dataclass(frozen=True)
class Kind:
    """A class: its own words, words shared with similar classes (`kin`), and its usual colours and places.

    Colours are names in `render.NATURAL`, places are names in `scenery.BACKGROUNDS`.
    """

    names: tuple[str, ...]
    kin: tuple[str, ...]
    acts: tuple[str, ...]
    noises: tuple[str, ...]
    traits: tuple[str, ...]
    colours: tuple[str, ...]
    places: tuple[str, ...]


_CANINE = ("animal", "canine", "four-legged creature", "beast")
_GRAZER = ("animal", "big beast", "four-legged creature", "mammal")
_FLYER = ("animal", "winged creature", "flyer", "feathered creature")
_SMALL = ("animal", "tiny creature", "little beast")
_ROAD = ("vehicle", "machine", "means of transport")
_AIR = ("aircraft", "flying machine", "vehicle", "flyer")
_STRING = ("instrument", "string instrument", "old wooden thing")
_STRUCK = ("instrument", "percussion", "round thing")
_FUR = ("brown", "grey", "tan", "black", "white")
_PAINTED = ("red", "blue", "white", "black", "green", "yellow", "grey", "orange")

KINDS: dict[str, Kind] = {
    "dog": Kind(
        ("dog", "hound", "puppy"),
        _CANINE,
        ("runs after a ball", "wags its tail", "fetches a stick", "runs"),
        ("barks", "growls", "howls at times"),
        ("floppy ears", "a wet nose", "a collar", "thick fur"),
        _FUR,
        ("meadow", "beach", "room", "snow"),
    ),
    "wolf": Kind(
        ("wolf", "grey wolf", "lone wolf"),
        _CANINE,
        ("runs with the pack", "hunts", "trots through the wood", "runs"),
        ("howls", "growls", "howls at the moon"),
        ("pointed ears", "sharp fangs", "thick fur"),
        ("grey", "black", "brown", "white"),
        ("snow", "night", "meadow"),
    ),
    "cat": Kind(
        ("cat", "kitten", "tabby"),
        (*_CANINE[:1], *_SMALL[1:], "four-legged creature"),
        ("stalks a mouse", "climbs", "stretches", "walks softly"),
        ("meows", "purrs", "hisses"),
        ("whiskers", "pointed ears", "a long tail"),
        ("grey", "black", "white", "orange", "tan"),
        ("room", "meadow", "night"),
    ),
    "horse": Kind(
        ("horse", "mare", "stallion", "pony"),
        _GRAZER,
        ("gallops", "trots", "jumps a fence", "walks"),
        ("neighs", "clatters with its hooves", "snorts"),
        ("a mane", "hooves", "a saddle", "long legs"),
        ("brown", "black", "white", "tan"),
        ("meadow", "beach", "snow"),
    ),
    "elephant": Kind(
        ("elephant", "bull elephant", "elephant calf"),
        _GRAZER,
        ("walks heavily", "lifts its trunk", "bathes", "walks"),
        ("trumpets", "rumbles", "snorts"),
        ("a trunk", "tusks", "wide ears", "thick legs"),
        ("grey", "grey", "tan", "brown"),
        ("meadow", "beach", "sea"),
    ),
    "bird": Kind(
        ("bird", "songbird", "finch", "sparrow"),
        _FLYER,
        ("flaps its wings", "hops about", "flies", "pecks at seeds"),
        ("sings", "chirps", "tweets"),
        ("feathers", "a beak", "wings", "thin legs"),
        ("red", "blue", "yellow", "brown", "green", "grey"),
        ("meadow", "sea", "beach", "snow"),
    ),
    "owl": Kind(
        ("owl", "barn owl", "tawny owl"),
        _FLYER,
        ("turns its head", "hunts", "flies without a sound", "sits still"),
        ("hoots", "screeches", "calls"),
        ("feathers", "big round eyes", "ear tufts", "a beak", "wings"),
        ("brown", "tan", "white", "grey"),
        ("night", "night", "snow", "meadow"),
    ),
    "frog": Kind(
        ("frog", "toad", "tree frog"),
        _SMALL,
        ("leaps", "hops about", "catches a fly", "sits still"),
        ("croaks", "calls", "ribbits"),
        ("bulging eyes", "webbed feet", "smooth skin"),
        ("green", "green", "brown", "tan", "yellow"),
        ("meadow", "sea", "beach"),
    ),
    "bee": Kind(
        ("bee", "bumblebee", "honeybee", "wasp"),
        (*_SMALL, "winged creature", "flyer"),
        ("gathers nectar", "hovers", "flies in circles", "flies"),
        ("buzzes", "hums", "drones"),
        ("wings", "stripes", "a sting"),
        ("yellow", "orange", "yellow", "brown"),
        ("meadow", "meadow", "room", "beach"),
    ),
    "car": Kind(
        ("car", "automobile", "sedan"),
        _ROAD,
        ("drives by", "turns a corner", "speeds away", "stops"),
        ("honks", "rumbles", "hums along", "roars"),
        ("four wheels", "windows", "headlights", "an engine"),
        _PAINTED,
        ("meadow", "night", "snow", "beach"),
    ),
    "motorcycle": Kind(
        ("motorcycle", "motorbike", "chopper"),
        _ROAD,
        ("races by", "leans into a curve", "speeds away", "stops"),
        ("roars", "rumbles", "rattles"),
        ("two wheels", "a handlebar", "an exhaust", "an engine"),
        _PAINTED,
        ("meadow", "night", "beach", "room"),
    ),
    "train": Kind(
        ("train", "locomotive", "railway train"),
        _ROAD,
        ("pulls its carriages", "leaves the station", "rolls by", "stops"),
        ("whistles", "rattles", "puffs", "rumbles"),
        ("carriages", "many wheels", "windows", "an engine"),
        _PAINTED,
        ("meadow", "snow", "night"),
    ),
    "airplane": Kind(
        ("airplane", "jet", "airliner", "plane"),
        _AIR,
        ("takes off", "lands", "crosses the sky", "flies"),
        ("roars", "drones", "whistles past"),
        ("wings", "jet engines", "a tail fin", "windows"),
        ("white", "white", "grey", "blue", "red"),
        ("sea", "meadow", "night", "snow"),
    ),
    "helicopter": Kind(
        ("helicopter", "chopper", "rescue helicopter"),
        _AIR,
        ("hovers", "lands", "takes off", "flies"),
        ("chops the air", "drones", "rattles", "roars"),
        ("a rotor", "blades", "skids", "an engine"),
        ("red", "yellow", "white", "green", "black", "blue"),
        ("sea", "meadow", "snow", "night"),
    ),
    "boat": Kind(
        ("boat", "ship", "yacht", "ferry"),
        (*_ROAD, "vessel"),
        ("rocks on the waves", "sails by", "leaves the harbour", "turns"),
        ("sounds its horn", "splashes", "hums along"),
        ("a hull", "a mast", "sails", "an engine", "windows"),
        ("white", "red", "blue", "brown", "green"),
        ("sea", "sea", "beach", "night"),
    ),
    "drum": Kind(
        ("drum", "snare drum", "kettledrum"),
        _STRUCK,
        ("is beaten", "is played by a marching band", "keeps the rhythm", "is played"),
        ("booms", "rolls", "thumps"),
        ("a drumhead", "sticks", "a metal rim"),
        ("red", "blue", "white", "brown", "black"),
        ("room", "meadow", "night"),
    ),
    "bell": Kind(
        ("bell", "church bell", "handbell"),
        (*_STRUCK, "metal thing"),
        ("swings", "is struck", "calls to church", "is played"),
        ("rings", "tolls", "chimes"),
        ("a clapper", "a rim", "a handle", "bronze"),
        ("yellow", "orange", "grey", "brown"),
        ("room", "snow", "meadow", "night"),
    ),
    "violin": Kind(
        ("violin", "fiddle", "viola"),
        _STRING,
        ("is bowed", "is played in an orchestra", "plays a solo", "is played"),
        ("sings", "plays a long note", "plays a melody"),
        ("strings", "a bow", "a neck", "pegs"),
        ("brown", "brown", "orange", "red", "black"),
        ("room", "room", "night", "meadow"),
    ),
    "guitar": Kind(
        ("guitar", "acoustic guitar", "electric guitar"),
        _STRING,
        ("is strummed", "is plucked at the campfire", "plays a solo", "is played"),
        ("twangs", "plays chords", "plays a melody"),
        ("strings", "frets", "a neck", "pegs", "a sound hole"),
        ("brown", "orange", "red", "black", "tan", "blue"),
        ("room", "room", "beach", "night"),
    ),
    "flute": Kind(
        ("flute", "piccolo", "recorder"),
        ("instrument", "wind instrument", "old wooden thing", "metal thing"),
        ("is blown", "is played in an orchestra", "plays a solo", "is played"),
        ("whistles", "sings", "plays a melody", "plays a long note"),
        ("keys", "holes", "a mouthpiece"),
        ("grey", "white", "brown", "yellow", "black"),
        ("room", "room", "meadow", "night"),
    ),
}
NAMES = tuple(KINDS)


@dataclass(frozen=True)
class Instance:
    """One object of a class, as shown in an item."""

    kind: str
    colour: str
    size: str
    place: str
    key: tuple[int, ...]
    """Key of the random generators that draw the object."""

    def rng(self, purpose: int) -> np.random.Generator:
        """A random generator for one purpose, such as the shape or the picture."""
        return generator(*self.key, purpose)


def instance(seed: int, modality: str, index: int) -> Instance:
    """The object in item `index` of a modality, which depends on the arguments only; a text has that of its image."""
    shown = "image" if modality == "text" else modality
    key = (seed, MODALITIES.index(shown), index)
    rng = generator(*key, 0)
    kind = NAMES[index % len(NAMES)]
    traits = KINDS[kind]
    colour = pick(rng, traits.colours if rng.random() < 0.85 else _PAINTED)
    place = pick(rng, traits.places if rng.random() < 0.65 else ("meadow", "beach", "sea", "night", "snow", "room"))
    return Instance(kind, colour, pick(rng, ("small", "large")), place, key)
