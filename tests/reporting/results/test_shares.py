"""Names of splits as shares of the annotation."""

from __future__ import annotations

import math

import pytest

from crossmodal.reporting.results.shares import captions, ordered_splits, share


def test_share_of_splits() -> None:
    assert share("full") == 100
    assert share("none") == 0
    assert share("10pct-2cap") == pytest.approx(4)
    assert share("50pct-5cap") == pytest.approx(50)
    assert math.isnan(share("classes1of4"))


def test_captions_of_splits() -> None:
    assert (captions("full"), captions("none"), captions("10pct-2cap")) == (5, 5, 2)


def test_the_most_annotation_comes_first_and_what_is_no_share_last() -> None:
    splits = ["classes2of4", "10pct-1cap", "none", "full", "10pct-5cap", "classes1of4", "full"]
    assert ordered_splits(splits) == ["full", "10pct-5cap", "10pct-1cap", "none", "classes1of4", "classes2of4"]
