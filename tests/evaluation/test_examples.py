"""The examples in the docstrings of the public functions give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "metrics",
    "statistics",
    "efficiency",
    "cutoff_names",
    "cutoffs",
    "ranking.ranks",
    "ranking.average_precision",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    done = doctest.testmod(importlib.import_module(f"crossmodal.evaluation.{name}"))
    assert done.attempted >= 3
    assert done.failed == 0
