"""Baby Talk: a conditional random field of objects, attributes and prepositions in words (Kulkarni et al., 2011).

It is described in section 9.3.2 of Liu et al. (2020). Labels are triples such as ⟨⟨white, cloud⟩, in, ⟨blue, sky⟩⟩. The
potentials of the image are detectors' confidences and functions of the boxes; those of the text are counts of pairs
(attribute, object) and triples (object, preposition, object) in captions, for which the paper searches the web. Given
the objects, attributes and prepositions do not depend on each other, so that the best labels are found exactly.
Sentences come from templates, or from an n-gram model that decides which words to glue in between.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise, permutations
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from crossmodal.language.tokens import PAD, START
from crossmodal.models.parts import realiser
from crossmodal.models.parts.geometry import NEAR, gap, offset, overlap
from crossmodal.models.parts.realiser import Realiser, Seen

PREPOSITIONS = ("above", "below", "left of", "right of", "near", "in")
LEAST = 0.01  # geometry's least potential, so that text alone may decide nothing


class Settings(realiser.Settings):
    text: float = Field(1.0, ge=0, description="weight of the potentials of the text; those of the image have 1")
    sentence: Literal["template", "n-gram"] = Field(
        "template", description="whether labels are put into a template, or glued together by an n-gram model"
    )
    glued: int = Field(40, ge=1, description="most frequent words of captions that an n-gram model may glue in")


def geometry(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(P,) potentials of the prepositions for what is in box `a`, seen from box `b`, before their logarithm."""
    right, below = offset(a, b)
    inside = overlap(a, b)
    smaller = float(np.prod(a[2:] - a[:2])) < float(np.prod(b[2:] - b[:2]))
    near = max(0.0, 1 - gap(a, b) / NEAR)
    apart = 1 - inside
    values = [max(0.0, -below), max(0.0, below), max(0.0, -right), max(0.0, right), 0.3 * near]
    return LEAST + np.array([*(value * apart for value in values), inside * smaller])


class Model(Realiser):
    glue: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(word for text in ("there is a", *PREPOSITIONS) for word in text.split())
    )

    settings: Settings

    def fit_pairs(self, captions: list[list[int]], images: list[Seen]) -> None:
        """Count words, pairs of words, and prepositions between two objects of an image that a caption mentions."""
        self.keep_counts("words", ((word,) for row in captions for word in (START, *row)), 1)
        self.keep_counts("bigrams", (pair for row in captions for pair in zip([START, *row], row, strict=False)), 2)
        prepositions = [self.said(text) for text in PREPOSITIONS]
        rows = []
        for row, seen in zip(captions, images, strict=True):
            places = {word: place for place, word in reversed([*enumerate(row)])}
            mentioned = sorted({places[c]: c for c in seen.classes if c in places}.items())
            for (start, a), (end, b) in pairwise(mentioned):
                for number, words in enumerate(prepositions):
                    if any(row[k : k + len(words)] == words for k in range(start + 1, end - len(words) + 1)):
                        rows.append((a, number, b))
        self.keep_counts("prepositions", rows, 3)

    def sentence(self, seen: Seen) -> list[int]:
        labels = self.labels(seen)
        return self.glued(labels) if self.settings.sentence == "n-gram" else self.templated(labels)

    def labels(self, seen: Seen) -> list[tuple[int, int] | int]:
        """The best labels: (attribute, object), and where there are two, the number of a preposition and another such.

        The score is the sum of the logarithms of all potentials, of which those of the text are probabilities.
        """
        if not seen.classes:
            return []
        attributes = [self._attribute(a, c) for a, c in zip(seen.attributes, seen.classes, strict=True)]
        nodes = [np.log(max(1e-6, score)) + value for score, (_, value) in zip(seen.scores, attributes, strict=True)]
        first = int(np.argmax(nodes))
        if len(nodes) == 1:
            return [(attributes[0][0], seen.classes[0])]
        best, labels = -np.inf, [(attributes[first][0], seen.classes[first])]
        for i, j in permutations(range(len(nodes)), 2):
            number, value = self._preposition(seen, i, j)
            if nodes[i] + nodes[j] + value > best:
                best = nodes[i] + nodes[j] + value
                labels = [(attributes[i][0], seen.classes[i]), number, (attributes[j][0], seen.classes[j])]
        return labels

    def _attribute(self, detected: int, kind: int) -> tuple[int, float]:
        """The detected attribute, or none if captions never say it of the object, and its potential of the text."""
        if not detected:
            return PAD, 0.0
        pairs, add = self.counts("bigrams"), self.settings.smoothing
        with_it, of_kind = pairs.get((detected, kind), 0), self.counts("words").get((kind,), 0)
        if not with_it:
            return PAD, self.settings.text * float(np.log(add / (of_kind + add)))
        return detected, self.settings.text * float(np.log((with_it + add) / (of_kind + add)))

    def _preposition(self, seen: Seen, i: int, j: int) -> tuple[int, float]:
        """The best preposition between two objects and its potentials, of the boxes and of the text."""
        triples, add = self.counts("prepositions"), self.settings.smoothing
        counts = np.array([triples.get((seen.classes[i], n, seen.classes[j]), 0) for n in range(len(PREPOSITIONS))])
        text = np.log((counts + add) / (counts.sum() + add * len(counts)))
        values = np.log(geometry(seen.boxes[i], seen.boxes[j])) + self.settings.text * text
        return int(np.argmax(values)), float(values.max())

    def templated(self, labels: list[tuple[int, int] | int]) -> list[int]:
        """`there is a white cloud in a blue sky`."""
        words = self.said("there is")
        for label in labels:
            words += self.said(PREPOSITIONS[label]) if isinstance(label, int) else [*self.said("a"), *label]
        return words if labels else []

    def glued(self, labels: list[tuple[int, int] | int]) -> list[int]:
        """The labels in order, with a frequent word x between two of them, a and b, where p̂(axb) is above p̂(ab).

        p̂ is the probability by word pairs to the power of one over the number of words.
        """
        parts = (self.said(PREPOSITIONS[label]) if isinstance(label, int) else label for label in labels)
        skeleton = [word for part in parts for word in part]
        words, last = [], START
        for word in filter(None, skeleton):
            scores = [(self._log(last, word), PAD)]
            scores += [((self._log(last, x) + self._log(x, word)) / 2, x) for x in self.frequent if x != word]
            best = max(scores, key=lambda score: (score[0], -score[1]))[1]
            words += [best, word] if best else [word]
            last = word
        return words

    @cached_property
    def frequent(self) -> list[int]:
        """The words that may be glued in."""
        counts = self.counts("words")
        ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        return [word for (word,), _ in ordered if word != START][: self.settings.glued]

    def _log(self, a: int, b: int) -> float:
        """log p(b | a), smoothed over the words of the captions."""
        add, words = self.settings.smoothing, self.counts("words")
        pairs = self.counts("bigrams").get((a, b), 0)
        return float(np.log((pairs + add) / (words.get((a,), 0) + add * len(words))))
