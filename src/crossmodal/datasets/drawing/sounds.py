"""Synthesis of the sounds of the twenty classes; each random generator gives another dog, bell or engine.

A recipe returns a waveform of `RATE` samples per second, to which `clip` adds noise, an echo and sometimes another
sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from crossmodal.datasets.drawing.classes import NAMES, Instance
from crossmodal.datasets.drawing.work import pick

RATE = 22_050

Wave = np.ndarray
Recipe = Callable[[np.random.Generator, int], Wave]


# -- elements of recipes ----------------------------------------------------------------------------------------------


def _time(n: int) -> Wave:
    return np.arange(n) / RATE


def _curve(n: int, *values: float) -> Wave:
    """A smooth curve of n samples through evenly spaced values."""
    at = np.linspace(0, len(values) - 1, n)
    low = np.minimum(at.astype(int), len(values) - 2)
    part = 0.5 - 0.5 * np.cos(np.pi * (at - low))
    course = np.asarray(values, float)
    return course[low] * (1 - part) + course[low + 1] * part


def _tone(pitch: Wave, partials: np.ndarray, rng: np.random.Generator) -> Wave:
    """A tone whose pitch in Hz may vary, with harmonics of the given strengths."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = np.zeros(len(pitch))
    for k, strength in enumerate(partials, 1):
        if strength and k * pitch.max() < 0.45 * RATE:
            wave += strength * np.sin(k * phase + rng.uniform(0, 2 * np.pi))
    return wave


def _band(rng: np.random.Generator, n: int, low: float, high: float) -> Wave:
    """n samples of noise between two frequencies in Hz."""
    sos = butter(2, [max(low, 20) / (RATE / 2), min(high, 0.45 * RATE) / (RATE / 2)], "band", output="sos")
    wave = sosfilt(sos, rng.normal(0, 1, n))
    return wave / max(float(np.std(wave)), 1e-9)


def _formants(wave: Wave, peaks: list[tuple[float, float]]) -> Wave:
    """`wave` filtered by resonances of (frequency, bandwidth) in Hz."""
    total = np.zeros(len(wave))
    for centre, width in peaks:
        radius, angle = math.exp(-math.pi * width / RATE), 2 * math.pi * centre / RATE
        total += lfilter([1 - radius], [1, -2 * radius * math.cos(angle), radius * radius], wave)
    return total


def _swell(n: int, attack: float, release: float) -> Wave:
    """An envelope that rises during the share `attack` of the length and falls during the share `release`."""
    at = np.linspace(0, 1, n)
    return np.minimum(1, np.minimum(at / max(attack, 1e-3), (1 - at) / max(release, 1e-3)))


def _decay(n: int, seconds: float) -> Wave:
    return np.exp(-_time(n) / seconds) * np.minimum(1, _time(n) / 0.003)


def _add(wave: Wave, piece: Wave, start: float) -> None:
    at = int(start * RATE)
    if 0 <= at < len(wave):
        piece = piece[: len(wave) - at]
        wave[at : at + len(piece)] += piece


def _calls(
    rng: np.random.Generator, n: int, call: Callable[[int], Wave], length: tuple[float, float], gap: tuple[float, float]
) -> Wave:
    """n samples of successive calls by `call`, with random lengths and gaps in seconds."""
    wave, at = np.zeros(n), float(rng.uniform(0, 0.3))
    while at < n / RATE:
        size = int(rng.uniform(*length) * RATE)
        _add(wave, call(size) * rng.uniform(0.7, 1), at)
        at += size / RATE + float(rng.uniform(*gap))
    return wave


def _slope(count: int, fall: float) -> np.ndarray:
    return 1 / np.arange(1, count + 1) ** fall


# -- animals ----------------------------------------------------------------------------------------------------------


def _howl(rng: np.random.Generator, pitch: float, n: int) -> Wave:
    course = _curve(n, pitch * 0.75, pitch * 1.1, pitch * rng.uniform(1.0, 1.2), pitch, pitch * 0.8)
    course *= 1 + 0.012 * np.sin(2 * np.pi * rng.uniform(4, 7) * _time(n))
    wave = _tone(course, _slope(6, rng.uniform(1.3, 2.2)), rng) + 0.05 * _band(rng, n, 300, 3000)
    return wave * _swell(n, 0.25, 0.35)


def dog(rng: np.random.Generator, n: int) -> Wave:
    pitch = rng.uniform(220, 620)
    if rng.random() < 0.12:
        return _calls(rng, n, lambda m: _howl(rng, pitch, m), (0.7, 1.4), (0.2, 0.5))
    peaks = [(rng.uniform(500, 900), 160), (rng.uniform(1100, 1900), 250), (2700, 400)]

    def bark(m: int) -> Wave:
        course = _curve(m, pitch * 0.8, pitch * 1.25, pitch * 0.7)
        source = _tone(course, _slope(14, 0.8), rng) + 0.8 * _band(rng, m, 300, 4000)
        return _formants(source, peaks) * _swell(m, 0.1, 0.5) * 12

    return _calls(rng, n, bark, (0.11, 0.24), (0.1, 0.5))


def wolf(rng: np.random.Generator, n: int) -> Wave:
    wave = _calls(rng, n, lambda m: _howl(rng, rng.uniform(280, 560), m), (0.9, 2.0), (0.05, 0.5))
    if rng.random() < 0.4:
        wave = wave + 0.6 * _calls(rng, n, lambda m: _howl(rng, rng.uniform(350, 700), m), (0.7, 1.6), (0.1, 0.6))
    return wave


def cat(rng: np.random.Generator, n: int) -> Wave:
    pitch = rng.uniform(420, 760)
    if rng.random() < 0.2:  # purring
        beat = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * rng.uniform(22, 30) * _time(n)))
        return _band(rng, n, 60, 700) * beat * (0.7 + 0.3 * np.sin(2 * np.pi * 0.7 * _time(n)))

    def meow(m: int) -> Wave:
        source = _tone(_curve(m, pitch * 0.85, pitch * 1.2, pitch * 1.1, pitch * 0.7), _slope(12, 0.7), rng)
        closed, opened = _formants(source, [(700, 150), (2500, 400)]), _formants(source, [(1300, 200), (3100, 400)])
        mouth = _swell(m, 0.5, 0.5)
        return (closed * (1 - mouth) + opened * mouth) * _swell(m, 0.15, 0.3) * 14

    return _calls(rng, n, meow, (0.4, 0.9), (0.15, 0.6))


def horse(rng: np.random.Generator, n: int) -> Wave:
    wave = np.zeros(n)
    if rng.random() < 0.6:  # hooves, three or four beats per stride
        stride, beats = rng.uniform(0.38, 0.62), int(rng.integers(3, 5))
        hard = rng.uniform(500, 1400)
        for start in np.arange(rng.uniform(0, 0.2), n / RATE, stride):
            for k in range(beats):
                m = int(0.06 * RATE)
                knock = _band(rng, m, hard * 0.6, hard * 1.8) * _decay(m, 0.014)
                _add(wave, knock * rng.uniform(0.6, 1), start + k * stride * 0.2 + rng.normal(0, 0.008))
        return wave

    def neigh(m: int) -> Wave:
        shake = 1 + 0.09 * np.sin(2 * np.pi * rng.uniform(9, 14) * _time(m))
        course = _curve(m, 900, rng.uniform(1100, 1500), 900, 500) * shake
        return (_tone(course, _slope(7, 0.9), rng) + 0.4 * _band(rng, m, 500, 4000)) * _swell(m, 0.1, 0.5) * 0.5

    return _calls(rng, n, neigh, (0.8, 1.4), (0.3, 0.7))


def elephant(rng: np.random.Generator, n: int) -> Wave:
    pitch = rng.uniform(260, 480)

    def trumpet(m: int) -> Wave:
        course = _curve(m, pitch * 0.8, pitch * 1.4, pitch * rng.uniform(1.2, 1.6), pitch * 1.1)
        wave = np.tanh(2.5 * _tone(course, _slope(20, 0.45), rng)) + 0.3 * _band(rng, m, 800, 5000)
        return wave * _swell(m, 0.08, 0.3)

    wave = _calls(rng, n, trumpet, (0.5, 1.2), (0.2, 0.8))
    return wave + rng.uniform(0, 0.5) * _band(rng, n, 25, 140)


def bird(rng: np.random.Generator, n: int) -> Wave:
    base, spread, turns = rng.uniform(2200, 4800), rng.uniform(0.1, 0.45), int(rng.integers(2, 5))

    def chirp(m: int) -> Wave:
        course = _curve(m, *(base * (1 + spread * rng.uniform(-1, 1)) for _ in range(turns + 1)))
        return _tone(course, np.array([1.0, rng.uniform(0, 0.25)]), rng) * _swell(m, 0.2, 0.4)

    if rng.random() < 0.5:  # a repeated phrase
        phrase = _calls(rng, int(rng.uniform(0.5, 0.9) * RATE), chirp, (0.05, 0.14), (0.01, 0.07))
        return np.resize(np.concatenate([phrase, np.zeros(int(0.25 * RATE))]), n)
    return _calls(rng, n, chirp, (0.05, 0.25), (0.03, 0.3))


def owl(rng: np.random.Generator, n: int) -> Wave:
    pitch = rng.uniform(280, 520)

    def hoot(m: int) -> Wave:
        wave = _tone(_curve(m, pitch * 0.95, pitch, pitch * 0.93), np.array([1.0, 0.15, 0.05]), rng)
        return (wave + 0.06 * _band(rng, m, 200, 1500)) * _swell(m, 0.25, 0.35)

    return _calls(rng, n, hoot, (0.16, rng.uniform(0.25, 0.8)), (0.08, 0.35))


def frog(rng: np.random.Generator, n: int) -> Wave:
    pulses, ring = rng.uniform(25, 75), rng.uniform(500, 1600)
    peaks = [(ring, 120), (ring * rng.uniform(1.8, 2.4), 300)]

    def croak(m: int) -> Wave:
        rate = _curve(m, pulses * 0.9, pulses * 1.1, pulses * rng.uniform(0.8, 1.3))
        clicks = np.diff(np.floor(np.cumsum(rate) / RATE), prepend=0) + 0.01 * rng.normal(0, 1, m)
        return _formants(clicks, peaks) * _swell(m, 0.15, 0.2) * 60

    return _calls(rng, n, croak, (0.14, 0.45), (0.08, 0.4))


def bee(rng: np.random.Generator, n: int) -> Wave:
    pitch = rng.uniform(160, 280) * _curve(n, *rng.uniform(0.85, 1.2, 6))
    pitch *= 1 + 0.02 * lfilter([0.02], [1, -0.98], rng.normal(0, 1, n)) * 5
    near = _curve(n, *rng.uniform(0.25, 1, 7))
    return (_tone(pitch, _slope(16, rng.uniform(0.5, 1.0)), rng) + 0.2 * _band(rng, n, 300, 5000)) * near


# -- vehicles ---------------------------------------------------------------------------------------------------------


def _engine(
    rng: np.random.Generator, n: int, revolutions: Wave, rough: float, peaks: list[tuple[float, float]]
) -> Wave:
    """An engine that fires at a varying rate in Hz, filtered by the resonances of its exhaust."""
    phase = np.cumsum(revolutions) / RATE
    strokes = 1 + 0.35 * np.take(rng.uniform(-1, 1, 8), np.floor(phase).astype(int) % 8)
    source = ((1 - phase % 1) ** 3 - 0.25) * strokes + rough * rng.normal(0, 1, n)
    return _formants(source, peaks) * 8


def car(rng: np.random.Generator, n: int) -> Wave:
    speed = rng.uniform(35, 90) * _curve(n, *rng.uniform(0.8, 1.4, 4))
    wave = _engine(rng, n, speed, 0.12, [(rng.uniform(90, 180), 80), (rng.uniform(300, 600), 200)])
    wave = wave / np.std(wave) + rng.uniform(0.2, 0.9) * _band(rng, n, 200, 2500)  # tyres
    if rng.random() < 0.4:
        a = rng.uniform(330, 480)

        def horn(m: int) -> Wave:
            return 2 * np.tanh(sum(_tone(np.full(m, a * ratio), _slope(8, 0.6), rng) for ratio in (1, 1.26)))

        wave = wave + _calls(rng, n, horn, (0.2, 0.6), (0.4, 1.2))
    return wave * _curve(n, *rng.uniform(0.3, 1, 3))


def motorcycle(rng: np.random.Generator, n: int) -> Wave:
    speed = rng.uniform(45, 140) * _curve(n, *rng.uniform(0.6, 1.7, 5))
    wave = _engine(rng, n, speed, 0.2, [(rng.uniform(150, 320), 60), (rng.uniform(600, 1400), 200), (2600, 500)])
    return np.tanh(wave / np.std(wave) * 1.5) * _curve(n, *rng.uniform(0.4, 1, 3))


def train(rng: np.random.Generator, n: int) -> Wave:
    wave = rng.uniform(0.15, 0.5) * _band(rng, n, 40, 400)
    every, bogie = rng.uniform(0.45, 0.9), rng.uniform(0.1, 0.16)
    for start in np.arange(rng.uniform(0, 0.3), n / RATE, every):
        for k in (0, bogie):
            m = int(0.12 * RATE)
            _add(wave, 1.6 * (_band(rng, m, 120, 900) + 0.5 * _band(rng, m, 1500, 4000)) * _decay(m, 0.03), start + k)
    if rng.random() < 0.55:
        chord = rng.uniform(260, 420) * np.array([1, 1.19, 1.5])

        def whistle(m: int) -> Wave:
            bend = _curve(m, 0.94, 1, 1, 0.92)
            tones = sum(_tone(pitch * bend, _slope(5, 0.9), rng) for pitch in chord)
            return (tones * 0.6 + 0.3 * _band(rng, m, 1000, 4000)) * _swell(m, 0.1, 0.2)

        wave = wave + _calls(rng, n, whistle, (0.5, 1.3), (0.5, 1.5))
    return wave


def airplane(rng: np.random.Generator, n: int) -> Wave:
    nearing = _curve(n, rng.uniform(0.1, 0.6), 1, rng.uniform(0.1, 0.8))
    low, high = rng.uniform(80, 200), rng.uniform(900, 2400)
    wave = _band(rng, n, low, high) + 0.4 * _band(rng, n, 1500, 6000) * nearing
    if rng.random() < 0.35:  # a propeller
        wave = 0.5 * wave + _engine(
            rng, n, rng.uniform(60, 110) * _curve(n, 1.06, 1.0, 0.92), 0.05, [(200, 90), (700, 300)]
        )
    else:
        whine = rng.uniform(1800, 3600) * _curve(n, 1.05, 1.0, 0.9)
        wave = wave + rng.uniform(0.05, 0.35) * _tone(whine, np.array([1.0, 0.3]), rng)
    return wave * nearing


def helicopter(rng: np.random.Generator, n: int) -> Wave:
    rate = rng.uniform(9, 24) * _curve(n, 1, rng.uniform(0.94, 1.06))
    beat = np.cumsum(rate) / RATE % 1
    chop = np.exp(-beat * rng.uniform(4, 9))
    wave = _band(rng, n, rng.uniform(50, 120), rng.uniform(500, 1400)) * chop
    wave = wave + rng.uniform(0.05, 0.3) * _tone(np.full(n, rng.uniform(400, 900)), _slope(6, 0.8), rng)
    return wave + rng.uniform(0.1, 0.4) * _band(rng, n, 200, 3000)


def boat(rng: np.random.Generator, n: int) -> Wave:
    waves = _band(rng, n, 250, 3000) * _curve(n, *rng.uniform(0.05, 0.8, 7))
    if rng.random() < 0.6:
        pitch = rng.uniform(85, 240)

        def horn(m: int) -> Wave:
            wave = _tone(_curve(m, pitch * 0.97, pitch, pitch), _slope(16, 0.7), rng)
            return 1.4 * np.tanh(1.5 * wave) * _swell(m, 0.12, 0.2)

        return 0.5 * waves + _calls(rng, n, horn, (0.7, 1.8), (0.2, 0.9))
    motor = _engine(rng, n, rng.uniform(12, 40) * _curve(n, *rng.uniform(0.9, 1.1, 3)), 0.1, [(120, 60), (420, 150)])
    return waves + rng.uniform(0.3, 1) * motor / np.std(motor)


# -- instruments ------------------------------------------------------------------------------------------------------


def drum(rng: np.random.Generator, n: int) -> Wave:
    wave, step = np.zeros(n), rng.uniform(0.14, 0.34)
    deep, snare = rng.uniform(60, 200), rng.uniform(0, 1.2)
    pattern = rng.random(8) < 0.65
    pattern[0] = True
    for k, start in enumerate(np.arange(0.02, n / RATE, step)):
        if pattern[k % 8]:
            m = int(0.35 * RATE)
            skin = _tone(deep * (1 + 0.5 * np.exp(-_time(m) / 0.03)), np.array([1, 0, 0.0]), rng) * _decay(
                m, rng.uniform(0.08, 0.16)
            )
            skin = skin + 0.5 * _tone(np.full(m, deep * 1.59), np.array([1.0]), rng) * _decay(m, 0.06)
            _add(wave, (skin + snare * 0.4 * _band(rng, m, 800, 6000) * _decay(m, 0.05)) * rng.uniform(0.5, 1), start)
    return wave


def bell(rng: np.random.Generator, n: int) -> Wave:
    pitch, lasting = rng.uniform(220, 1300), rng.uniform(0.4, 1.6)
    ratios = np.array([0.5, 1, 1.183, 1.506, 2, 2.514, 2.662, 3.011, 4.166]) * (1 + rng.normal(0, 0.01, 9))
    strengths = np.array([0.5, 1, 0.8, 0.5, 0.9, 0.4, 0.35, 0.3, 0.2]) * rng.uniform(0.4, 1.2, 9)

    def stroke(m: int) -> Wave:
        parts = [
            s * _tone(np.full(m, pitch * r), np.array([1.0]), rng) * _decay(m, lasting / r**0.7)
            for r, s in zip(ratios, strengths, strict=True)
        ]
        return np.sum(parts, axis=0) + 0.3 * _band(rng, m, 1000, 8000) * _decay(m, 0.01)

    wave, every = np.zeros(n), rng.uniform(0.25, 1.2)
    for start in np.arange(rng.uniform(0, 0.2), n / RATE, every):
        _add(wave, stroke(min(n, int(2.5 * lasting * RATE))) * rng.uniform(0.6, 1), start + rng.normal(0, 0.02))
    return wave


def _melody(
    rng: np.random.Generator,
    n: int,
    lowest: float,
    note: Callable[[float, int], Wave],
    lengths: tuple[float, float],
    overlap: float,
) -> Wave:
    """A random melody on a major or minor scale from `lowest` Hz upwards."""
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12] if rng.random() < 0.5 else [0, 2, 3, 5, 7, 8, 10, 12])
    wave, at, step = np.zeros(n), 0.02, int(rng.integers(8))
    while at < n / RATE:
        size = float(rng.uniform(*lengths))
        _add(wave, note(lowest * 2 ** (scale[step] / 12), int((size + overlap) * RATE)), at)
        at += size
        step = int(np.clip(step + rng.integers(-2, 3), 0, 7))
    return wave


def violin(rng: np.random.Generator, n: int) -> Wave:
    speed, depth, fall = rng.uniform(4.5, 7), rng.uniform(0.004, 0.014), rng.uniform(0.7, 1.2)
    body = [
        (rng.uniform(270, 310), 40),
        (rng.uniform(440, 560), 70),
        (rng.uniform(900, 1200), 200),
        (rng.uniform(2200, 3000), 600),
    ]

    def note(pitch: float, m: int) -> Wave:
        course = pitch * (1 + depth * np.sin(2 * np.pi * speed * _time(m)) * np.minimum(1, _time(m) / 0.2))
        source = _tone(course, _slope(20, fall), rng)
        return (source * 0.5 + 5 * _formants(source, body) + 0.06 * _band(rng, m, 1500, 7000)) * _swell(m, 0.2, 0.15)

    return _melody(rng, n, rng.uniform(196, 700), note, (0.25, 1.3), 0.05)


def guitar(rng: np.random.Generator, n: int) -> Wave:
    damping, bright, chords = rng.uniform(0.988, 0.997), rng.uniform(0.3, 0.9), rng.random() < 0.5

    def string(pitch: float, m: int) -> Wave:  # plucked string of Karplus and Strong
        period = max(2, int(RATE / pitch))
        burst = lfilter([bright], [1, bright - 1], rng.uniform(-1, 1, period))
        feedback = np.zeros(period + 2)
        feedback[0], feedback[period], feedback[period + 1] = 1, -damping * 0.5, -damping * 0.5
        return lfilter([1.0], feedback, np.concatenate([burst, np.zeros(max(0, m - period))])[:m]) * np.minimum(
            1, np.linspace(20, 0, m)
        )

    def note(pitch: float, m: int) -> Wave:
        if not chords:
            return string(pitch, m)
        wave = np.zeros(m)
        for k, ratio in enumerate((1, 1.26 if rng.random() < 0.5 else 1.19, 1.5, 2)):
            _add(wave, string(pitch * ratio, m), k * 0.012)
        return wave

    return _melody(rng, n, rng.uniform(82, 330), note, (0.15, 0.6), 0.6)


def flute(rng: np.random.Generator, n: int) -> Wave:
    breath, speed = rng.uniform(0.03, 0.2), rng.uniform(4, 6.5)
    partials = np.array([1.0, rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.2), rng.uniform(0, 0.08)])

    def note(pitch: float, m: int) -> Wave:
        course = pitch * (1 + 0.005 * np.sin(2 * np.pi * speed * _time(m)))
        wave = _tone(course, partials, rng) * (1 + 0.15 * np.sin(2 * np.pi * speed * _time(m)))
        return (wave + breath * _band(rng, m, pitch * 0.7, min(9000, pitch * 5))) * _swell(m, 0.15, 0.2)

    return _melody(rng, n, rng.uniform(520, 1400), note, (0.15, 0.9), 0.03)


RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe
    for recipe in (
        dog, wolf, cat, horse, elephant, bird, owl, frog, bee, car, motorcycle, train, airplane, helicopter, boat,
        drum, bell, violin, guitar, flute,
    )
}  # fmt: skip


def clip(what: Instance, shortest: float = 1.5, longest: float = 3.0) -> np.ndarray:
    """(T,) int16 samples of the sound of an object with noise, and sometimes with another sound in the background.

    Parameters
    ----------
    shortest, longest : range of the duration in seconds.
    """
    rng = what.rng(20)
    n = int(rng.uniform(shortest, longest) * RATE)
    wave = RECIPES[what.kind](rng, n)
    wave = wave / max(float(np.sqrt(np.mean(wave**2))), 1e-9)
    if rng.random() < 0.3:
        other = RECIPES[pick(rng, NAMES)](rng, n)
        wave = wave + 10 ** (-rng.uniform(8, 18) / 20) * other / max(float(np.sqrt(np.mean(other**2))), 1e-9)
    low = rng.uniform(40, 600)
    wave = wave + 10 ** (-rng.uniform(6, 30) / 20) * _band(rng, n, low, low * rng.uniform(3, 14))
    wave = wave + 10 ** (-rng.uniform(12, 40) / 20) * rng.normal(0, 1, n)
    if rng.random() < 0.5:  # an echo
        late = int(rng.uniform(0.02, 0.15) * RATE)
        wave[late:] += rng.uniform(0.1, 0.5) * wave[:-late]
    if rng.random() < 0.5:  # a dull microphone
        wave = sosfilt(butter(1, rng.uniform(2000, 7000) / (RATE / 2), output="sos"), wave)
    wave = wave / max(float(np.abs(wave).max()), 1e-9) * 10 ** (-rng.uniform(1, 16) / 20)
    return np.round(wave * 32_767).astype(np.int16)
