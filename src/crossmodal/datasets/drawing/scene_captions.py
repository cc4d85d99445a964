"""Captions of the drawn world `scenes`: sentences that are true of a scene, mention a part of it and vary their words.

Two of the captions of a scene that has a twin are written for both scenes with the same choices, so that they differ in
the one word (or in the order of the two words) in which the scenes differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossmodal.datasets.drawing.scene_layout import Scene
from crossmodal.datasets.drawing.scene_relations import true_relations, written
from crossmodal.datasets.drawing.scene_things import KINDS, SIDE, SIZES, Thing
from crossmodal.datasets.drawing.scenery import BACKGROUNDS, COLOURS
from crossmodal.datasets.drawing.work import generator, pick

COUNT = 5  # captions of a scene
PARALLEL = 2  # captions that a scene shares with its twin but for one word
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "on": ("on", "on top of", "resting on"),
    "behind": ("behind", "partly hidden by"),
    "under": ("under", "beneath", "underneath"),
    "in front of": ("in front of", "partly hiding"),
    "above": ("above", "higher than"),
    "in": ("in", "sticking out of"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "beside": ("beside", "next to"),
    "over": ("over", "hovering over"),
    "near": ("near", "close to"),
    "inside": ("inside", "within"),
    "leaning on": ("leaning on", "propped against"),
    "bigger than": ("bigger than", "larger than"),
    "smaller than": ("smaller than", "not as big as"),
    "below": ("below", "lower than"),
    "same colour as": ("of the same colour as", "in the colour of"),
    "taller than": ("taller than", "not as short as"),
    "surrounding": ("surrounding", "around"),
    "far from": ("far from", "a long way from"),
}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
CORNERS: dict[str, tuple[str, ...]] = {
    "top left": ("at the top left", "in the upper left corner"),
    "top right": ("at the top right", "in the upper right corner"),
    "bottom left": ("at the bottom left", "in the lower left corner"),
    "bottom right": ("at the bottom right", "in the lower right corner"),
}
OPENINGS = ("", "", "", "", "there is ", "we see ", "a picture of ", "this shows ", "here is ")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


class Words(NamedTuple):
    """Which attributes of a thing are told, and by which of their words (as a share of the list of words)."""

    sized: bool
    coloured: bool
    size: float
    colour: float
    kind: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, sized: float = 0.3, coloured: float = 0.7) -> Words:
        chances = rng.random(5)
        return cls(bool(chances[0] < sized), bool(chances[1] < coloured), *chances[2:].tolist())


def corner(thing: Thing) -> str | None:
    """The corner of the picture in which a thing lies, or None."""
    left, top, right, bottom = thing.box
    across, down = (left + right) / 2 / SIDE, (top + bottom) / 2 / SIDE
    if not (across < 0.33 or across > 0.67) or not (down < 0.33 or down > 0.67):
        return None
    return f"{'top' if down < 0.5 else 'bottom'} {'left' if across < 0.5 else 'right'}"


def noun(thing: Thing, words: Words) -> str:
    """Such as `a small red ball`."""
    words_of_it = [_of(SIZES[thing.size][1], words.size)] if words.sized else []
    words_of_it += [_of(COLOURS[thing.colour][1], words.colour)] if words.coloured else []
    words_of_it.append(_of([singular for singular, _ in KINDS[thing.kind]], words.kind))
    return with_article(" ".join(words_of_it))


def with_article(text: str) -> str:
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _of(words: Sequence[str], share: float) -> str:
    return words[int(share * len(words))]


def captions(key: Sequence[int], what: Scene, base: Scene | None = None, twin: Scene | None = None) -> list[str]:
    """`COUNT` different sentences that are true of a scene.

    Parameters
    ----------
    key : key of the scene's random generator.
    base, twin : the two scenes of the pair that `what` belongs to, where they are twins.
    """
    texts: list[str] = []
    if base is not None and twin is not None:
        shared = generator(*key[:-1], key[-1] - key[-1] % 2, 3)
        for _ in range(PARALLEL):
            before, after = _parallel(shared, base, twin)
            texts.append(before if what is base else after)
    rng = generator(*key, 2)
    while len(texts) < COUNT:
        text = _finished(rng, _body(rng, what), what.background)
        if text not in texts:
            texts.append(text)
    return texts


def _finished(rng: np.random.Generator, body: str, where: str) -> str:
    """The sentence with an opening and, in two of five, with the background."""
    place = pick(rng, BACKGROUNDS[where][2]) if rng.random() < 0.4 else ""
    first = rng.random() < 0.3
    opening = pick(rng, OPENINGS)
    text = f"{place}, {body}" if place and first else opening + " ".join(filter(None, (body, place)))
    return text[0].upper() + text[1:] + "."


def _body(rng: np.random.Generator, what: Scene) -> str:
    things = what.things
    repeated = [k for k in KINDS if sum(t.kind == k for t in things) > 1]
    if repeated and rng.random() < 0.35:
        return _counted(rng, what, pick(rng, repeated))
    if rng.random() < 0.7:
        relation = _related(rng, what)
        if relation is not None:
            return relation
    chosen = [things[int(n)] for n in rng.permutation(len(things))[: int(rng.integers(2, 4))]]
    return listed(rng, [_placed(rng, thing) for thing in chosen])


def _placed(rng: np.random.Generator, thing: Thing) -> str:
    where = corner(thing)
    text = noun(thing, Words.drawn(rng))
    return f"{text} {pick(rng, CORNERS[where])}" if where and rng.random() < 0.3 else text


def listed(rng: np.random.Generator, nouns: Sequence[str]) -> str:
    """Such as `a ball, a cup and a tree`."""
    if len(nouns) == 1:
        return nouns[0]
    return ", ".join(nouns[:-1]) + f" {pick(rng, ('and', 'and', 'with'))} {nouns[-1]}"


def _counted(rng: np.random.Generator, what: Scene, kind: str) -> str:
    """Such as `two blue balls and a cup`: how many are of a class, or of a class and colour, and what else."""
    alike = [t for t in what.things if t.kind == kind]
    colours = {t.colour for t in alike if sum(o.colour == t.colour for o in alike) > 1}
    parts = []
    if colours and rng.random() < 0.7:
        colour = pick(rng, sorted(colours))
        alike = [t for t in alike if t.colour == colour]
        parts.append(pick(rng, COLOURS[colour][1]))
    parts.append(pick(rng, [plural for _, plural in KINDS[kind]]))
    counted = " ".join([NUMBERS[len(alike)], *parts])
    others = [t for t in what.things if t.kind != kind]
    further = [noun(others[int(n)], Words.drawn(rng)) for n in rng.permutation(len(others))[:2]]
    return listed(rng, [counted, *further[: int(rng.integers(1, 3))]])


def _related(rng: np.random.Generator, what: Scene) -> str | None:
    """Such as `a ball on a box and a cup`: one or two relations that annotators wrote, and in some something else."""
    if not what.relations:
        return None
    order = [what.relations[int(n)] for n in rng.permutation(len(what.relations))]
    a, name, b = order[0]
    text = _statement(rng, what, a, name, b)
    rest = [n for n in rng.permutation(len(what.things)).tolist() if n not in (a, b)]
    second = next(((c, other, d) for c, other, d in order[1:] if not {c, d} & {a, b}), None)
    if second is not None and rng.random() < 0.5:
        return f"{text} and {_statement(rng, what, *second)}"
    if rest and rng.random() < 0.5:
        return f"{text} {pick(rng, ('and', 'with'))} {noun(what.things[rest[0]], Words.drawn(rng))}"
    return text


def _statement(rng: np.random.Generator, what: Scene, a: int, name: str, b: int) -> str:
    subject, other = (noun(what.things[n], Words.drawn(rng)) for n in (a, b))
    return f"{subject} {pick(rng, RELATION_WORDS[name])} {other}"


def _parallel(rng: np.random.Generator, base: Scene, twin: Scene) -> tuple[str, str]:
    """Two sentences by the same choices, the first true of `base`, the second of `twin` and not of the other."""
    a = twin.changed[int(rng.integers(len(twin.changed)))]
    others = [n for n in twin.changed if n != a] or [n for n in range(len(base.things)) if n != a]
    b = others[int(rng.integers(len(others)))]
    chances = {"colour": (0.2, 1.0), "colours": (0.2, 1.0), "size": (1.0, 0.6)}.get(twin.change or "", (0.2, 0.6))
    words = [Words.drawn(rng, *chances), Words.drawn(rng, 0.2, 1.0 if twin.change == "colours" else 0.6)]
    if twin.change == "colours":
        words[1] = words[1]._replace(colour=words[0].colour)  # so that the two words change places
    relation = float(rng.random())
    if twin.change == "places":
        names = [n for n in true_relations(base.things[a], base.things[b]) if n in OPPOSITE]
        names = [n for n in names if OPPOSITE[n] in true_relations(twin.things[a], twin.things[b])]
        name = pick(rng, names)
        middles = (_of(RELATION_WORDS[name], relation), _of(RELATION_WORDS[OPPOSITE[name]], relation))
    else:
        usual = written(rng, base.things[a], base.things[b], test=True)
        name = usual if usual in true_relations(twin.things[a], twin.things[b]) else None
        middles = (_of(RELATION_WORDS[name], relation) if name else "and",) * 2
    bodies = [
        f"{noun(of.things[a], words[0])} {middle} {noun(of.things[b], words[1])}"
        for of, middle in zip((base, twin), middles, strict=True)
    ]
    finish = int(rng.integers(2**32))
    first, second = (_finished(generator(finish), body, base.background) for body in bodies)
    return first, second
