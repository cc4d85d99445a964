"""Animals made of solids: each function draws the proportions of an animal of its class, and `beat` moves its limbs.

The proportions are drawn in a fixed order by `u(low, high)`, a function that returns uniform random numbers, so that an
animal has the same proportions at each beat of a motion.
"""

# ruff: noqa: RUF005 - positions are arrays, to which `+` adds element-wise
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from crossmodal.datasets.drawing.solids import Part, ellipsoid, limb, loft, plate, turn

Uniform = Callable[[float, float], float]


def _ears(form: str, head: np.ndarray, size: float, spread: float) -> list[Part]:
    if form == "pointed":
        ear = limb(
            head + [-0.3 * size, spread * 0.6, 0.5 * spread], head + [-0.3 * size, spread, size], size * 0.35, 0.01
        )
    elif form == "floppy":
        ear = ellipsoid(
            head + [-0.1 * size, spread * 1.05, -0.15 * size], (size * 0.3, size * 0.12, size * 0.6), rings=5
        )
    else:  # wide, like an elephant's
        ear = ellipsoid(
            head + [-0.5 * spread, spread * 1.5, -0.2 * size],
            (size * 0.55, 0.07, size * 0.9),
            rings=6,
            n=8,
            paint="dark",
        )
    return [ear, ear.mirrored()]


def _quadruped(
    u: Uniform,
    beat: float,
    *,
    body: tuple[float, float],
    fat: tuple[float, float],
    legs: tuple[float, float],
    neck: tuple[float, float],
    raised: tuple[float, float],
    snout: tuple[float, float],
    ears: tuple[str, ...],
    ear: float,
    tail: tuple[float, float],
    tail_up: tuple[float, float],
    bushy: tuple[float, float],
    thick: float = 0.09,
    skull: float = 0.2,
) -> tuple[list[Part], np.ndarray, float]:
    """Parts of a four-legged animal, the centre of its head, and the radius of the head.

    Arguments that are pairs are the ranges (low, high) from which a measure is drawn.
    """
    length, width, high = u(*body), u(*fat), u(*legs)
    reach, rise, nose = u(*neck), u(*raised), u(*snout)
    tall, hip = high + width * 0.8, u(0.85, 1.05)
    step = u(0.25, 0.5)
    spine = [(-length / 2, 0, tall), (-length / 4, 0, tall + 0.02), (length / 4, 0, tall + 0.03), (length / 2, 0, tall)]
    parts = [
        loft(
            [(-length * 0.56, 0, tall), *spine, (length * 0.58, 0, tall)],
            [width * 0.3, width * 0.8 * hip, width * 0.9, width, width * 0.95, width * 0.3],
            flat=0.8,
        )
    ]
    for k, (x, y) in enumerate(((0.42, 1), (0.42, -1), (-0.42, 1), (-0.42, -1))):
        swing = step * math.sin(2 * math.pi * beat + (0, math.pi, math.pi, 0)[k])
        top = np.array([x * length, y * width * 0.5, tall - width * 0.3])
        knee = top + [0.5 * high * math.sin(swing), 0, -0.5 * high * math.cos(swing)]
        foot = knee + [0.5 * high * math.sin(swing * 0.5), 0, -0.5 * high]
        parts.append(loft([top, knee, foot], [thick * 1.7, thick, thick * 0.8], n=7))
        parts.append(
            ellipsoid(foot + [thick * 0.5, 0, 0], (thick * 1.4, thick, thick * 0.6), rings=4, n=6, paint="dark")
        )
    shoulder = np.array([length * 0.5, 0, tall + width * 0.3])
    head = shoulder + [reach * math.cos(rise), 0, reach * math.sin(rise)]
    size = skull * u(0.9, 1.1)
    parts.append(loft([shoulder - [0.1, 0, 0.1], head], [width * 0.65, size * 0.75], n=8))
    parts.append(ellipsoid(head, (size * 1.1, size * 0.85, size * 0.95)))
    tip = head + [size * 0.8 + nose, 0, -nose * 0.35]
    parts.append(loft([head + [size * 0.5, 0, -size * 0.1], tip], [size * 0.6, size * 0.32], n=8))
    parts.append(ellipsoid(tip, (size * 0.16, size * 0.2, size * 0.18), rings=4, n=6, paint="black"))
    eye = ellipsoid(head + [size * 0.7, size * 0.55, size * 0.35], (size * 0.16,) * 3, rings=4, n=6, paint="black")
    parts += [eye, eye.mirrored(), *_ears(ears[int(u(0, len(ears) - 1e-9))], head, ear, size * 0.7)]
    long, up, hair = u(*tail), u(*tail_up), u(*bushy)
    wag = 0.3 * math.sin(4 * math.pi * beat)
    root = np.array([-length * 0.54, 0, tall + width * 0.3])
    middle = root + [-long * 0.5 * math.cos(up), wag * long * 0.3, long * 0.5 * math.sin(up)]
    end = middle + [-long * 0.5 * math.cos(up * 1.4), wag * long * 0.5, long * 0.5 * math.sin(up * 1.4)]
    parts.append(loft([root, middle, end], [hair * 0.7, hair, hair * 0.35], n=6))
    return parts, head, size


def dog(u: Uniform, beat: float) -> list[Part]:
    return _quadruped(
        u,
        beat,
        body=(0.8, 1.35),
        fat=(0.19, 0.3),
        legs=(0.3, 0.72),
        neck=(0.22, 0.4),
        raised=(0.4, 1.1),
        snout=(0.08, 0.28),
        ears=("floppy", "floppy", "pointed"),
        ear=0.24,
        tail=(0.25, 0.6),
        tail_up=(0.2, 1.2),
        bushy=(0.03, 0.07),
    )[0]


def wolf(u: Uniform, beat: float) -> list[Part]:
    return _quadruped(
        u,
        beat,
        body=(1.1, 1.4),
        fat=(0.2, 0.28),
        legs=(0.55, 0.8),
        neck=(0.28, 0.42),
        raised=(0.0, 0.9),
        snout=(0.2, 0.32),
        ears=("pointed",),
        ear=0.22,
        tail=(0.45, 0.65),
        tail_up=(-1.2, -0.2),
        bushy=(0.07, 0.11),
    )[0]


def cat(u: Uniform, beat: float) -> list[Part]:
    return _quadruped(
        u,
        beat,
        body=(0.8, 1.1),
        fat=(0.16, 0.24),
        legs=(0.3, 0.5),
        neck=(0.15, 0.26),
        raised=(0.5, 1.1),
        snout=(0.0, 0.08),
        ears=("pointed",),
        ear=0.24,
        tail=(0.6, 0.95),
        tail_up=(-0.2, 1.4),
        bushy=(0.03, 0.05),
        thick=0.06,
    )[0]


def horse(u: Uniform, beat: float) -> list[Part]:
    parts, head, size = _quadruped(
        u,
        beat,
        body=(1.15, 1.5),
        fat=(0.26, 0.36),
        legs=(0.8, 1.1),
        neck=(0.5, 0.75),
        raised=(0.5, 1.05),
        snout=(0.22, 0.34),
        ears=("pointed",),
        ear=0.18,
        tail=(0.5, 0.8),
        tail_up=(-1.4, -0.7),
        bushy=(0.06, 0.1),
        thick=0.085,
        skull=0.17,
    )
    body = parts[0].vertices
    crest = np.array([body[:, 0].max() * 0.8, 0, body[:, 2].max()])
    mane = loft([crest, head + [-size * 0.6, 0, size * 0.7]], [0.12, 0.08], flat=0.4, n=6, paint="dark")
    return [*parts, mane]


def elephant(u: Uniform, beat: float) -> list[Part]:
    parts, head, size = _quadruped(
        u,
        beat,
        body=(1.1, 1.4),
        fat=(0.46, 0.58),
        legs=(0.5, 0.75),
        neck=(0.28, 0.4),
        raised=(0.1, 0.6),
        snout=(0.02, 0.05),
        ears=("wide",),
        ear=0.42,
        tail=(0.3, 0.5),
        tail_up=(-1.4, -1.0),
        bushy=(0.02, 0.035),
        thick=0.17,
        skull=0.31,
    )
    lift = u(-1.0, 0.9) + 0.25 * math.sin(2 * math.pi * beat)
    root = head + [size * 0.9, 0, -size * 0.2]
    bend = root + [0.3, 0, -0.38 + 0.1 * lift]
    tip = bend + [0.32 * math.cos(lift), 0, 0.4 * math.sin(lift)]
    parts.append(loft([root - [0.1, 0, 0], root, bend, tip], [0.15, 0.14, 0.1, 0.06], n=8))
    tusk = u(0.0, 0.4)
    start = head + [size * 0.8, size * 0.5, -size * 0.45]
    left = limb(start, start + [tusk, 0.05, 0.1 * tusk - 0.1], 0.045, 0.01, n=6, paint="white")
    return [*parts, left, left.mirrored()]


def _wing(root: np.ndarray, span: float, chord: float, angle: float, paint: str = "dark", taper: float = 0.35) -> Part:
    outline = [
        (-chord, 0),
        (chord * 0.3, 0),
        (chord * 0.25, span * 0.5),
        (chord * (taper - 0.5), span),
        (-chord * 0.9, span * 0.75),
        (-chord * 1.1, span * 0.4),
    ]
    return plate(outline, 0.03, paint=paint).moved(turn=turn("x", angle)).moved(root)


def bird(u: Uniform, beat: float) -> list[Part]:
    long, fat, tilt = u(0.42, 0.6), u(0.2, 0.3), u(0.15, 0.7)
    flying = u(0, 1) < 0.45
    lean = turn("y", -tilt * (0.25 if flying else 1))
    body = ellipsoid((0, 0, 0), (long, fat, fat)).moved(turn=lean)
    head = lean @ np.array([long * 0.95, 0, fat * 0.55])
    skull = u(0.15, 0.21)
    bill = u(0.1, 0.34)
    parts = [
        body,
        ellipsoid(head, (skull * 1.1, skull, skull)),
        limb(head + [skull * 0.8, 0, 0], head + [skull * 0.8 + bill, 0, -0.04], 0.06, 0.005, n=6, paint="yellow"),
    ]
    eye = ellipsoid(head + [skull * 0.6, skull * 0.75, skull * 0.3], (0.03,) * 3, rings=4, n=6, paint="black")
    parts += [eye, eye.mirrored()]
    span, flap, tail = u(0.7, 1.25), u(0.5, 0.9), u(0.3, 0.7)
    if flying:
        wing = _wing(lean @ np.array([0.1, fat * 0.6, fat * 0.4]), span, 0.28, flap * math.sin(2 * math.pi * beat))
    else:
        wing = ellipsoid((-0.12, fat * 0.9, 0.02), (long * 0.85, 0.05, fat * 0.7), paint="dark").moved(turn=lean)
    fan = plate([(0.1, 0.05), (-tail, u(0.06, 0.2)), (-tail, -0.06), (0.1, -0.05)], 0.03, paint="dark")
    parts += [wing, wing.mirrored(), fan.moved((-long * 0.9, 0, 0.02)).moved(turn=lean)]
    if not flying:
        leg = limb((0.02, 0.08, -fat * 0.8), (0.08, 0.09, -fat - u(0.18, 0.4)), 0.022, n=5, paint="yellow")
        foot = limb(
            (0.0, 0.09, leg.vertices[:, 2].min()), (0.16, 0.09, leg.vertices[:, 2].min()), 0.02, n=5, paint="yellow"
        )
        parts += [leg, leg.mirrored(), foot, foot.mirrored()]
    return parts


def owl(u: Uniform, beat: float) -> list[Part]:
    tall, fat, skull = u(0.45, 0.6), u(0.3, 0.42), u(0.27, 0.34)
    flying = u(0, 1) < 0.2
    turned = turn("z", 0.5 * math.sin(2 * math.pi * beat) * u(0.2, 1.2))
    parts = [
        loft(
            [(0, 0, -tall), (0, 0, -tall * 0.5), (0, 0, 0), (0, 0, tall * 0.7)], [fat * 0.4, fat * 0.95, fat, fat * 0.6]
        )
    ]
    top = np.array([0.03, 0, tall * 0.8])
    face = [ellipsoid(top, (skull * 0.9, skull, skull * 0.85))]
    disc = ellipsoid(
        top + [skull * 0.75, skull * 0.42, 0.03], (0.06, skull * 0.42, skull * 0.42), rings=5, paint="light"
    )
    eye = ellipsoid(
        top + [skull * 0.95, skull * 0.42, 0.03], (0.04, skull * 0.18, skull * 0.18), rings=5, n=8, paint="black"
    )
    tuft = limb(
        top + [0, skull * 0.55, skull * 0.6],
        top + [0.03, skull * 0.9, skull + u(-0.1, 0.2)],
        0.09,
        0.01,
        n=5,
        paint="dark",
    )
    beak = limb(top + [skull * 0.85, 0, 0], top + [skull * 1.1, 0, -0.12], 0.06, 0.01, n=5, paint="yellow")
    for part in (disc, eye, tuft):
        face += [part, part.mirrored()]
    parts += [part.moved(turn=turned, about=top) for part in [*face, beak]]
    if flying:
        wing = _wing(np.array([0, fat * 0.7, tall * 0.2]), u(0.8, 1.2), 0.36, 0.8 * math.sin(2 * math.pi * beat))
    else:
        wing = ellipsoid((-0.06, fat * 0.95, -0.05), (fat * 0.75, 0.06, tall * 0.8), paint="dark")
    parts += [wing, wing.mirrored(), limb((-0.1, 0, -tall * 0.6), (-0.3, 0, -tall * 1.3), 0.16, 0.1, n=6, paint="dark")]
    foot = ellipsoid((0.12, fat * 0.4, -tall * 1.02), (0.12, 0.07, 0.05), rings=4, n=6, paint="yellow")
    return [*parts, foot, foot.mirrored()]


def frog(u: Uniform, beat: float) -> list[Part]:
    long, fat, high = u(0.42, 0.55), u(0.3, 0.4), u(0.18, 0.3)
    spring = 0.5 + 0.5 * math.sin(2 * math.pi * beat)
    tilt = turn("y", -u(0.1, 0.5))
    parts = [ellipsoid((0, 0, 0), (long, fat, high)).moved(turn=tilt)]
    head = tilt @ np.array([long * 0.75, 0, high * 0.3])
    wide = u(0.22, 0.32)
    parts.append(ellipsoid(head, (0.24, wide, 0.17)))
    bulge = u(0.07, 0.11)
    for paint, size, out in (("main", bulge, 0.0), ("black", bulge * 0.6, bulge * 0.6)):
        eye = ellipsoid(head + [0.06 + out, wide * 0.6 + out * 0.5, 0.15], (size,) * 3, rings=5, n=8, paint=paint)
        parts += [eye, eye.mirrored()]
    reach = u(0.3, 0.5)
    hip = np.array([-long * 0.6, fat * 0.7, -0.08])
    knee = hip + [reach * (1 - 1.4 * spring), 0.25 * (1 - spring) + 0.05, 0.12]
    heel = knee + [-reach * (1 + 0.2 * spring), 0.08, -0.22]
    toe = heel + [0.34 * (1 - 1.6 * spring), 0.08, -0.03]
    hind = loft([hip, knee], [0.13, 0.09], n=7)
    shin, foot = loft([knee, heel], [0.08, 0.05], n=6), limb(heel, toe, 0.06, 0.03, n=5, paint="dark")
    arm = loft(
        [(long * 0.5, fat * 0.7, -0.02), (long * 0.65, fat + 0.1, -0.16), (long * 0.8, fat + 0.05, -0.3)],
        [0.08, 0.06, 0.05],
        n=6,
    )
    for part in (hind, shin, foot, arm):
        parts += [part, part.mirrored()]
    return parts


def bee(u: Uniform, beat: float) -> list[Part]:
    long, fat = u(0.38, 0.6), u(0.18, 0.28)
    droop = turn("y", u(0.0, 0.5))
    parts = [
        ellipsoid((0, 0, 0), (0.24, 0.2, 0.21), paint="dark"),
        ellipsoid((0.32, 0, -0.03), (0.14, 0.15, 0.14), paint="black"),
    ]
    bands = 7
    for k in range(bands):
        at = [-1 + 2 * k / bands, -1 + 2 * (k + 1) / bands]
        ends = [fat * math.sqrt(max(0.0, 1 - s * s)) for s in at]
        stripe = loft(
            [(-0.2 - long + long * at[1], 0, 0), (-0.2 - long + long * at[0], 0, 0)],
            [ends[1], ends[0]],
            n=10,
            paint="main" if k % 2 else "black",
        )
        parts.append(stripe.moved(turn=droop, about=(-0.2, 0, 0)))
    span, back = u(0.55, 0.85), u(-0.9, -0.3)
    flap = u(0.2, 0.5) + 0.7 * math.sin(2 * math.pi * beat)
    for scale, x in ((1.0, 0.02), (0.7, -0.14)):
        leaf = [(0, 0), (0.16, span * 0.5), (0.1, span), (-0.1, span * 0.95), (-0.14, span * 0.4)]
        wing = plate(np.array(leaf) * scale, 0.015, paint="glass").moved(turn=turn("z", -back * 0.5))
        wing = wing.moved(turn=turn("x", flap)).moved((x, 0.08, 0.17))
        parts += [wing, wing.mirrored()]
    feeler = limb((0.42, 0.05, 0.08), (0.6, 0.16, 0.26), 0.018, 0.01, n=4, paint="black")
    parts += [feeler, feeler.mirrored()]
    for x in (0.14, 0.0, -0.14):
        leg = loft(
            [(x, 0.12, -0.12), (x * 1.6, 0.34, -0.16), (x * 2.2, 0.38, -0.42)], [0.025, 0.02, 0.012], n=4, paint="black"
        )
        parts += [leg, leg.mirrored()]
    return parts


FAMILIES: dict[str, Callable[[Uniform, float], list[Part]]] = {
    draw.__name__: draw for draw in (dog, wolf, cat, horse, elephant, bird, owl, frog, bee)
}
