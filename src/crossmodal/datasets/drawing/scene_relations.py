"""The twenty relations of the drawn world `scenes`: when each is true of two things, and which one people write.

Several relations are true of most pairs. An annotator writes one of them by a prior, which depends on the relation (its
frequencies have a long tail) and on the two classes (a moon is above a house, a flower in a cup). So neither the
classes alone nor the boxes alone tell which one is written.
"""

from __future__ import annotations

import math

import numpy as np

from crossmodal.datasets.drawing.scene_things import KINDS, Thing, area, shared_area

PREDICATES = (
    "on",
    "behind",
    "under",
    "in front of",
    "above",
    "in",
    "left of",
    "right of",
    "beside",
    "over",
    "near",
    "inside",
    "leaning on",
    "bigger than",
    "smaller than",
    "below",
    "same colour as",
    "taller than",
    "surrounding",
    "far from",
)
"""From the most to the least frequent, before the classes have their say."""
ZIPF = 1.3  # exponent of the frequencies by rank
PAIRWISE = 2.6  # standard deviation of the log preference of a pair of classes for a relation
SHARP = 1.7  # exponent of the prior when one of the true relations is written
NOVEL = 0.05  # share of relations that are written without regard to the prior
UNSEEN = 0.09  # share of the triples of subject, relation and object that only the test has

TOUCH = 5.0  # pixels by which things that touch may be apart or overlap
LEAN = 0.28  # least tilt in radians of a thing that leans on another

SKY = frozenset({"moon", "star", "kite"})
GROUND = frozenset({"tree", "house", "car", "boat", "box"})
HOLDERS = frozenset({"cup", "box", "boat"})
FRAMES = frozenset({"ball", "box", "heart", "house", "kite", "star", "cup"})
LEANERS = frozenset({"key", "umbrella", "arrow", "kite", "flower", "star", "heart"})
BASES = frozenset({"box", "car", "boat", "house", "cup", "umbrella", "ball"})


def _preferences() -> np.ndarray:
    """(K, K, P) weights of each relation between subjects and objects of each class; each row sums to 1."""
    kinds = list(KINDS)
    rng = np.random.default_rng(20)
    weights = np.exp(rng.normal(0, PAIRWISE, (len(kinds), len(kinds), len(PREDICATES))))
    weights *= np.arange(1, len(PREDICATES) + 1, dtype=float) ** -ZIPF
    factor = {name: n for n, name in enumerate(PREDICATES)}
    # Classes alone cannot tell the mirror images of a relation from each other.
    for a, b in (("left of", "right of"), ("bigger than", "smaller than")):
        weights[..., [factor[a], factor[b]]] = weights[..., [factor[a], factor[b]]].mean(2, keepdims=True)
    for i, subject in enumerate(kinds):
        for j, other in enumerate(kinds):
            row = weights[i, j]
            for name, multiple in _multiples(subject, other).items():
                row[factor[name]] *= multiple
            row /= row.sum()
    return weights


def _multiples(subject: str, other: str) -> dict[str, float]:
    """How much more often than usual a relation is written of two classes."""
    multiples: dict[str, float] = {}
    if subject in SKY and other not in SKY:
        multiples |= {"above": 7.0, "over": 9.0, "on": 0.2}
    if other in SKY and subject not in SKY:
        multiples |= {"under": 9.0, "below": 7.0, "on": 0.1, "in": 0.0}
    if subject in GROUND and other in GROUND:
        multiples |= {"behind": 5.0, "in front of": 6.0, "beside": 6.0, "on": 2.0}
    if subject not in GROUND | SKY and other in BASES:
        multiples |= {"on": 20.0}
    if subject == other:
        multiples |= {"beside": 5.0, "bigger than": 9.0, "smaller than": 9.0, "same colour as": 12.0, "in": 0.0}
    multiples["in"] = multiples.get("in", 1.0) * (9.0 if other in HOLDERS and subject not in GROUND else 0.0)
    multiples["inside"] = 4.0 if other in FRAMES and subject not in GROUND else 0.0
    multiples["surrounding"] = 4.0 if subject in FRAMES and other not in GROUND else 0.0
    multiples["leaning on"] = 8.0 if subject in LEANERS and other in GROUND else 0.0
    if other not in BASES:
        multiples["on"] = min(multiples.get("on", 1.0), 0.4)
    return multiples


PREFERENCES = _preferences()
TEST_ONLY = np.random.default_rng(21).random(PREFERENCES.shape) < UNSEEN
"""(K, K, P) triples that are written in the test partition only."""
_KIND_NUMBER = {name: n for n, name in enumerate(KINDS)}
_NUMBER = {name: n for n, name in enumerate(PREDICATES)}


def prior(subject: str, other: str) -> np.ndarray:
    """(P,) how often each relation is asked for between things of two classes."""
    return PREFERENCES[_KIND_NUMBER[subject], _KIND_NUMBER[other]]


def true_relations(subject: Thing, other: Thing) -> list[str]:
    """The relations of `PREDICATES` that are true of two things, by their boxes, depths, tilts and colours."""
    a, b = subject.box, other.box
    wide, high, wide_b, high_b = a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]
    x, y, x_b, y_b = (a[0] + a[2]) / 2, (a[1] + a[3]) / 2, (b[0] + b[2]) / 2, (b[1] + b[3]) / 2
    across, down = x_b - x, y_b - y  # positive: the other is to the right, or lower
    gap_x, gap_y = max(a[0], b[0]) - min(a[2], b[2]), max(a[1], b[1]) - min(a[3], b[3])
    overlap = shared_area(a, b) / min(area(a), area(b))
    within = max(0.0, -gap_x) >= 0.5 * min(wide, wide_b)  # one is straight above the other
    nearer = subject.depth > other.depth
    contained = b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3] and area(a) <= 0.45 * area(b)
    contains = a[0] <= b[0] and a[1] <= b[1] and b[2] <= a[2] and b[3] <= a[3] and area(b) <= 0.45 * area(a)
    held = (
        not nearer
        and within
        and wide <= 1.1 * wide_b
        and a[1] < b[1] - 0.25 * high
        and b[1] + 0.15 * high_b <= a[3] <= b[3]
    )
    rests = abs(a[3] - b[1]) <= TOUCH and b[0] <= x <= b[2] and down > 0
    tests = {
        "on": rests,
        "near": math.hypot(max(gap_x, 0), max(gap_y, 0)) <= 28 and not contained and not contains,
        "left of": a[2] <= b[0] + TOUCH and across >= 0.5 * abs(down),
        "right of": b[2] <= a[0] + TOUCH and -across >= 0.5 * abs(down),
        "behind": overlap >= 0.08 and not nearer and not held and not contains and a[3] < b[3],
        "above": a[3] <= b[1] + TOUCH and down >= 0.5 * abs(across),
        "in front of": overlap >= 0.08 and nearer and not contained and b[3] < a[3],
        "in": held,
        "under": b[3] <= a[1] + TOUCH and within and gap_y <= 45,
        "beside": -TOUCH <= gap_x <= 16 and -gap_y >= 0.5 * min(high, high_b),
        "over": a[3] <= b[1] - TOUCH and within and gap_y <= 60,
        "below": b[3] <= a[1] + TOUCH and -down >= 0.5 * abs(across),
        "bigger than": area(a) >= 1.6 * area(b),
        "inside": contained and nearer,
        "far from": math.hypot(across, down) >= 95,
        "smaller than": area(b) >= 1.6 * area(a),
        "same colour as": subject.colour == other.colour,
        "taller than": high >= 1.3 * high_b,
        "leaning on": abs(subject.angle) >= LEAN and -1.6 * TOUCH <= gap_x <= TOUCH and abs(a[3] - b[3]) <= 0.3 * high,
        "surrounding": contains and not nearer,
    }
    return [name for name in PREDICATES if tests[name]]


def written(rng: np.random.Generator, subject: Thing, other: Thing, *, test: bool) -> str | None:
    """The relation that an annotator writes of two things: one of the true ones, by the prior; None if there is none.

    Parameters
    ----------
    test : whether the triples of `TEST_ONLY` may be written.
    """
    true, weights = _weighted(subject, other, test)
    if weights.sum() == 0:
        return None
    if rng.random() < NOVEL:
        weights = weights > 0
    return true[int(rng.choice(len(true), p=weights / weights.sum()))]


def usualness(subject: Thing, other: Thing, *, test: bool) -> float:
    """How usual the relations are that may be written of two things, by the prior of their classes."""
    return float(_weighted(subject, other, test)[1].sum())


def _weighted(subject: Thing, other: Thing, test: bool) -> tuple[list[str], np.ndarray]:
    """The true relations, and their weights."""
    true = true_relations(subject, other)
    triples = (_KIND_NUMBER[subject.kind], _KIND_NUMBER[other.kind], [_NUMBER[name] for name in true])
    return true, np.where(TEST_ONLY[triples] & (not test), 0.0, PREFERENCES[triples] ** SHARP)
