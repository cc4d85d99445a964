"""Reads captions of the drawn world `scenes` back: which things they mention, and what they say of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crossmodal.datasets.drawing.scene_captions import CORNERS, NUMBERS, OPENINGS, RELATION_WORDS
from crossmodal.datasets.drawing.scene_things import KINDS, SIZES
from crossmodal.datasets.drawing.scenery import BACKGROUNDS, COLOURS


@dataclass(frozen=True)
class Mention:
    """A thing, or several alike, of which a caption speaks; None stands for what it leaves out."""

    kind: str
    colour: str | None
    size: str | None
    count: int | None  # of a plural
    corner: str | None


@dataclass(frozen=True)
class Reading:
    """What a caption says: its mentions, (subject, relation, object) among them by number, and the background."""

    mentions: tuple[Mention, ...]
    relations: tuple[tuple[int, str, int], ...]
    background: str | None


def _meanings(table: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {word: name for name, words in table.items() for word in words}


def _any_of(words: dict[str, str]) -> str:
    """A pattern of any of the words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_SINGULAR = _meanings({name: tuple(one for one, _ in words) for name, words in KINDS.items()})
_PLURAL = _meanings({name: tuple(several for _, several in words) for name, words in KINDS.items()})
_SIZE = _meanings({name: words for name, (_, words) in SIZES.items()})
_COLOUR = _meanings({name: words for name, (_, words) in COLOURS.items()})
_PLACE = _meanings({name: words for name, (_, _, words) in BACKGROUNDS.items()})
_CORNER = _meanings(CORNERS)
_RELATION = _meanings(RELATION_WORDS)
_MENTION = re.compile(
    rf"(?P<count>an?|{'|'.join(NUMBERS)}) (?:(?P<size>{_any_of(_SIZE)}) )?(?:(?P<colour>{_any_of(_COLOUR)}) )?"
    rf"(?P<kind>{_any_of(_SINGULAR | _PLURAL)})(?: (?P<corner>{_any_of(_CORNER)}))?"
)
_JOINED = re.compile(rf"(?:,| and| with| (?P<relation>{_any_of(_RELATION)})) ")
_OPENING = re.compile("|".join(re.escape(words) for words in sorted({*OPENINGS} - {""}, key=len, reverse=True)))
_FIRST, _LAST = re.compile(rf"({_any_of(_PLACE)}), "), re.compile(rf" ({_any_of(_PLACE)})$")


def read(caption: str) -> Reading:
    """What a caption says.

    Raises
    ------
    ValueError : it is no sentence of this world.
    """
    text, background = caption.lower().removesuffix("."), None
    if (place := _FIRST.match(text)) or (place := _LAST.search(text)):
        background = _PLACE[place[1]]
        text = text[: place.start()] + text[place.end() :]
    if opening := _OPENING.match(text):
        text = text[opening.end() :]
    mentions: list[Mention] = []
    relations: list[tuple[int, str, int]] = []
    position, joined = 0, None
    while True:
        match = _MENTION.match(text, position)
        if match is None:
            raise ValueError(f"{caption!r}: expected a thing at {text[position:]!r}")
        if joined is not None and joined["relation"]:
            relations.append((len(mentions) - 1, _RELATION[joined["relation"]], len(mentions)))
        mentions.append(_mention(match))
        position = match.end()
        if position == len(text):
            return Reading(tuple(mentions), tuple(relations), background)
        joined = _JOINED.match(text, position)
        if joined is None:
            raise ValueError(f"{caption!r}: expected a relation, a comma or the end at {text[position:]!r}")
        position = joined.end()


def _mention(match: re.Match[str]) -> Mention:
    several = match["count"] not in ("a", "an")
    return Mention(
        (_PLURAL if several else _SINGULAR)[match["kind"]],
        _COLOUR[match["colour"]] if match["colour"] else None,
        _SIZE[match["size"]] if match["size"] else None,
        NUMBERS.index(match["count"]) if several else None,
        _CORNER[match["corner"]] if match["corner"] else None,
    )
