"""Visual dependency representations: eight relations of boxes, and templates (Elliott and Keller, 2013).

It is described in section 9.3.2 of Liu et al. (2020). Objects are the nodes of a graph, whose edges are relations that
follow from the boxes. Captions are aligned with the graphs of their images by the objects that they mention, which
tells which object heads a sentence and which relation is told. The paper aligns graphs that people have drawn with
parses; here, where there are neither, the order of two mentions in a caption says which is the head, and of two boxes
that overlap the one that reaches further down is in front.
"""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import ClassVar

import numpy as np

from crossmodal.language.tokens import PAD
from crossmodal.models.parts import realiser
from crossmodal.models.parts.geometry import gap, offset, overlap
from crossmodal.models.parts.realiser import Realiser, Seen

RELATIONS = ("on", "surrounds", "beside", "opposite", "above", "below", "infront", "behind")
WORDS = ("on", "around", "beside", "opposite", "above", "below", "in front of", "behind")
MOST = 0.5  # share of a box within another one from which it is on it
FAR = 0.5  # distance of two boxes, as a share of the box around both, from which they are opposite to each other


class Settings(realiser.Settings):
    pass


def relation(a: np.ndarray, b: np.ndarray) -> int:
    """The number of the relation of what is in box `a` to what is in box `b`.

    `on`: at least half of a lies within b; `surrounds`: a holds b; `infront`, `behind`: they overlap otherwise. Else
    the angle between the centres decides: `beside` or, where they are far apart, `opposite` for a horizontal one.
    """
    sizes = [float(np.prod(box[2:] - box[:2])) for box in (a, b)]
    inside = overlap(a, b)
    if inside >= MOST:
        return RELATIONS.index("on" if sizes[0] <= sizes[1] else "surrounds")
    if inside > 0:
        return RELATIONS.index("infront" if a[3] >= b[3] else "behind")
    right, below = offset(a, b)
    if abs(right) >= abs(below):
        return RELATIONS.index("opposite" if gap(a, b) >= FAR else "beside")
    return RELATIONS.index("below" if below > 0 else "above")


class Model(Realiser):
    glue: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(word for text in ("there is a and", *WORDS) for word in text.split())
    )

    settings: Settings

    def fit_pairs(self, captions: list[list[int]], images: list[Seen]) -> None:
        """Count the relations of two objects that a caption mentions, the head first; and attributes of objects."""
        edges, heads, marks = [], [], []
        for row, seen in zip(captions, images, strict=True):
            places = {c: row.index(c) for c in seen.classes if c in row}
            order = sorted(range(len(seen.classes)), key=lambda i: places.get(seen.classes[i], len(row)))
            told = [i for i in order if seen.classes[i] in places]
            heads += [(seen.classes[told[0]],)] if told else []
            for i, j in pairwise(told):
                edges.append((seen.classes[i], relation(seen.boxes[i], seen.boxes[j]), seen.classes[j]))
            marks += [(row[place - 1], kind) for kind, place in places.items() if place]
        self.keep_counts("edges", edges, 3)
        self.keep_counts("heads", heads, 1)
        self.keep_counts("marks", marks, 2)

    def graph(self, seen: Seen) -> list[tuple[int, int, int]]:
        """(head, relation, other) as places of regions and a number: the likeliest edge, and one from the same head.

        An edge counts by how often captions tell it, and by the confidences of its objects.
        """
        edges = [
            (self._score(seen, i, number, j), i, number, j)
            for i, j in permutations(range(len(seen.classes)), 2)
            for number in [relation(seen.boxes[i], seen.boxes[j])]
        ]
        if not edges:
            return []
        best = max(edges, key=lambda edge: (edge[0], -edge[1], -edge[3]))
        others = [edge for edge in edges if edge[1] == best[1] and edge[3] != best[3]]
        told = [edge for edge in others if self.counts("edges").get(self._key(seen, *edge[1:]), 0)]
        second = [max(told, key=lambda edge: (edge[0], -edge[3]))] if told else []
        return [edge[1:] for edge in (best, *second)]

    def _key(self, seen: Seen, i: int, number: int, j: int) -> tuple[int, int, int]:
        return seen.classes[i], number, seen.classes[j]

    def _score(self, seen: Seen, i: int, number: int, j: int) -> float:
        add = self.settings.smoothing
        told = self.counts("edges").get(self._key(seen, i, number, j), 0)
        head = self.counts("heads").get((seen.classes[i],), 0)
        return float(np.log(told + add) + np.log(head + add) + np.log(max(1e-6, seen.scores[i] * seen.scores[j])))

    def sentence(self, seen: Seen) -> list[int]:
        """One of four templates: `there is a car`; `a car is beside a tree`, and with `and a house` or `and on a ...`.

        A relation whose words no caption has is `and`.
        """
        if not seen.classes:
            return []
        edges = self.graph(seen)
        if not edges:
            return [*self.said("there is"), *self._object(seen, 0)]
        (head, first, other), *rest = edges
        known = PAD not in self.said(WORDS[first])
        between = f"is {WORDS[first]}" if known else "and"
        words = [*self._object(seen, head), *self.said(between), *self._object(seen, other)]
        for _, number, one in rest:
            plain = number == first or PAD in self.said(WORDS[number])
            words += self.said("and" if plain else f"and {WORDS[number]}") + self._object(seen, one)
        return words

    def _object(self, seen: Seen, place: int) -> list[int]:
        """`a red car`, with an attribute that captions say of such objects."""
        mark, kind = seen.attributes[place], seen.classes[place]
        told = mark and self.counts("marks").get((mark, kind), 0)
        return [*self.said("a"), *([mark] if told else []), kind]
