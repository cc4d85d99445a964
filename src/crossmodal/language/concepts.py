"""Concepts: names of things in images with scores, and the phrases of captions that mean them (A3VSE, section 4.2).

Two phrases mean the same where a synset of WordNet holds both or, without WordNet, where a list of synonyms does; a
setting chooses between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from crossmodal.core.errors import UserError

Expansion = Literal["wordnet", "own"]
Expand = Callable[[str], frozenset[str]]
"""A function from a lower-case phrase to all phrases of its meaning, itself included."""

LONGEST = 3  # words of the longest concepts that captions are searched for
_ENDINGS = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""))


class Scored(NamedTuple):
    """Concepts of N items, padded with scores of 0."""

    ids: np.ndarray  # (N, L) int32
    scores: np.ndarray  # (N, L) float32


def wordnet() -> Expand:
    """Expansion by the lemmas of a phrase's synsets, inflected forms brought to their base by WordNet.

    Raises
    ------
    UserError : NLTK does not find its WordNet corpus.
    """
    from nltk.corpus import wordnet as corpus

    try:
        corpus.ensure_loaded()
    except LookupError:
        raise UserError(
            "expansion: wordnet: NLTK finds no WordNet corpus; fetch it with `python -m nltk.downloader wordnet`, or "
            "set the model's `expansion: own` in params.yaml"
        ) from None

    def expand(phrase: str) -> frozenset[str]:
        synsets = corpus.synsets(phrase.replace(" ", "_"))
        return frozenset({phrase, *(name.replace("_", " ").lower() for s in synsets for name in s.lemma_names())})

    return expand


def own(synonyms: Mapping[str, Sequence[str]]) -> Expand:
    """Expansion by lists of synonyms, plurals brought to the singular.

    Parameters
    ----------
    synonyms : name to others of its meaning, as a data set's `items.json` lists them.
    """
    alike: dict[str, set[str]] = {}
    for name, others in synonyms.items():
        together = {word.lower() for word in (name, *others)}
        for word in together:
            alike.setdefault(word, set()).update(together)

    def expand(phrase: str) -> frozenset[str]:
        forms = {phrase, *(phrase[: -len(e)] + base for e, base in _ENDINGS if phrase.endswith(e))}
        return frozenset(forms.union(*(alike.get(form, ()) for form in forms)))

    return expand


def names_of(index: pd.DataFrame) -> tuple[str, ...]:
    """All classes and attributes in an index of region features, in alphabetical order."""
    listed = {name.lower() for column in ("class", "attribute") for row in index[column] for name in row if name}
    return tuple(sorted(listed))


def of_regions(index: pd.DataFrame, names: Sequence[str]) -> Scored:
    """The classes and attributes of each image's regions, each scored by the most confident region that has it.

    Parameters
    ----------
    index : `class`, `attribute` and `confidence` of each image's regions.
    names : all names; ids are positions among them.
    """
    place = {name: n for n, name in enumerate(names)}
    rows = []
    for classes, attributes, confidences in zip(index["class"], index["attribute"], index["confidence"], strict=True):
        best: dict[int, float] = {}
        for kind, attribute, confidence in zip(classes, attributes, confidences, strict=True):
            for n in (place[name.lower()] for name in (kind, attribute) if name):
                best[n] = max(best.get(n, 0.0), float(confidence))
        rows.append(best)
    return _padded(rows)


def tags(scored: Scored, names: Sequence[str], threshold: float = 0.3) -> list[list[str]]:
    """The words of each image's concepts above a threshold, the highest score first (A3VSE, section 4.6)."""
    words = []
    for ids, scores in zip(scored.ids, scored.scores, strict=True):
        order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > threshold]
        words.append([word for i in order for word in names[ids[i]].split()])
    return words


def of_captions(captions: Iterable[Sequence[str]], names: Sequence[str], expand: Expand) -> Scored:
    """The concepts that phrases of each caption mean, each with a score of 1: the k-hot query of A3VSE.

    Parameters
    ----------
    captions : tokens of each caption.
    names : all names; ids are positions among them.
    """
    place = {name: n for n, name in enumerate(names)}
    longest = min(LONGEST, max((name.count(" ") + 1 for name in names), default=1))
    places_of: dict[str, tuple[int, ...]] = {}  # so that each phrase is looked up once
    rows = []
    for words in captions:
        numbers: set[int] = set()
        for n in range(1, longest + 1):
            for start in range(len(words) - n + 1):
                phrase = " ".join(words[start : start + n])
                if phrase not in places_of:
                    places_of[phrase] = tuple(place[word] for word in expand(phrase) if word in place)
                numbers.update(places_of[phrase])
        rows.append(dict.fromkeys(sorted(numbers), 1.0))
    return _padded(rows)


def _padded(rows: list[dict[int, float]]) -> Scored:
    width = max(1, max(map(len, rows), default=0))
    ids, scores = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.float32)
    for n, row in enumerate(rows):
        ids[n, : len(row)], scores[n, : len(row)] = list(row), list(row.values())
    return Scored(ids, scores)
