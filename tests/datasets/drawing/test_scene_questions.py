"""Questions on scenes: programs against answers by hand, pairs with two answers, and how little the words tell."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from crossmodal.datasets.drawing.scene_layout import Scene, scene
from crossmodal.datasets.drawing.scene_questions import (
    ANNOTATORS,
    NoAnswerError,
    Question,
    execute,
    kept,
    questions,
)
from crossmodal.datasets.drawing.scene_things import Thing


def thing(kind: str, colour: str, size: str, x: float, y: float) -> Thing:
    return Thing(kind, colour, size, {"small": 30.0, "large": 60.0}[size], 0.0, depth=y).at(x, y)


WHAT = Scene(
    (
        thing("ball", "red", "large", 40, 40),
        thing("ball", "blue", "small", 150, 150),
        thing("tree", "red", "small", 150, 40),
    ),
    "snow",
    (),
)
ALL = ("scene", [], [])


def program(*steps: tuple[str, list[int], list[str]]) -> list[dict]:
    return [dict(zip(("function", "inputs", "value_inputs"), step, strict=True)) for step in steps]


def chosen(kind: str, *further: tuple[str, list[int], list[str]]) -> list[dict]:
    return program(ALL, ("filter_kind", [0], [kind]), *further)


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        (chosen("ball", ("count", [1], [])), "2"),
        (chosen("cup", ("count", [1], [])), "0"),
        (chosen("ball", ("filter_colour", [1], ["red"]), ("exist", [2], [])), "yes"),
        (chosen("tree", ("filter_colour", [1], ["blue"]), ("exist", [2], [])), "no"),
        (chosen("tree", ("unique", [1], []), ("query_colour", [2], [])), "red"),
        (chosen("tree", ("unique", [1], []), ("query_corner", [2], [])), "top right"),
        (
            chosen(
                "tree", ("unique", [1], []), ("relate", [2], ["left of"]), ("unique", [3], []), ("query_size", [4], [])
            ),
            "large",
        ),
        (
            chosen(
                "tree", ("unique", [1], []), ("relate", [2], ["under"]), ("unique", [3], []), ("query_kind", [4], [])
            ),
            "ball",
        ),
        (
            program(ALL, ("filter_kind", [0], ["ball"]), ALL, ("filter_kind", [2], ["tree"]), ("more", [1, 3], [])),
            "yes",
        ),
    ],
)
def test_a_program_gives_the_answer(steps, answer):
    what = WHAT
    if steps[-1]["function"] == "query_kind":  # the small ball right below the tree
        what = Scene((WHAT.things[0], thing("ball", "blue", "small", 150, 78), WHAT.things[2]), "snow", ())
    assert execute(steps, what) == answer


@pytest.mark.parametrize(
    "steps",
    [
        chosen("ball", ("unique", [1], []), ("query_colour", [2], [])),  # there are two
        chosen("cup", ("unique", [1], []), ("query_colour", [2], [])),  # there is none
    ],
)
def test_what_is_missing_or_ambiguous_has_no_answer(steps):
    with pytest.raises(NoAnswerError):
        execute(steps, WHAT)


@cache
def asked(bias: float = 0.0) -> tuple[list[Scene], list[Question]]:
    scenes = [scene(3, 1, number) for number in range(240)]
    return scenes, questions(3, 1, scenes, bias)


def test_each_question_is_asked_of_two_scenes_with_different_answers():
    scenes, written = asked()
    assert len(written) > 4 * len(scenes)
    for n, question in enumerate(written):
        other = written[question.pair]
        assert other.pair == n
        assert (other.text, other.program, other.form) == (question.text, question.program, question.form)
        assert other.answer != question.answer
        assert execute(question.program, scenes[question.scene]) == question.answer
        assert len(question.answers) == ANNOTATORS
    twins = sum(q.scene ^ 1 == written[q.pair].scene for q in written)
    assert twins > 0.15 * len(written)


def test_answers_are_near_uniform():
    _, written = asked()
    of = {form: Counter(q.answer for q in written if q.form == form) for form in {q.form for q in written}}
    assert of["exist"]["yes"] == of["exist"]["no"]
    assert of["related"]["yes"] == of["related"]["no"]
    assert max(of["count"].values()) < 0.3 * of["count"].total()
    assert {*of["count"]} == {*"012345"}
    assert max(of["colour"].values()) < 0.2 * of["colour"].total()
    assert len(of["colour"]) == 8


def test_people_disagree_at_times():
    _, written = asked()
    same = [a == q.answer for q in written if q.answer_type == "yes/no" for a in q.answers]
    assert 0.97 < sum(same) / len(same) < 0.995  # half of 3 % at random are right
    words = {a for q in written if q.form == "class" and q.answer == "cup" for a in q.answers}
    assert {"cup", "mug"} <= words


def test_bias_gives_the_balance_up():
    scenes, written = asked(1.0)
    assert all(question.pair is None for question in written)
    assert all(execute(q.program, scenes[q.scene]) == q.answer for q in written[::20])
    given = Counter(q.answer for q in written if q.form == "exist")
    assert given["yes"] > 0.7 * given.total()


def test_priors_that_change_are_reversed_in_the_test():
    trained, tested = kept(3, "colour", test=False), kept(3, "colour", test=True)
    assert sorted(trained, key=trained.get) == sorted(tested, key=tested.get, reverse=True)
    assert max(trained.values()) / min(trained.values()) == pytest.approx(16)
    assert sorted(kept(3, "exist", test=False).values()) == [1 / 16, 1.0]
    scenes = [scene(3, 1, number) for number in range(240)]  # the same scenes, to compare nothing but the priors
    shares = []
    for part in (0, 2):
        given = Counter(q.answer for q in questions(3, part, scenes, 1.0, changing=True) if q.form == "colour")
        shares.append({answer: count / given.total() for answer, count in given.items()})
    first, last = max(tested, key=tested.get), min(tested, key=tested.get)
    assert shares[1][first] > 4 * shares[0].get(first, 0)
    assert shares[0][last] > 4 * shares[1].get(last, 0)


def test_balanced_questions_have_no_priors_to_change():
    scenes = [scene(3, 1, number) for number in range(40)]
    assert questions(3, 1, scenes, 0.0, changing=True) == questions(3, 1, scenes)
