"""Questions on the drawn world `scenes`, with programs that answer them and the answers of ten annotators.

Each question is asked of two scenes with different answers, twins where there are any, and answers to questions of a
form are drawn to near uniform, so that the question alone tells little (Goyal et al., 2017). Programs have the form of
CLEVR's (Johnson et al., 2017); as there, a question is left out where a thing that it names is missing or ambiguous,
or where a part of it is not needed to find the thing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossmodal.datasets.drawing.scene_captions import CORNERS, RELATION_WORDS, corner
from crossmodal.datasets.drawing.scene_layout import TEST, Scene
from crossmodal.datasets.drawing.scene_relations import true_relations
from crossmodal.datasets.drawing.scene_things import KINDS, SIZES, area
from crossmodal.datasets.drawing.scenery import COLOURS
from crossmodal.datasets.drawing.work import generator, pick

ANNOTATORS = 10
NOISE = 0.03  # share of answers that are wrong
MISCOUNTED = 0.06  # share of numbers that are wrong by one
SYNONYM = 0.2  # share of the words in answers that are another word for the same
PARTNERS = 60  # scenes that are tried as the second one of a question
SLACK = 1.3  # how much more often than the average an answer may be given
SPARE = 8  # answers of a kind that may be given in any case
STEEPEST = 16.0  # how much more often the answer that comes to mind first is kept than the last, if priors change
LEAST_RATIO = 1.6  # of the areas of two things of which one is called bigger

Step = dict[str, Any]
Program = list[Step]


@dataclass(frozen=True)
class Question:
    """A question on one scene."""

    scene: int  # number in its partition
    text: str
    form: str  # such as `count`
    answer_type: str  # yes/no, number or other, as in VQA
    answer: str
    answers: tuple[str, ...]  # of ten annotators
    program: Program
    pair: int | None  # number of the same question on another scene, with another answer


class NoAnswerError(Exception):
    """A program has no answer on a scene."""


def execute(program: Program, what: Scene) -> str:
    """The answer to a program on a scene.

    Raises
    ------
    NoAnswerError : something that the question names is missing, ambiguous or has no such property.
    """
    values: list[Any] = []
    for step in program:
        arguments = [*(values[n] for n in step["inputs"]), *step["value_inputs"]]
        values.append(FUNCTIONS[step["function"]](what, *arguments))
    return values[-1]


def _unique(what: Scene, of: set[int]) -> int:
    if len(of) != 1:
        raise NoAnswerError
    return next(iter(of))


def _corner(what: Scene, n: int) -> str:
    place = corner(what.things[n])
    if place is None:
        raise NoAnswerError
    return place


def _bigger(what: Scene, a: int, b: int) -> str:
    first, second = area(what.things[a].box), area(what.things[b].box)
    if max(first, second) < LEAST_RATIO * min(first, second):
        raise NoAnswerError
    return what.things[a if first > second else b].kind


def _number(what: Scene, of: set[int]) -> str:
    if len(of) > 5:
        raise NoAnswerError
    return str(len(of))


def _holds(yes: bool) -> str:
    return "yes" if yes else "no"


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "scene": lambda what: set(range(len(what.things))),
    "filter_kind": lambda what, of, value: {n for n in of if what.things[n].kind == value},
    "filter_colour": lambda what, of, value: {n for n in of if what.things[n].colour == value},
    "filter_size": lambda what, of, value: {n for n in of if what.things[n].size == value},
    "unique": _unique,
    "relate": lambda what, n, name: {
        m for m, thing in enumerate(what.things) if m != n and name in true_relations(thing, what.things[n])
    },
    "count": _number,
    "exist": lambda what, of: _holds(bool(of)),
    "more": lambda what, of, other: _holds(len(of) > len(other)),
    "related": lambda what, a, b, name: _holds(name in true_relations(what.things[a], what.things[b])),
    "query_kind": lambda what, n: what.things[n].kind,
    "query_colour": lambda what, n: what.things[n].colour,
    "query_size": lambda what, n: what.things[n].size,
    "query_corner": _corner,
    "bigger": _bigger,
}


class _Writer:
    """Writes a program step by step, and the words that go with it."""

    def __init__(self, rng: np.random.Generator, what: Scene):
        self.rng, self.what, self.steps = rng, what, []

    def step(self, function: str, *inputs: int, value: str | None = None) -> int:
        values = [] if value is None else [value]
        self.steps.append({"function": function, "inputs": list(inputs), "value_inputs": values})
        return len(self.steps) - 1

    def filtered(self, of: int, kind: str | None, colour: str | None = None, size: str | None = None) -> int:
        for name, value in (("kind", kind), ("colour", colour), ("size", size)):
            if value is not None:
                of = self.step(f"filter_{name}", of, value=value)
        return of

    def the(self, n: int, *, chain: bool = True, colour: bool = True) -> tuple[int, str]:
        """The step of thing `n`, and words for it: its class, its colour or a relation where they are needed.

        Raises
        ------
        NoAnswerError : nothing tells it from the others.
        """
        things, thing = self.what.things, self.what.things[n]
        word = pick(self.rng, [one for one, _ in KINDS[thing.kind]])
        alike = [m for m, t in enumerate(things) if t.kind == thing.kind]
        if len(alike) == 1:
            return self.step("unique", self.filtered(self.step("scene"), thing.kind)), f"the {word}"
        if colour and sum(things[m].colour == thing.colour for m in alike) == 1:
            chosen = self.filtered(self.step("scene"), thing.kind, thing.colour)
            return self.step("unique", chosen), f"the {pick(self.rng, COLOURS[thing.colour][1])} {word}"
        relations = [(name, b) for a, name, b in self.what.relations if a == n] if chain else []
        if not relations:
            raise NoAnswerError
        name, other = relations[int(self.rng.integers(len(relations)))]
        place, words = self.the(other, chain=False)
        chosen = self.filtered(self.step("relate", place, value=name), thing.kind)
        return self.step("unique", chosen), f"the {word} {pick(self.rng, RELATION_WORDS[name])} {words}"


Written = tuple[str, str]  # the question and its answer type
Form = Callable[[_Writer], Written]


def _any(write: _Writer) -> int:
    return int(write.rng.integers(len(write.what.things)))


def _two(write: _Writer) -> tuple[int, int]:
    a, b = write.rng.permutation(len(write.what.things))[:2]
    return int(a), int(b)


def _some(write: _Writer) -> tuple[int, str]:
    """A set of things by class, colour or size, and words for it in the plural."""
    rng, thing = write.rng, write.what.things[_any(write)]
    by = str(rng.choice(["kind", "colour", "size", ""], p=[0.35, 0.4, 0.2, 0.05]))
    kind, colour, size = (getattr(thing, name) if name == by else None for name in ("kind", "colour", "size"))
    words = [pick(rng, SIZES[size][1])] if size else []
    words += [pick(rng, COLOURS[colour][1])] if colour else []
    words.append(pick(rng, [plural for _, plural in KINDS[kind]]) if kind else pick(rng, ("things", "objects")))
    return write.filtered(write.step("scene"), kind, colour, size), " ".join(words)


def _count(write: _Writer) -> Written:
    of, words = _some(write)
    write.step("count", of)
    return pick(write.rng, (f"how many {words} are there?", f"what number of {words} do you see?")), "number"


def _exist(write: _Writer) -> Written:
    thing = write.what.things[_any(write)]
    colour = thing.colour if write.rng.random() < 0.8 else pick(write.rng, list(COLOURS))
    write.step("exist", write.filtered(write.step("scene"), thing.kind, colour))
    words = f"{pick(write.rng, COLOURS[colour][1])} {pick(write.rng, [one for one, _ in KINDS[thing.kind]])}"
    article = "an" if words[0] in "aeiou" else "a"
    return pick(write.rng, (f"is there {article} {words}?", f"do you see {article} {words}?")), "yes/no"


def _more(write: _Writer) -> Written:
    a, b = _two(write)
    kinds = write.what.things[a].kind, write.what.things[b].kind
    if kinds[0] == kinds[1]:
        raise NoAnswerError
    of, other = (write.filtered(write.step("scene"), kind) for kind in kinds)
    write.step("more", of, other)
    words = [pick(write.rng, [plural for _, plural in KINDS[kind]]) for kind in kinds]
    return f"are there more {words[0]} than {words[1]}?", "yes/no"


def _related(write: _Writer) -> Written:
    relations = write.what.relations
    if not relations:
        raise NoAnswerError
    a, name, b = relations[int(write.rng.integers(len(relations)))]
    if write.rng.random() < 0.5:
        a, b = _two(write)
    subject, first = write.the(a, chain=False)
    other, second = write.the(b, chain=False)
    write.steps.append({"function": "related", "inputs": [subject, other], "value_inputs": [name]})
    return f"is {first} {pick(write.rng, RELATION_WORDS[name])} {second}?", "yes/no"


def _colour(write: _Writer) -> Written:
    place, words = write.the(_any(write), colour=False)
    write.step("query_colour", place)
    return pick(write.rng, (f"what colour is {words}?", f"what is the colour of {words}?")), "other"


def _class(write: _Writer) -> Written:
    relations = write.what.relations
    if not relations:
        raise NoAnswerError
    _, name, b = relations[int(write.rng.integers(len(relations)))]
    place, words = write.the(b)
    write.step("query_kind", write.step("unique", write.step("relate", place, value=name)))
    return f"what is {pick(write.rng, RELATION_WORDS[name])} {words}?", "other"


def _size(write: _Writer) -> Written:
    place, words = write.the(_any(write))
    write.step("query_size", place)
    return pick(write.rng, (f"what size is {words}?", f"how big is {words}?")), "other"


def _where(write: _Writer) -> Written:
    place, words = write.the(_any(write))
    write.step("query_corner", place)
    return pick(write.rng, (f"where is {words}?", f"in which corner is {words}?")), "other"


def _which(write: _Writer) -> Written:
    a, b = _two(write)
    subject, first = write.the(a, chain=False)
    other, second = write.the(b, chain=False)
    if write.what.things[a].kind == write.what.things[b].kind:
        raise NoAnswerError
    write.step("bigger", subject, other)
    return f"which is bigger, {first} or {second}?", "other"


FORMS: dict[str, Form] = {
    "count": _count,
    "exist": _exist,
    "more": _more,
    "related": _related,
    "colour": _colour,
    "class": _class,
    "size": _size,
    "where": _where,
    "which": _which,
}
TRIES: dict[str, int] = {"count": 2, "related": 2}
"""How many questions of a form are tried per scene, if not one."""
SPACES: dict[str, tuple[str, ...]] = {
    "count": tuple("012345"),
    "colour": tuple(COLOURS),
    "class": tuple(KINDS),
    "which": tuple(KINDS),
    "size": tuple(SIZES),
    "where": tuple(CORNERS),
}
"""The answers to questions of each form; yes and no where none are listed."""


def kept(seed: int, form: str, *, test: bool) -> dict[str, float]:
    """How likely a question of a form is kept by its answer, if priors change (after VQA-CP of Agrawal et al., 2018).

    Each answer is `STEEPEST` ** (1 / (number of answers - 1)) times as likely as the next one, in an order that follows
    from the seed; in the test the order is the reverse of that in training and validation.
    """
    answers = SPACES.get(form, ("yes", "no"))
    order = np.random.default_rng([seed, [*FORMS].index(form)]).permutation(len(answers))
    chances = STEEPEST ** -np.linspace(0, 1, len(answers))
    return {answers[n]: float(chance) for n, chance in zip(order[::-1] if test else order, chances, strict=True)}


def questions(
    seed: int, part: int, scenes: Sequence[Scene], bias: float = 0.0, *, changing: bool = False
) -> list[Question]:
    """The questions on the scenes of a partition, in the order in which they were written.

    Parameters
    ----------
    seed, part : key of the random generators.
    bias : 0: answers are balanced; 1: questions are asked as they come to mind, with whatever answers; between: a
        mixture.
    changing : whether the questions that are not balanced are kept by their answers, by other preferences in the test
        than in the other partitions (`kept`).
    """
    chances = {form: kept(seed, form, test=part == TEST) for form in FORMS}
    questions_so_far: list[Question] = []
    counts: dict[str, Counter] = defaultdict(Counter)
    for number, what in enumerate(scenes):
        rng = generator(seed, part, number, 5)
        for form, text, kind, program in _proposed(rng, what):
            answer = _answer(program, what)
            if answer is None or not _needed(program, what):
                continue
            if rng.random() < bias:
                if changing and rng.random() >= chances[form][answer]:
                    continue
                questions_so_far.append(_on(rng, number, text, form, kind, answer, program, None))
                continue
            second = _partner(rng, scenes, number, program, answer)
            alike = f"{form} {program[1]['function']}" if form == "count" else form  # few things are alike in class
            if second is None or not _rare(counts[alike], form, (answer, second[1])):
                continue
            counts[alike].update((answer, second[1]))
            questions_so_far.append(_on(rng, number, text, form, kind, answer, program, len(questions_so_far) + 1))
            questions_so_far.append(
                _on(rng, second[0], text, form, kind, second[1], program, len(questions_so_far) - 1)
            )
    return questions_so_far


def _proposed(rng: np.random.Generator, what: Scene) -> Iterator[tuple[str, str, str, Program]]:
    for form, write_one in FORMS.items():
        for _ in range(TRIES.get(form, 1)):
            writer = _Writer(rng, what)
            try:
                text, kind = write_one(writer)
            except NoAnswerError:
                continue
            yield form, text, kind, writer.steps


def _answer(program: Program, what: Scene) -> str | None:
    try:
        return execute(program, what)
    except NoAnswerError:
        return None


def _needed(program: Program, what: Scene) -> bool:
    """Whether the classes that follow a relation leave several things without it."""
    for n, step in enumerate(program):
        if step["function"] == "relate" and program[n + 1]["function"] == "filter_kind":
            alike = [t for t in what.things if t.kind == program[n + 1]["value_inputs"][0]]
            if len(alike) < 2:
                return False
    return True


def _partner(
    rng: np.random.Generator, scenes: Sequence[Scene], number: int, program: Program, answer: str
) -> tuple[int, str] | None:
    """A scene to which the program gives another answer, and that answer; its twin where possible."""
    order = [number ^ 1, *rng.integers(0, len(scenes), PARTNERS).tolist()]
    for n in order:
        if n < len(scenes):
            other = _answer(program, scenes[n])
            if other is not None and other != answer and _needed(program, scenes[n]):
                return n, other
    return None


def _rare(counts: Counter, form: str, answers: tuple[str, str]) -> bool:
    """Whether the answers to a form stay near uniform with two more."""
    space = len(counts) if form == "count" else len(SPACES.get(form, ("yes", "no")))
    return all(counts[a] <= SLACK * sum(counts.values()) / max(space, 1) + SPARE for a in answers)


def _on(
    rng: np.random.Generator,
    number: int,
    text: str,
    form: str,
    kind: str,
    answer: str,
    program: Program,
    pair: int | None,
) -> Question:
    answers = tuple(_given(rng, form, kind, answer) for _ in range(ANNOTATORS))
    return Question(number, text, form, kind, answer, answers, program, pair)


def _given(rng: np.random.Generator, form: str, kind: str, answer: str) -> str:
    """What one annotator answers: a synonym at times, and a few wrong answers."""
    chance = rng.random()
    if kind == "number" and chance < MISCOUNTED:
        return str(max(0, int(answer) + int(rng.choice((-1, 1)))))
    if chance < NOISE:
        return pick(rng, SPACES.get(form, ("yes", "no")))
    words = [one for one, _ in KINDS[answer]] if answer in KINDS else COLOURS[answer][1] if answer in COLOURS else ()
    return pick(rng, words) if words and rng.random() < SYNONYM else answer
