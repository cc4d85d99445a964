"""Widths of consoles, and sizes and durations as people write them."""

import pytest
from rich.console import Console

from crossmodal.core import display


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (33.4e9, "33.4 GB")])
def test_sizes_as_people_write_them(size, text):
    assert display.readable_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (61, "1 min 1 s"),
        (3599.7, "1 h 0 min"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations_as_people_write_them(seconds, text):
    assert display.readable_seconds(seconds) == text


def test_a_pipe_has_the_width_of_a_wide_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert display.folding().width == 160
    monkeypatch.setenv("COLUMNS", "70")
    assert display.folding().width == 70
    assert display.folding(Console(width=33)).width == 33
