"""Captions of the scenes: each is true of its scene, by a reader with a geometry of its own; twins differ in a word."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from itertools import permutations

import pytest

from crossmodal.datasets import scenes
from crossmodal.datasets.drawing.scene_detections import vocabulary
from crossmodal.datasets.drawing.scene_reader import Mention, Reading, read

COUNT = 200


@cache
def drawn(number: int, part: int = 2) -> scenes.Drawn:
    return scenes.described(5, part, number, COUNT)


def middle(box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def gaps(a, b) -> tuple[float, float]:
    """How far two boxes are apart across and down; negative where they overlap."""
    return max(a[0], b[0]) - min(a[2], b[2]), max(a[1], b[1]) - min(a[3], b[3])


def holds(name: str, thing, other) -> bool:
    """Whether a relation is true in the plain sense of its words, with some tolerance."""
    a, b = thing.box, other.box
    (x, y), (x_b, y_b) = middle(a), middle(b)
    across, down = gaps(a, b)
    (wide, high), (wide_b, high_b) = (a[2] - a[0], a[3] - a[1]), (b[2] - b[0], b[3] - b[1])
    overlap, inner = across < 0 and down < 0, 1.0  # a pixel of tolerance
    within = a[0] >= b[0] - inner and a[1] >= b[1] - inner and a[2] <= b[2] + inner and a[3] <= b[3] + inner
    around = b[0] >= a[0] - inner and b[1] >= a[1] - inner and b[2] <= a[2] + inner and b[3] <= a[3] + inner
    return {
        "on": abs(a[3] - b[1]) <= 6 and b[0] <= x <= b[2] and y < y_b,
        "behind": overlap and thing.depth < other.depth,
        "in front of": overlap and thing.depth > other.depth,
        "under": y > y_b and across < 0 and down >= -6,
        "over": y < y_b and across < 0 and down > 0,
        "above": y < y_b and down >= -6,
        "below": y > y_b and down >= -6,
        "in": overlap and a[1] < b[1] and a[3] <= b[3] and thing.depth < other.depth,
        "left of": x < x_b and across >= -6,
        "right of": x > x_b and across >= -6,
        "beside": -6 <= across <= 20 and down < 0,
        "near": math.hypot(max(across, 0), max(down, 0)) <= 30,
        "inside": within and thing.depth > other.depth,
        "surrounding": around and thing.depth < other.depth,
        "leaning on": abs(thing.angle) > 0.25 and across <= 6 and down < 0,
        "bigger than": wide * high > 1.5 * wide_b * high_b,
        "smaller than": 1.5 * wide * high < wide_b * high_b,
        "taller than": high > 1.2 * high_b,
        "same colour as": thing.colour == other.colour,
        "far from": math.hypot(x - x_b, y - y_b) > 90,
    }[name]


def fits(mention: Mention, thing) -> bool:
    if mention.corner is not None:
        x, y = middle(thing.box)
        down, across = mention.corner.split()
        if (x < 96) != (across == "left") or (y < 96) != (down == "top") or not abs(x - 96) > 30 < abs(y - 96):
            return False
    return thing.kind == mention.kind and mention.colour in (None, thing.colour) and mention.size in (None, thing.size)


def is_true(reading: Reading, what) -> bool:
    """Whether things can be chosen, a different one for each mention, of which all that the caption says is true."""
    if reading.background not in (None, what.background):
        return False
    single = [n for n, mention in enumerate(reading.mentions) if mention.count is None]
    for mention in reading.mentions:
        if mention.count is not None and sum(fits(mention, thing) for thing in what.things) != mention.count:
            return False
    for chosen in permutations(what.things, len(single)):
        things = dict(zip(single, chosen, strict=True))
        if all(fits(reading.mentions[n], thing) for n, thing in things.items()) and all(
            holds(name, things[a], things[b]) for a, name, b in reading.relations
        ):
            return True
    return False


def test_a_caption_is_read_back():
    reading = read("In the snow, a tiny crimson globe to the left of an ebony mug with two golden boxes.")
    ball, cup = Mention("ball", "red", "small", None, None), Mention("cup", "black", None, None, None)
    boxes = Mention("box", "yellow", None, 2, None)
    assert reading == Reading((ball, cup, boxes), ((0, "left of", 1),), "snow")
    reading = read("This shows a dark key in the lower left corner and a love symbol in the dark.")
    assert reading.mentions == (
        Mention("key", "black", None, None, "bottom left"),
        Mention("heart", None, None, None, None),
    )
    assert (reading.relations, reading.background) == ((), "night")
    with pytest.raises(ValueError, match="expected a thing at 'dogs'"):
        read("A ball and dogs.")
    with pytest.raises(ValueError, match="expected a relation, a comma or the end at ' sleeps'"):
        read("A ball sleeps.")


def test_every_caption_is_true_of_its_scene():
    false, told = [], Counter()
    for number in range(COUNT):
        what = drawn(number)
        assert len({*what.captions}) == 5
        for text in what.captions:
            reading = read(text)
            told.update(name for _, name, _ in reading.relations)
            told["colour"] += any(mention.colour for mention in reading.mentions)
            told["part"] += len(reading.mentions) < len(what.scene.things)
            if not is_true(reading, what.scene):
                false.append((number, text))
    assert false == []
    assert len(told) >= 18 + 2
    assert told["colour"] > 0.75 * 5 * COUNT
    assert told["part"] > 0.6 * 5 * COUNT


def test_region_captions_are_true_of_the_things_in_their_boxes():
    for number in range(60):
        what = drawn(number).scene
        for phrase, box in drawn(number).phrases:
            reading = read(phrase)
            inside = [
                t for t in what.things if gaps(t.box, box) == pytest.approx((t.box[0] - t.box[2], t.box[1] - t.box[3]))
            ]
            assert is_true(reading, scenes.Scene(tuple(inside), what.background, ()))
            assert box[0] == min(t.box[0] for t in inside)


def test_the_first_captions_of_twins_differ_in_one_word_or_in_the_order_of_two():
    changes = Counter()
    for number in range(1, COUNT, 2):
        change = drawn(number).scene.change
        if change is None:
            continue
        changes[change] += 1
        for before, after in list(zip(drawn(number - 1).captions, drawn(number).captions, strict=True))[:2]:
            one, other = (re.sub(r"\ban\b", "a", text.lower()) for text in (before, after))
            for words in ("love symbol", "to the left of", "to the right of"):  # of which one stands for a single word
                one, other = one.replace(words, words.replace(" ", "_")), other.replace(words, words.replace(" ", "_"))
            one, other = (re.sub(r"(\w+) (of|than)\b", r"\1_\2", text).rstrip(".").split() for text in (one, other))
            differing = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
            if change == "colours":
                assert len(differing) == 2
                assert {*differing[0]} == {*differing[1]}
            else:
                assert len(differing) == 1
            assert not is_true(read(after), drawn(number - 1).scene)
            assert not is_true(read(before), drawn(number).scene)
    assert {*changes} == {"colour", "kind", "size", "colours", "places"}
    assert 0.4 < sum(changes.values()) / (COUNT / 2) < 0.7


def test_the_detector_shares_a_seventh_of_the_words_with_the_captions():
    words = {word for n in range(COUNT) for text in drawn(n).captions for word in re.findall(r"[a-z]+", text.lower())}
    assert 0.12 < len(words & vocabulary()) / len(words | vocabulary()) < 0.165
