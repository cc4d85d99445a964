"""CHAIR by hand: objects that captions mention and that are not there."""

from __future__ import annotations

import numpy as np
import pytest

from crossmodal.evaluation.hallucination import hallucinations, mentioned, names_of, share

NAMES = names_of(["dog", "hot dog", "bus", "baby", "boy"], {"dog": ["hound"]})


def test_names_have_plurals_and_synonyms():
    said = ["two", "hounds", ",", "a", "bus", ",", "babies", ",", "boys", "and", "three", "buses"]
    assert mentioned(said, NAMES) == ["dog", "bus", "baby", "boy", "bus"]


def test_the_longest_name_counts():
    assert mentioned(["a", "hot", "dog"], NAMES) == ["hot dog"]
    assert mentioned(["a", "hot", "day", "dog"], NAMES) == ["dog"]
    assert mentioned([], NAMES) == []
    assert mentioned(["dog"], {}) == []


def test_three_captions_by_hand():
    """The second image's reference mentions the bus that nobody annotated; the last image has no annotations."""
    captions = [["a", "dog", "and", "a", "bus", "and", "dogs"], ["a", "bus"], ["a", "boy"], ["a", "boy"]]
    references = [[["a", "hound"]], [["the", "bus", "stops"], ["red"]], [["empty"]], [["empty"]]]
    counts = hallucinations(captions, references, [["dog"], [], ["dog"], None], NAMES)
    assert counts.tolist() == [[3, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    sums = counts.sum(0)
    assert share(sums[[1, 0]]) == pytest.approx(100 * 2 / 5)  # CHAIR-i
    assert share(sums[[2, 3]]) == pytest.approx(100 * 2 / 3)  # CHAIR-s


def test_nothing_mentioned_is_nothing_imagined():
    assert share(np.zeros((3, 2))).tolist() == [0, 0, 0]
