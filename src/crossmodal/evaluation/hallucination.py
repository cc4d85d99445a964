"""CHAIR (Rohrbach et al., 2018): objects that captions mention although they are not in the picture.

Object Hallucination in Image Captioning, section 2.1. What is in a picture is what its annotated regions are of and
what its references mention; a caption mentions an object by its name, a synonym or the plural of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Names = Mapping[tuple[str, ...], str]
"""The words of each name of an object, to the object."""


def names_of(objects: Iterable[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> dict[tuple[str, ...], str]:
    """The names by which objects are mentioned: their own, their synonyms, and regular plurals.

    Examples
    --------
    >>> sorted(" ".join(words) for words in names_of(["bus"], {"bus": ["coach"]}))
    ['bus', 'buses', 'coach', 'coaches']
    """
    names: dict[tuple[str, ...], str] = {}
    for name in dict.fromkeys(objects):
        for called in (name, *(synonyms or {}).get(name, ())):
            words = tuple(called.lower().split())
            names.setdefault(words, name)
            names.setdefault((*words[:-1], _plural(words[-1])), name)
    return names


def _plural(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in (*"aeiou", ""):
        return f"{word[:-1]}ies"
    return f"{word}s"


def mentioned(caption: Sequence[str], names: Names) -> list[str]:
    """The objects that a caption mentions, in order; of names that begin at one word, the longest counts.

    Examples
    --------
    >>> mentioned("two hot dogs and a dog".split(), names_of(["dog", "hot dog"]))
    ['hot dog', 'dog']
    """
    longest = max(map(len, names), default=0)
    objects, place = [], 0
    while place < len(caption):
        for size in range(min(longest, len(caption) - place), 0, -1):
            name = names.get(tuple(caption[place : place + size]))
            if name is not None:
                objects.append(name)
                place += size
                break
        else:
            place += 1
    return objects


def hallucinations(
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    present: Sequence[Iterable[str] | None],
    names: Names,
) -> np.ndarray:
    """The numbers per image that CHAIR is made of.

    Parameters
    ----------
    present : the objects that are annotated in each of N images; None for an image without annotations.

    Returns
    -------
    (N, 4) float64: the objects that the caption mentions; those of them that are not there; whether there is one that
    is not; whether the image counts, which one without annotations does not, whose other numbers are 0.
    """
    counts = np.zeros((len(captions), 4))
    for row, caption, others, annotated in zip(counts, captions, references, present, strict=True):
        if annotated is None:
            continue
        there = {*annotated, *(name for other in others for name in mentioned(other, names))}
        objects = mentioned(caption, names)
        absent = sum(name not in there for name in objects)
        row[:] = len(objects), absent, absent > 0, 1
    return counts


def share(sums: np.ndarray) -> np.ndarray:
    """(...) first of (..., 2) sums as a share of the second, in per cent; 0 where the second is 0."""
    part, whole = sums[..., 0], sums[..., 1]
    return 100.0 * np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)
