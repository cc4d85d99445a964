"""Vehicles and instruments made of solids, with functions like those of `animals`: `beat` turns rotors, moves bows."""

# ruff: noqa: RUF005 - positions are arrays, to which `+` adds element-wise
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from crossmodal.datasets.drawing.animals import Uniform
from crossmodal.datasets.drawing.solids import Part, box, ellipsoid, limb, loft, plate, ring, turn, wheel


def car(u: Uniform, beat: float) -> list[Part]:
    long, wide, sill = u(1.5, 2.1), u(0.7, 0.85), u(0.28, 0.4)
    tall, front, rear = u(0.28, 0.45), u(0.1, 0.4), u(-0.75, -0.3)
    side = [
        (-long / 2, 0.18),
        (long / 2, 0.18),
        (long / 2, sill + 0.06),
        (front, sill + 0.18),
        (rear, sill + 0.18),
        (-long / 2, sill + 0.14),
    ]
    stand = turn("x", math.pi / 2)
    parts = [plate(side, wide).moved(turn=stand)]
    roof = u(0.45, 0.75)
    cabin = [
        (rear - 0.12, sill + 0.15),
        (front + 0.3, sill + 0.15),
        (front, sill + tall + 0.15),
        (front - roof, sill + tall + 0.15),
    ]
    parts.append(plate(cabin, wide * 0.86, paint="glass").moved(turn=stand))
    top = [
        (front - roof - 0.03, sill + tall + 0.13),
        (front + 0.03, sill + tall + 0.13),
        (front - 0.05, sill + tall + 0.2),
        (front - roof + 0.05, sill + tall + 0.2),
    ]
    parts.append(plate(top, wide * 0.88).moved(turn=stand))
    size = u(0.17, 0.23)
    for x in (long * 0.31, -long * 0.3):
        for y in (wide / 2, -wide / 2):
            parts.append(wheel((x, y, size), size, 0.16))
            parts.append(wheel((x, y * 1.02, size), size * 0.5, 0.17, n=8, paint="metal"))
    lamp = ellipsoid((long / 2, wide * 0.34, sill), (0.04, 0.09, 0.07), rings=4, n=6, paint="yellow")
    return [*parts, lamp, lamp.mirrored()]


def motorcycle(u: Uniform, beat: float) -> list[Part]:
    base, size, seat = u(0.62, 0.85), u(0.28, 0.36), u(0.62, 0.8)
    parts = []
    for x in (base, -base):
        parts += [
            ring((x, 0, size), size * 0.86, size * 0.16, paint="black"),
            wheel((x, 0, size), size * 0.2, 0.14, n=8, paint="metal"),
        ]
        parts += [
            limb(
                (x, 0, size),
                (x + size * 0.8 * math.cos(a), 0, size + size * 0.8 * math.sin(a)),
                0.018,
                n=4,
                paint="metal",
            )
            for a in beat * 2 * math.pi + np.arange(6) * math.pi / 3
        ]
    head = np.array([base * u(0.45, 0.65), 0, seat + u(0.12, 0.3)])
    fork = limb((base, 0.08, size), head + [0, 0.08, 0], 0.035, n=5, paint="metal")
    bar = limb(head + [-0.05, 0, 0.03], head + [-0.22, u(0.26, 0.36), u(0.06, 0.2)], 0.025, n=5, paint="black")
    swing = limb((-base, 0.08, size), (-0.1, 0.06, size + 0.05), 0.04, n=5, paint="metal")
    pipe = limb((0.0, 0.16, size * 0.8), (-base * 1.1, 0.18, size * u(0.8, 1.3)), 0.045, 0.06, n=6, paint="metal")
    for part in (fork, bar, swing):
        parts += [part, part.mirrored()]
    parts += [
        pipe,
        ellipsoid((0.16, 0, seat), (u(0.26, 0.36), 0.15, u(0.11, 0.17))),
        ellipsoid((-0.36, 0, seat - 0.02), (u(0.28, 0.42), 0.13, 0.08), paint="black"),
        box((0.02, 0, size * 1.15), (0.42, 0.26, 0.36), paint="metal"),
        limb((-0.5, 0, seat - 0.1), (head[0], 0, seat + 0.02), 0.05, n=5, paint="dark"),
        ellipsoid(head + [0.1, 0, 0], (0.09, 0.1, 0.1), rings=5, n=8, paint="yellow"),
    ]
    return parts


def train(u: Uniform, beat: float) -> list[Part]:
    steam = u(0, 1) < 0.5
    long, wide, tall = u(1.3, 1.8), u(0.42, 0.52), u(0.45, 0.6)
    parts = []
    if steam:
        boiler = u(0.2, 0.26)
        parts.append(
            loft([(-0.2, 0, 0.45), (long * 0.6, 0, 0.45), (long * 0.66, 0, 0.45)], [boiler, boiler, boiler * 0.8], n=12)
        )
        parts += [
            box((-0.42, 0, 0.52), (0.5, wide, tall), paint="dark"),
            box((-0.42, 0, 0.56 + tall / 2), (0.6, wide * 1.1, 0.06), paint="black"),
        ]
        chimney = u(0.2, 0.36)
        parts.append(
            loft(
                [(long * 0.5, 0, 0.6), (long * 0.5, 0, 0.62 + chimney * 0.7), (long * 0.5, 0, 0.62 + chimney)],
                [0.07, 0.08, 0.13],
                n=8,
                paint="black",
            )
        )
        parts += [
            ellipsoid((long * 0.15, 0, 0.45 + boiler), (0.1, 0.1, 0.12), rings=5, n=8, paint="yellow"),
            box((0.2, 0, 0.22), (long, wide * 0.8, 0.1), paint="black"),
        ]
        front = long * 0.6
    else:
        nose = u(0.1, 0.5)
        z = 0.2 + tall / 2
        parts.append(
            loft(
                [
                    (-long / 2, 0, z),
                    (long / 2 - nose, 0, z),
                    (long / 2 - nose * 0.4, 0, z - 0.03),
                    (long / 2, 0, z - tall * 0.22),
                ],
                [tall * 0.56, tall * 0.56, tall * 0.46, tall * 0.2],
                flat=0.85,
                n=8,
            )
        )
        parts.append(box((-0.1, 0, z + tall * 0.12), (long * 0.7, tall * 0.9, tall * 0.2), paint="glass"))
        front = long * 0.4
    back = -0.75 if steam else -long / 2
    for k in range(1 + int(u(0, 2.999))):
        middle = back - 0.55 - k * 1.08
        parts += [
            box((middle, 0, 0.2 + tall * 0.45), (1.0, wide, tall * 0.9), paint="main" if k % 2 else "dark"),
            box((middle, 0, 0.2 + tall * 0.62), (0.84, wide * 1.03, tall * 0.22), paint="glass"),
            limb((middle + 0.48, 0, 0.24), (middle + 0.6, 0, 0.24), 0.04, n=5, paint="black"),
        ]
        parts += [wheel((middle + x, y, 0.11), 0.11, 0.06, n=9) for x in (0.32, -0.32) for y in (wide / 2, -wide / 2)]
    size = u(0.13, 0.19) if steam else 0.11
    xs = np.linspace(-0.5 if steam else -long * 0.4, front, 4)
    return parts + [wheel((x, y, size), size, 0.06, n=10) for x in xs for y in (wide / 2, -wide / 2)]


def airplane(u: Uniform, beat: float) -> list[Part]:
    long, fat, span = u(1.5, 2.2), u(0.14, 0.22), u(0.8, 1.25)
    sweep, chord, place = u(0.0, 0.7), u(0.2, 0.34), u(-0.1, 0.15)
    low = u(-0.6, 0.8) * fat
    body = [(long * x, 0, z) for x, z in ((-0.52, 0.08), (-0.25, 0.02), (0.3, 0), (0.42, -0.01), (0.5, -0.04))]
    parts = [loft(body, [fat * 0.15, fat * 0.9, fat, fat * 0.8, fat * 0.15], n=10)]
    wing = plate(
        [
            (place + chord / 2, 0),
            (place + chord * 0.15 - sweep, span),
            (place - chord * 0.3 - sweep, span),
            (place - chord / 2, 0),
        ],
        0.05,
        paint="light",
    )
    wing = wing.moved(turn=turn("x", u(-0.05, 0.18))).moved((0, 0, low))
    tail = plate(
        [
            (-long * 0.4, 0),
            (-long * 0.5 - sweep * 0.2, span * 0.36),
            (-long * 0.56 - sweep * 0.2, span * 0.36),
            (-long * 0.52, 0),
        ],
        0.03,
        paint="light",
    )
    tail = tail.moved((0, 0, u(0.04, 0.3)))
    fin = plate(
        [(-long * 0.34, 0.04), (-long * 0.5, u(0.34, 0.5)), (-long * 0.57, 0.46), (-long * 0.52, 0.02)],
        0.04,
        paint="dark",
    ).moved(turn=turn("x", math.pi / 2))
    parts += [wing, wing.mirrored(), tail, tail.mirrored(), fin]
    glass = ellipsoid((long * 0.4, 0, fat * 0.5), (0.12, fat * 0.5, fat * 0.35), rings=5, n=8, paint="glass")
    parts.append(glass)
    if u(0, 1) < 0.6:  # engines below the wings, otherwise a propeller
        for y in (0.35, 0.62)[: 1 + int(u(0, 1.999))]:
            jet = loft(
                [(place - sweep * y - 0.2, y * span, low - 0.1), (place - sweep * y + 0.16, y * span, low - 0.1)],
                [0.06, 0.085],
                n=8,
                paint="metal",
            )
            parts += [jet, jet.mirrored()]
    else:
        blade = box((long * 0.51, 0, -0.04), (0.03, 0.07, u(0.5, 0.75)), paint="black")
        parts += [blade.moved(turn=turn("x", a + 2 * math.pi * beat), about=(0, 0, -0.04)) for a in (0, math.pi / 2)]
    return parts


def helicopter(u: Uniform, beat: float) -> list[Part]:
    long, fat, boom = u(0.5, 0.72), u(0.26, 0.36), u(0.8, 1.2)
    parts = [
        ellipsoid((0, 0, 0), (long, fat, fat * 0.95)),
        ellipsoid((long * 0.5, 0, 0.06), (long * 0.46, fat * 0.8, fat * 0.75), paint="glass"),
    ]
    end = np.array([-long * 0.6 - boom, 0, u(0.08, 0.25)])
    parts.append(limb((-long * 0.5, 0, 0.06), end, 0.14, 0.05, n=8))
    fin = plate([(0.12, -0.08), (-0.14, 0.3), (-0.24, 0.3), (-0.08, -0.1)], 0.04, paint="dark").moved(
        turn=turn("x", math.pi / 2)
    )
    parts.append(fin.moved(end))
    top = fat * 0.95 + u(0.1, 0.18)
    parts.append(limb((0, 0, fat * 0.8), (0, 0, top), 0.05, n=6, paint="metal"))
    blades, span = int(u(2, 5.999)), u(0.9, 1.35)
    for k in range(blades):
        blade = box((span / 2, 0, top), (span, 0.09, 0.025), paint="black")
        parts.append(blade.moved(turn=turn("z", 2 * math.pi * (k / blades + beat))))
    for a in (0, math.pi / 2):
        parts.append(
            box(end + [-0.1, 0.06, 0.12], (0.36, 0.02, 0.05), paint="black").moved(
                turn=turn("y", a + 5 * beat), about=end + [-0.1, 0.06, 0.12]
            )
        )
    if u(0, 1) < 0.7:
        skid = limb((-0.4, fat * 0.85, -fat - 0.2), (0.5, fat * 0.85, -fat - 0.2), 0.028, n=5, paint="metal")
        strut = limb((0.2, fat * 0.5, -fat * 0.7), (0.24, fat * 0.85, -fat - 0.2), 0.022, n=4, paint="metal")
        back = strut.moved((-0.42, 0, 0))
        for part in (skid, strut, back):
            parts += [part, part.mirrored()]
    else:
        parts += [wheel((x, y, -fat - 0.06), 0.1, 0.07, n=8) for x, y in ((0.3, 0), (-0.3, 0.24), (-0.3, -0.24))]
    return parts


def boat(u: Uniform, beat: float) -> list[Part]:
    long, wide, deep = u(1.4, 2.0), u(0.26, 0.42), u(0.26, 0.4)
    rows = []
    for x, w, low in ((-0.5, 0.75, 0.0), (-0.2, 1.0, 0.0), (0.2, 0.95, 0.0), (0.42, 0.45, 0.15), (0.52, 0.04, 0.35)):
        rows.append(
            [
                (x * long, s * w * wide, h)
                for s, h in ((-1, deep + 0.1 * x), (-0.6, low * deep), (0.6, low * deep), (1, deep + 0.1 * x))
            ]
        )
    vertices = np.array(rows).reshape(-1, 3)
    faces = []
    for r in range(4):
        for k in range(4):
            a, b, c, d = r * 4 + k, r * 4 + (k + 1) % 4, r * 4 + 4 + k, r * 4 + 4 + (k + 1) % 4
            faces += [(a, c, b), (b, c, d)]
    faces += [(0, 1, 2), (0, 2, 3), (16, 18, 17), (16, 19, 18)]
    parts = [Part(vertices, np.array(faces)[:, ::-1])]
    if u(0, 1) < 0.5:  # sails
        mast, x = u(1.1, 1.6), u(-0.1, 0.2)
        parts.append(limb((x, 0, deep * 0.5), (x, 0, deep + mast), 0.035, 0.02, n=6, paint="wood"))
        stand, swing = turn("x", math.pi / 2), turn("z", u(-0.3, 0.3))
        main = plate([(-0.05, 0.12), (-u(0.5, 0.75), 0.14), (-0.05, mast * 0.95)][::-1], 0.02, paint="light")
        jib = plate([(0.06, 0.14), (u(0.4, 0.6), 0.12), (0.06, mast * 0.8)], 0.02, paint="white")
        parts += [sail.moved(turn=stand).moved(turn=swing).moved((x, 0, deep)) for sail in (main, jib)]
    else:
        cabin, x = u(0.22, 0.4), u(-0.4, 0.0)
        parts += [
            box((x, 0, deep + cabin / 2), (u(0.5, 0.8), wide * 1.3, cabin), paint="white"),
            box((x + 0.08, 0, deep + cabin * 0.65), (0.5, wide * 1.34, cabin * 0.3), paint="glass"),
            limb((x - 0.16, 0, deep + cabin), (x - 0.2, 0, deep + cabin + u(0.2, 0.45)), 0.09, n=8, paint="dark"),
            limb((x + 0.3, 0, deep), (x + 0.3, 0, deep + cabin + 0.35), 0.02, n=5, paint="black"),
        ]
    return parts


def drum(u: Uniform, beat: float) -> list[Part]:
    wide, tall, waist = u(0.4, 0.6), u(0.3, 1.15), u(0.75, 1.0)
    low = wide * u(0.6, 1.0)
    parts = [loft([(0, 0, 0), (0, 0, tall / 2), (0, 0, tall)], [low, (low + wide) / 2 * waist, wide], n=16)]
    parts += [
        loft([(0, 0, z), (0, 0, z + 0.07)], [r * 1.05, r * 1.05], n=16, paint="metal")
        for z, r in ((0, low), (tall - 0.07, wide))
    ]
    parts.append(loft([(0, 0, tall - 0.01), (0, 0, tall + 0.015)], [wide * 0.96, wide * 0.96], n=16, paint="white"))
    count = int(u(6, 11.999))
    for a in 2 * math.pi * np.arange(count) / count:
        parts.append(
            limb(
                (low * 1.03 * math.cos(a), low * 1.03 * math.sin(a), 0.05),
                (wide * 1.03 * math.cos(a), wide * 1.03 * math.sin(a), tall - 0.05),
                0.018,
                n=4,
                paint="dark",
            )
        )
    for k in range(int(u(0, 2.999))):
        hit = 0.5 + 0.5 * math.sin(2 * math.pi * beat + math.pi * k)
        stick = (
            limb((0.1, 0, 0.04), (0.75, 0, 0.25), 0.035, 0.025, n=5, paint="wood")
            .moved(turn=turn("y", -0.6 * hit))
            .moved(turn=turn("z", (-0.5, 0.9)[k]))
        )
        parts.append(stick.moved((0, (0.1, -0.1)[k], tall)))
    return parts


def bell(u: Uniform, beat: float) -> list[Part]:
    tall, mouth, shoulder = u(0.7, 1.1), u(0.38, 0.6), u(0.2, 0.34)
    profile = [
        (0.0, mouth),
        (0.06, mouth * 0.93),
        (0.25, mouth * 0.66),
        (0.6, shoulder * 1.05),
        (0.9, shoulder * 0.85),
        (1.0, shoulder * 0.25),
    ]
    parts = [loft([(0, 0, tall * z) for z, _ in profile], [r for _, r in profile], n=16)]
    parts += [
        loft([(0, 0, tall * z), (0, 0, tall * z + 0.04)], [r, r], n=16, paint="dark")
        for z, r in ((0.12, mouth * 0.88), (0.72, shoulder * 1.03))
    ]
    swing = 0.5 * math.sin(2 * math.pi * beat)
    parts.append(limb((0, 0, tall * 0.6), (0.25 * swing, 0, -0.08), 0.03, n=5, paint="black"))
    parts.append(ellipsoid((0.25 * swing, 0, -0.1), (0.09, 0.09, 0.1), rings=5, n=8, paint="black"))
    if u(0, 1) < 0.5:  # the handle of a hand bell, otherwise a yoke
        parts.append(limb((0, 0, tall), (0, 0, tall + u(0.4, 0.7)), 0.06, 0.09, n=8, paint="wood"))
    else:
        parts += [
            ring((0, 0, tall + 0.1), 0.1, 0.035, n=12, paint="metal"),
            box((0, 0, tall + 0.24), (u(0.8, 1.2), 0.16, 0.14), paint="wood"),
        ]
    return [part.moved(turn=turn("y", 0.6 * swing), about=(0, 0, tall)) for part in parts]


def _waisted(long: float, upper: float, lower: float, waist: float) -> list[tuple[float, float]]:
    """The counter-clockwise outline of the body of a violin or guitar along x."""
    along = np.linspace(-1, 1, 15)
    bouts = np.where(along < 0, lower, upper)
    half = bouts * np.sqrt(np.clip(1 - np.abs(2 * np.abs(along) - 1.05) ** 2.2, 0.02, 1))
    half = np.maximum(half, np.where(np.abs(along) < 0.5, waist * (1 + 0.6 * along**2), 0.03))
    upper_side = list(zip(along * long / 2, half, strict=True))
    return [(x, -y) for x, y in upper_side] + [(x, y) for x, y in reversed(upper_side)]


def violin(u: Uniform, beat: float) -> list[Part]:
    long, upper, lower = u(0.9, 1.15), u(0.22, 0.28), u(0.28, 0.35)
    parts = [plate(_waisted(long, upper, lower, u(0.14, 0.2)), u(0.12, 0.18))]
    neck = u(0.55, 0.75)
    parts += [
        box((long / 2 + neck / 2 - 0.1, 0, 0.09), (neck + 0.3, 0.08, 0.06), paint="black"),
        ellipsoid((long / 2 + neck + 0.06, 0, 0.06), (0.09, 0.06, 0.08), rings=5, n=8, paint="dark"),
        box((-long * 0.12, 0, 0.13), (0.04, 0.18, 0.1), paint="light"),
        box((-long * 0.36, 0, 0.11), (0.24, 0.1, 0.05), paint="black"),
    ]
    for y in (0.05, -0.05):
        parts.append(
            limb((long / 2 + neck - 0.02, y, 0.06), (long / 2 + neck, y * 3.2, 0.06), 0.02, n=4, paint="black")
        )
        parts.append(box((-long * 0.1, y * 2.8, 0.085), (0.24, 0.02, 0.02), paint="black"))
    if u(0, 1) < 0.8:
        slide = 0.45 * math.sin(2 * math.pi * beat)
        bow = [
            limb((0, -0.85, 0.24), (0, 0.85, 0.24), 0.02, n=5, paint="wood"),
            box((0, 0, 0.2), (0.03, 1.6, 0.012), paint="white"),
        ]
        parts += [part.moved(turn=turn("z", u(-0.25, 0.25))).moved((-0.02, slide, 0)) for part in bow]
    return parts


def guitar(u: Uniform, beat: float) -> list[Part]:
    electric = u(0, 1) < 0.35
    long, upper, lower = u(0.85, 1.15), u(0.27, 0.36), u(0.36, 0.48)
    thick = u(0.06, 0.1) if electric else u(0.16, 0.26)
    parts = [plate(_waisted(long, upper, lower, u(0.2, 0.28)), thick)]
    if electric:
        parts += [
            plate([(0.5, 0.2), (0.2, 0.42), (0.05, 0.2), (0.1, 0.0)], thick),
            box((-0.1, 0, thick / 2), (0.05, 0.22, 0.03), paint="black"),
            box((0.1, 0, thick / 2), (0.05, 0.22, 0.03), paint="black"),
        ]
    else:
        parts.append(
            loft([(0.12, 0, thick / 2 - 0.01), (0.12, 0, thick / 2 + 0.012)], [0.13, 0.13], n=12, paint="black")
        )
    neck = u(0.85, 1.15)
    parts += [
        box((long / 2 + neck / 2 - 0.12, 0, thick / 2), (neck + 0.2, 0.1, 0.05), paint="wood"),
        box((long / 2 + neck + 0.06, 0, thick / 2), (0.26, 0.16, 0.04), paint="dark"),
        box((-long * 0.3, 0, thick / 2 + 0.02), (0.05, 0.26, 0.04), paint="black"),
    ]
    shake = 0.012 * math.sin(6 * math.pi * beat)
    for y in (-0.03, 0, 0.03):
        parts.append(
            limb(
                (-long * 0.3, y * 1.5, thick / 2 + 0.05),
                (long / 2 + neck, y + shake, thick / 2 + 0.04),
                0.007,
                n=3,
                paint="metal",
            )
        )
    for x in (0, 0.09, 0.18):
        peg = limb(
            (long / 2 + neck - 0.02 + x, 0.07, thick / 2),
            (long / 2 + neck - 0.02 + x, 0.14, thick / 2),
            0.02,
            n=4,
            paint="metal",
        )
        parts += [peg, peg.mirrored()]
    return parts


def flute(u: Uniform, beat: float) -> list[Part]:
    long, thin, wooden = u(1.7, 2.3), u(0.045, 0.07), u(0, 1) < 0.4
    end = u(0.9, 1.0) if not wooden else u(1.3, 1.8)
    parts = [loft([(-long / 2, 0, 0), (long * 0.3, 0, 0), (long / 2, 0, 0)], [thin * end, thin, thin], n=10)]
    parts += [
        loft([(long * x, 0, 0), (long * x + 0.05, 0, 0)], [thin * 1.35, thin * 1.35], n=10, paint="dark")
        for x in (0.22, -0.3)
    ]
    for k in range(int(u(6, 10.999))):
        x = long * (0.12 - 0.055 * k)
        pressed = 0.03 * (math.sin(2 * math.pi * beat + 2.1 * k) > 0)
        if wooden:
            parts.append(loft([(x, 0, thin * 0.8), (x, 0, thin * 1.06)], [0.022, 0.022], n=7, paint="black"))
        else:
            parts.append(
                loft(
                    [(x, 0, thin + 0.02 - pressed), (x, 0, thin + 0.045 - pressed)], [0.045, 0.045], n=8, paint="metal"
                )
            )
    if wooden:
        parts.append(loft([(long / 2, 0, 0), (long / 2 + 0.16, 0, 0.02)], [thin * 1.1, thin * 0.4], n=8, paint="dark"))
    else:
        parts.append(ellipsoid((long * 0.4, 0, thin), (0.08, 0.06, 0.03), rings=5, n=8, paint="metal"))
        parts.append(limb((long * 0.1, thin, thin * 0.6), (-long * 0.3, thin, thin * 0.6), 0.012, n=4, paint="metal"))
    return parts


FAMILIES: dict[str, Callable[[Uniform, float], list[Part]]] = {
    draw.__name__: draw
    for draw in (car, motorcycle, train, airplane, helicopter, boat, drum, bell, violin, guitar, flute)
}
