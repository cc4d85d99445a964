"""Every regular expression takes a time that grows as its text does, on texts made to make it go back and forth."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossmodal.core.errors import UserError
from crossmodal.datasets import precomputed
from crossmodal.features import released
from crossmodal.features.lightfield import plyfiles, polygonfiles
from crossmodal.language import tokens
from crossmodal.released.arrays import Place
from crossmodal.reporting.page import curves, sections
from crossmodal.reporting.tables import latex
from crossmodal.reporting.tracking import store

SOURCE = Path(__file__).parents[1] / "src" / "crossmodal"
CALLS = {"compile", "match", "search", "fullmatch", "sub", "split", "findall", "finditer"}
LONG = 6_000  # characters; an expression that goes over all of them from each of them takes a fifth of a second
SECONDS = 0.06
OF_PARTS = [  # those that are put together of others
    precomputed.REFERENCE.pattern,
    precomputed.SLICE,
]


def patterns() -> Iterator[tuple[str, str | bytes, int, str]]:
    """Where each stands, with its flags and how it is used."""
    whole = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        named = {
            id(node.value): ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign | ast.AnnAssign)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            of_text = ast.unparse(node.func.value)
            if node.func.attr not in CALLS | {"contains"} or not (of_text == "re" or of_text.endswith(".str")):
                continue
            if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str | bytes):
                flags = sum(getattr(re, name) for name in {"S", "M", "I", "DOTALL", "MULTILINE", "IGNORECASE"}
                            if f"re.{name}" in {ast.unparse(part) for part in ast.walk(node)})  # fmt: skip
                uses = {node.func.attr}
                if node.func.attr == "compile":
                    uses = set(re.findall(rf"\b{named[id(node)]}\.(\w+)\(", whole)) & CALLS
                for use in sorted(uses):
                    yield f"{path.relative_to(SOURCE)}:{node.lineno} {use}", node.args[0].value, flags, use
    for n, pattern in enumerate(OF_PARTS):
        yield f"of parts {n}", pattern, 0, "fullmatch"


def sample(parsed, stop=None) -> tuple[str, bool]:
    """A shortest text for the parts of an expression, up to one of them; whether that one was met."""
    out = ""
    for kind, value in parsed:
        if value is stop:
            return out, True
        name = str(kind)
        if name == "LITERAL":
            out += chr(value)
        elif name == "NOT_LITERAL":
            out += "\1" if value != 1 else "\2"
        elif name == "ANY":
            out += "y"
        elif name == "IN":
            out += of_class(value)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            inner, met = sample(value[2], stop)
            if met:
                return out + inner, True
            out += inner * value[0]
        elif name == "SUBPATTERN":
            inner, met = sample(value[3], stop)
            out += inner
            if met:
                return out, True
        elif name == "BRANCH":
            for branch in value[1]:
                inner, met = sample(branch, stop)
                if met:
                    return out + inner, True
            out += sample(value[1][0])[0]
    return out, False


def of_class(members) -> str:
    for candidate in ["x", "0", " ", *map(chr, range(128)), "\N{THAI CHARACTER KO KAI}"]:
        if re.fullmatch(f"[{source_of(members)}]", candidate):
            return candidate
    raise AssertionError(f"no character for {members}")


def source_of(members) -> str:
    named = {"CATEGORY_DIGIT": r"\d", "CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_SPACE": r"\s", "CATEGORY_NOT_SPACE": r"\S",
             "CATEGORY_WORD": r"\w", "CATEGORY_NOT_WORD": r"\W"}  # fmt: skip
    written = ""
    for kind, value in members:
        name = str(kind)
        if name == "RANGE":
            written += f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        else:
            written += {"NEGATE": "^", "CATEGORY": named.get(str(value))}.get(name) or re.escape(chr(value))
    return written


def repeats(parsed) -> Iterator[tuple]:
    for kind, value in parsed:
        name = str(kind)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            yield value
            yield from repeats(value[2])
        elif name == "SUBPATTERN":
            yield from repeats(value[3])
        elif name == "BRANCH":
            for branch in value[1]:
                yield from repeats(branch)


def worst(pattern: str | bytes, flags: int) -> Iterator[str]:
    """Texts with much of what the expression may take much of, which then do not go on as it wants."""
    parsed = re._parser.parse(pattern.decode() if isinstance(pattern, bytes) else pattern, flags)
    whole = sample(parsed)[0]
    for value in repeats(parsed):
        before, unit = sample(parsed, value)[0], sample(value[2])[0] or "x"
        for more in {unit, unit + unit.swapcase(), "0", " ", "x", "_"}:
            for end in ("", "\0", "\n", "!\n"):
                yield before + more * (LONG // len(more)) + end
        yield (before + unit) * (LONG // len(before + unit)) + "\0"
    yield (whole or "x") * (LONG // len(whole or "x")) + "\0"


FOUND = list(patterns())


def test_the_expressions_are_found():
    assert len(FOUND) > 45
    assert any(place.startswith("language/tokens.py") for place, *_ in FOUND)


@pytest.mark.parametrize(("place", "pattern", "flags", "use"), FOUND, ids=[place for place, *_ in FOUND])
def test_it_takes_a_time_that_grows_as_the_text(place, pattern, flags, use):
    compiled = re.compile(pattern, flags)
    run = (lambda given: compiled.sub(given[:0], given)) if use == "sub" else getattr(compiled, use, compiled.search)
    for given in worst(pattern, flags):
        given = given.encode(errors="replace") if isinstance(pattern, bytes) else given
        began = time.process_time()
        run(given)
        spent = time.process_time() - began
        assert spent < SECONDS, f"{place}: {pattern!r} takes {spent:.2f} s of {given[:40]!r}..."


def refused(function):
    def run(given):
        with pytest.raises((UserError, ValueError)):
            function(given)

    return run


# What other people's texts go through, and the worst that they can be.
THROUGH = {
    "the end of a sentence": (lambda t: tokens.tokenize([t]), lambda n: 'a."' + " " * n + "x"),
    "full stops": (lambda t: tokens.tokenize([t]), lambda n: "." * n + "x"),
    "brackets after a full stop": (lambda t: tokens.tokenize([t]), lambda n: "a." + "])" * (n // 2) + "x"),
    "apostrophes": (lambda t: tokens.tokenize([t]), lambda n: "'" * n + "s x"),
    "quotation marks": (lambda t: tokens.tokenize([t]), lambda n: "``" * (n // 2) + "x"),
    "a row of an array": (refused(Place.parse), lambda n: "f#" + "/1" * (n // 2) + "x"),
    "blanks in a figure": (lambda t: sections.inline(t, "x"), lambda n: "<svg>" + "<" + " " * n + "b></svg>"),
    "metadata of a figure": (
        lambda t: sections.inline(t, "x"),
        lambda n: "<svg>" + "<metadata>" * (n // 10) + "</svg>",
    ),
    "heads of a figure": (lambda t: sections.inline(t, "x"), lambda n: "<svg " * (n // 5) + "></svg>"),
    "a curve's name": (curves.label, lambda n: "a-to-" + "_" * n + "\n"),
    "a photograph's number": (released._number, lambda n: "COCO_a_" + "0" * n + "x"),
    "blank lines of a caption": (latex.tex, lambda n: "\n" * n + "x"),
    "an address": (store.masked, lambda n: "a://" + ":" * n),
    "an OFF file": (refused(polygonfiles.off), lambda n: b" " * n + b"STCN4nOF"),
    "a PLY file": (refused(plyfiles.ply), lambda n: b"ply\n" + b"end_header " * (n // 11)),
}


@pytest.mark.parametrize("name", THROUGH)
def test_twice_the_text_takes_twice_the_time(name):
    function, make = THROUGH[name]

    def spent(given):
        best = []
        for _ in range(3):
            began = time.process_time()
            function(given)
            best.append(time.process_time() - began)
        return min(best)

    once, twice = spent(make(LONG)), spent(make(2 * LONG))
    assert twice < 3 * once + 0.03, (once, twice)


def test_a_curve_is_labelled_by_its_metric_and_direction():
    assert curves.label("val_image-to-text_median_rank") == "Validation: median rank, image to text"
    assert curves.label("val_image-to-text_recall@1") == "Validation: R@1, image to text"


def test_a_number_of_a_photograph_is_without_zeros():
    names = ["COCO_val2014_000000000042.jpg", "000.png", "0042", "42", "a42", "COCO_val2014_.jpg"]
    assert [released._number(name) for name in names] == ["42", "0", "42", "42", None, None]
