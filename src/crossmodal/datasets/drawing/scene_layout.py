"""Layout of the scenes of the drawn world `scenes`: things are placed one after another, most by a relation to another.

Two scenes in succession may be twins, which differ in one respect: the colour, class or size of one thing, the colours
of two things, which are exchanged, or their places. Everything follows from a key of the random generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from crossmodal.datasets.drawing.scene_relations import LEAN, PREDICATES, prior, true_relations, usualness, written
from crossmodal.datasets.drawing.scene_things import (
    KINDS,
    MARGIN,
    SIDE,
    SIZES,
    Thing,
    area,
    inside_picture,
    shared_area,
    visible_colours,
)
from crossmodal.datasets.drawing.scenery import BACKGROUNDS
from crossmodal.datasets.drawing.work import generator, pick

Change = Literal["colour", "kind", "size", "colours", "places"]
Relation = tuple[int, str, int]  # numbers of subject and object among the things, and what is written between them

TEST = 2  # number of the test partition, after training and validation
COUNTS = {3: 0.2, 4: 0.27, 5: 0.26, 6: 0.17, 7: 0.1}  # shares of scenes with so many things
RELATED = 0.75  # share of the things that are placed by a relation to another
TWINS = 0.6  # share of pairs of successive scenes that are twins
CHANGES: dict[Change, float] = {"colour": 0.3, "kind": 0.15, "size": 0.1, "colours": 0.25, "places": 0.2}
FURTHER = 1  # pairs of things per scene of which a relation is written besides those by which they were placed
OVERLAPPING = frozenset({"behind", "in front of", "in", "inside", "surrounding"})
TRIES = 8  # attempts to change a scene in one respect, before another is tried
HIDDEN = 0.4  # largest share of a thing's box that nearer things may hide


@dataclass(frozen=True)
class Scene:
    """What a picture shows."""

    things: tuple[Thing, ...]
    background: str
    relations: tuple[Relation, ...]
    change: Change | None = None
    """In which respect the scene differs from the one before it; None if they are no twins."""
    changed: tuple[int, ...] = ()
    """Numbers of the things that differ from those of the twin."""


@lru_cache(maxsize=512)
def scene(seed: int, part: int, number: int) -> Scene:
    """Scene `number` of a partition (0: training, 1: validation, 2: test); it depends on the arguments only."""
    rng = generator(seed, part, number, 0)
    if number % 2 and rng.random() < TWINS:
        base = scene(seed, part, number - 1)
        twin = _twin(rng, base, part == TEST)
        if twin is not None:
            return twin
    while True:
        things = _placed(rng)
        if things is not None:
            where, things, related = things
            return Scene(things, where, _relations(rng, things, related, part == TEST))


# -- placing ----------------------------------------------------------------------------------------------------------


def _placed(rng: np.random.Generator) -> tuple[str, tuple[Thing, ...], list[tuple[int, int]]] | None:
    """A background, three or more things, and the pairs that were placed by a relation; None if they found no room."""
    where = pick(rng, list(BACKGROUNDS))
    count = int(rng.choice(list(COUNTS), p=list(COUNTS.values())))
    colours = rng.permutation(visible_colours(where))[: int(rng.integers(3, 5))].tolist()  # few, to be shared
    kinds = _kinds(rng, count)
    things: list[Thing] = []
    related: list[tuple[int, int]] = []
    for kind in kinds:
        size = "large" if rng.random() < (0.55 if len(things) < 3 else 0.2) else "small"
        thing = _body(rng, kind, pick(rng, colours), size)
        other = int(rng.integers(len(things))) if things else 0
        placed = None
        if things and rng.random() < RELATED:
            placed = _by_relation(rng, thing, things, other, colours)
            if placed is None:  # another thing may have room, or another relation
                other = int(rng.integers(len(things)))
                placed = _by_relation(rng, thing, things, other, colours)
        if placed is None:
            placed = _anywhere(rng, thing, things)
        elif placed is not None:
            related.append((len(things), other))
        if placed is not None:
            things.append(placed)
    return (where, tuple(things), related) if len(things) >= 3 else None


def _kinds(rng: np.random.Generator, count: int) -> list[str]:
    """Classes of `count` things, of which some repeat in most scenes."""
    kinds: list[str] = []
    while len(kinds) < count:
        again = kinds and rng.random() < 0.3
        kinds.append(pick(rng, kinds if again else list(KINDS)))
    return kinds


def _body(rng: np.random.Generator, kind: str, colour: str, size: str) -> Thing:
    return Thing(kind, colour, size, float(rng.uniform(*SIZES[size][0])), float(rng.uniform(-0.12, 0.12)))


def _anywhere(rng: np.random.Generator, thing: Thing, things: list[Thing]) -> Thing | None:
    """The thing at a place where it touches no other; None if none was found."""
    for _ in range(30):
        placed = _moved(thing, *rng.uniform(MARGIN, SIDE - MARGIN, 2))
        if placed is not None and all(shared_area(placed.box, other.box) == 0 for other in things):
            return placed
    return None


def _moved(thing: Thing, x: float, y: float, depth: float | None = None) -> Thing | None:
    """The thing with the middle of its box at (x, y), or None outside of the picture; lower things are nearer."""
    thing = thing.at(x, y)
    if not inside_picture(thing.box):
        return None
    return replace(thing, depth=thing.box[3] if depth is None else depth)


def _by_relation(
    rng: np.random.Generator, thing: Thing, things: list[Thing], number: int, colours: list[str]
) -> Thing | None:
    """The thing where a relation to another, drawn from the prior, is true; None if no such place was found."""
    other = things[number]
    name = PREDICATES[int(rng.choice(len(PREDICATES), p=prior(thing.kind, other.kind)))]
    thing = _suited(rng, thing, other, name, colours)
    wide, high = thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]
    for _ in range(12):
        x, y, nearer = PLACING[name](rng, wide, high, other)
        depth = None if nearer == 0 else other.depth + 0.5 * nearer
        placed = _moved(thing, x, y, depth)
        if placed is not None and name in true_relations(placed, other) and _clear(placed, things, number):
            return placed
    return None


def _suited(rng: np.random.Generator, thing: Thing, other: Thing, name: str, colours: list[str]) -> Thing:
    """The thing with the size, tilt or colour that a relation needs."""
    if name in ("in", "inside", "smaller than", "leaning on"):
        thing = _body(rng, thing.kind, thing.colour, "small")
    if name in ("surrounding", "bigger than", "taller than"):
        thing = _body(rng, thing.kind, thing.colour, "large")
    if name == "inside":
        thing = replace(thing, side=min(thing.side, 0.45 * other.side))
    if name == "leaning on":
        thing = replace(thing, angle=float(rng.choice((-1, 1)) * rng.uniform(LEAN + 0.05, 0.55)))
    if name == "same colour as":
        thing = replace(thing, colour=other.colour)
    elif thing.colour == other.colour and name in OVERLAPPING:
        thing = replace(thing, colour=pick(rng, [c for c in colours if c != other.colour]))
    return thing


def _clear(placed: Thing, things: list[Thing], number: int | None = None) -> bool:
    """Whether nothing but the thing `number` is overlapped, and all stay visible."""
    box = placed.box
    if any(shared_area(box, t.box) > 0.02 * area(box) for n, t in enumerate(things) if n != number):
        return False
    return _all_visible([*things, placed])


def _all_visible(things: list[Thing] | tuple[Thing, ...]) -> bool:
    """Whether nothing is hidden by half, and what overlaps differs in colour."""
    for thing in things:
        nearer = [(t, shared_area(thing.box, t.box)) for t in things if t.depth > thing.depth]
        if sum(shared for _, shared in nearer) > HIDDEN * area(thing.box):
            return False
        if any(shared > 0.05 * area(t.box) and t.colour == thing.colour for t, shared in nearer):
            return False
    return True


Placing = Callable[[np.random.Generator, float, float, Thing], tuple[float, float, int]]


def _around(side: str, low: float, high: float) -> Placing:
    """Placing on one side of another thing, at a distance of `low` to `high` pixels."""

    def place(rng: np.random.Generator, wide: float, tall: float, other: Thing) -> tuple[float, float, int]:
        left, top, right, bottom = other.box
        gap = rng.uniform(low, high)
        if side in ("left", "right"):
            y = rng.uniform(top, bottom)
            return (left - gap - wide / 2 if side == "left" else right + gap + wide / 2), y, 0
        x = rng.uniform(left, right)
        return x, (top - gap - tall / 2 if side == "above" else bottom + gap + tall / 2), 0

    return place


def _either(first: Placing, second: Placing) -> Placing:
    return lambda rng, wide, tall, other: (first if rng.random() < 0.5 else second)(rng, wide, tall, other)


def _overlapping(nearer: int) -> Placing:
    def place(rng: np.random.Generator, wide: float, tall: float, other: Thing) -> tuple[float, float, int]:
        left, top, right, bottom = other.box
        x = rng.choice([left, right]) + rng.uniform(-0.2, 0.2) * wide
        return float(x), (top + bottom) / 2 + nearer * rng.uniform(2, 0.45 * tall), nearer

    return place


def _on(rng: np.random.Generator, wide: float, tall: float, other: Thing) -> tuple[float, float, int]:
    left, top, right, _ = other.box
    return rng.uniform(0.7 * left + 0.3 * right, 0.3 * left + 0.7 * right), top - tall / 2 + rng.uniform(0, 4), 1


def _in(rng: np.random.Generator, wide: float, tall: float, other: Thing) -> tuple[float, float, int]:
    left, top, right, bottom = other.box
    x = (left + right) / 2 + rng.uniform(-0.15, 0.15) * (right - left)
    return x, top + rng.uniform(0.2, 0.4) * (bottom - top) - tall / 2, -1


def _centred(nearer: int) -> Placing:
    def place(rng: np.random.Generator, wide: float, tall: float, other: Thing) -> tuple[float, float, int]:
        left, top, right, bottom = other.box
        x, y = rng.uniform(-3, 3, 2)
        return (left + right) / 2 + x, (top + bottom) / 2 + y, nearer

    return place


def _leaning(rng: np.random.Generator, wide: float, tall: float, other: Thing) -> tuple[float, float, int]:
    left, _, right, bottom = other.box
    gap = rng.uniform(-6, 0)
    return (
        float(rng.choice([left - gap - wide / 2, right + gap + wide / 2])),
        bottom - tall / 2 + rng.uniform(-3, 3),
        1,
    )


def _free(rng: np.random.Generator, wide: float, tall: float, other: Thing) -> tuple[float, float, int]:
    return float(rng.uniform(0, SIDE)), float(rng.uniform(0, SIDE)), 0


_BESIDE = _either(_around("left", 0, 14), _around("right", 0, 14))
PLACING: dict[str, Placing] = {
    "on": _on,
    "near": _either(_BESIDE, _either(_around("above", 2, 20), _around("below", 2, 20))),
    "left of": _around("left", 0, 50),
    "right of": _around("right", 0, 50),
    "behind": _overlapping(-1),
    "above": _around("above", 0, 60),
    "in front of": _overlapping(1),
    "in": _in,
    "under": _around("below", 0, 35),
    "beside": _BESIDE,
    "over": _around("above", 6, 50),
    "below": _around("below", 0, 60),
    "bigger than": _free,
    "inside": _centred(1),
    "far from": _free,
    "smaller than": _free,
    "same colour as": _free,
    "taller than": _free,
    "leaning on": _leaning,
    "surrounding": _centred(-1),
}


def _relations(
    rng: np.random.Generator, things: tuple[Thing, ...], related: list[tuple[int, int]], test: bool
) -> tuple[Relation, ...]:
    """What annotators write of the pairs that were placed by a relation, and of others whose relation is usual."""
    others = [(a, b) for a in range(len(things)) for b in range(len(things)) if a != b and (a, b) not in related]
    usual = np.array([usualness(things[a], things[b], test=test) for a, b in others])
    further = rng.choice(len(others), min(FURTHER, np.count_nonzero(usual)), replace=False, p=usual / usual.sum())
    relations = []
    for a, b in [*related, *(others[n] for n in further)]:
        name = written(rng, things[a], things[b], test=test)
        if name is not None:
            relations.append((a, name, b))
    return tuple(relations)


# -- twins ------------------------------------------------------------------------------------------------------------


def _twin(rng: np.random.Generator, base: Scene, test: bool) -> Scene | None:
    """A scene that differs from `base` in one respect which a caption can state; None if none was found."""
    order = rng.choice(list(CHANGES), len(CHANGES), replace=False, p=list(CHANGES.values()))
    for change in [str(name) for name in order for _ in range(TRIES)]:
        varied = VARIATIONS[change](rng, base)
        if varied is None:
            continue
        things, changed = varied
        if not (all(inside_picture(t.box) for t in things) and _all_visible(things) and _apart(things, base.things)):
            continue
        shift = [s for s in rng.uniform(-5, 5, (8, 2)) if _fits(things, *s)]
        if not shift:
            continue
        x, y = shift[0]
        things = tuple(replace(t, x=t.x + x, y=t.y + y) for t in things)
        relations = _relations(rng, things, [(a, b) for a, _, b in base.relations], test)
        return Scene(things, base.background, relations, change, changed)
    return None


def _fits(things: tuple[Thing, ...], x: float, y: float) -> bool:
    return all(inside_picture(replace(t, x=t.x + x, y=t.y + y).box) for t in things)


def _apart(things: tuple[Thing, ...], before: tuple[Thing, ...]) -> bool:
    """Whether no two things overlap that did not overlap before."""
    for a in range(len(things)):
        for b in range(a):
            shared = shared_area(things[a].box, things[b].box)
            limit = 0.06 * min(area(things[a].box), area(things[b].box))
            if shared > limit and shared > 1.5 * shared_area(before[a].box, before[b].box):
                return False
    return True


Varied = tuple[tuple[Thing, ...], tuple[int, ...]] | None


def _with(base: Scene, n: int, thing: Thing) -> Varied:
    return (*base.things[:n], thing, *base.things[n + 1 :]), (n,)


def _another_colour(rng: np.random.Generator, base: Scene) -> Varied:
    n = int(rng.integers(len(base.things)))
    thing = base.things[n]
    worn = {t.colour for t in base.things if t.kind == thing.kind}
    options = [c for c in visible_colours(base.background) if c not in worn]
    alone = sum(t.kind == thing.kind and t.colour == thing.colour for t in base.things) == 1
    return _with(base, n, replace(thing, colour=pick(rng, options))) if alone else None


def _another_kind(rng: np.random.Generator, base: Scene) -> Varied:
    n = int(rng.integers(len(base.things)))
    kinds = [t.kind for t in base.things]
    if kinds.count(kinds[n]) > 1:
        return None
    kind = pick(rng, [k for k in KINDS if k not in kinds])
    before = base.things[n]
    left, _, right, bottom = before.box
    thing = replace(before, kind=kind)
    return _with(base, n, thing.at((left + right) / 2, bottom - (thing.box[3] - thing.box[1]) / 2))


def _another_size(rng: np.random.Generator, base: Scene) -> Varied:
    n = int(rng.integers(len(base.things)))
    before = base.things[n]
    if sum(t.kind == before.kind for t in base.things) > 1:
        return None
    size = "small" if before.size == "large" else "large"
    thing = replace(before, size=size, side=float(rng.uniform(*SIZES[size][0])))
    left, _, right, bottom = before.box
    return _with(base, n, thing.at((left + right) / 2, bottom - (thing.box[3] - thing.box[1]) / 2))


def _two(rng: np.random.Generator, base: Scene) -> tuple[int, int] | None:
    """Two things of classes that occur once."""
    kinds = [t.kind for t in base.things]
    single = [n for n, kind in enumerate(kinds) if kinds.count(kind) == 1]
    if len(single) < 2:
        return None
    a, b = rng.permutation(single)[:2]
    return int(a), int(b)


def _colours_exchanged(rng: np.random.Generator, base: Scene) -> Varied:
    pair = _two(rng, base)
    if pair is None or base.things[pair[0]].colour == base.things[pair[1]].colour:
        return None
    a, b = pair
    things = list(base.things)
    things[a] = replace(things[a], colour=base.things[b].colour)
    things[b] = replace(things[b], colour=base.things[a].colour)
    return tuple(things), pair


def _places_exchanged(rng: np.random.Generator, base: Scene) -> Varied:
    pair = _two(rng, base)
    if pair is None:
        return None
    a, b = pair
    things, before = list(base.things), base.things
    for n, other in ((a, b), (b, a)):
        left, _, right, bottom = before[other].box
        high = before[n].box[3] - before[n].box[1]
        moved = before[n].at((left + right) / 2, bottom - high / 2)
        things[n] = replace(moved, depth=before[other].depth)
    was, now = true_relations(before[a], before[b]), true_relations(things[a], things[b])
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    return (tuple(things), pair) if any(opposite.get(name) in now for name in was) else None


VARIATIONS: dict[Change, Callable[[np.random.Generator, Scene], Varied]] = {
    "colour": _another_colour,
    "kind": _another_kind,
    "size": _another_size,
    "colours": _colours_exchanged,
    "places": _places_exchanged,
}
