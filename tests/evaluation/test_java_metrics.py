"""METEOR by its own program where Java is there, and one clear error where something is missing."""

from __future__ import annotations

import shutil
import sys

import pytest

from crossmodal.core.errors import UserError
from crossmodal.evaluation import java_metrics

CAPTIONS = [["a", "dog", "runs"], ["the", "cat"]]
REFERENCES = [[["a", "dog", "runs"], ["a", "hound"]], [["the", "cat", "sleeps"]]]


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here")
def test_meteor_of_two_captions():
    """A caption that a reference equals has 100; a synonym counts, which no count of words sees."""
    pytest.importorskip("pycocoevalcap")
    whole, each = java_metrics.measured("meteor", CAPTIONS, REFERENCES)
    assert each[0] == pytest.approx(100, abs=0.5)
    assert 20 < each[1] < 100
    assert min(each) < whole < max(each)
    _, (synonym, other) = java_metrics.measured("meteor", [["a", "hound"], ["a", "stone"]], [[["a", "dog"]]] * 2)
    assert synonym > other


def test_without_java(monkeypatch):
    monkeypatch.setattr(java_metrics.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="meteor: is measured by a Java program, and no `java` is on the PATH"):
        java_metrics.measured("meteor", CAPTIONS, REFERENCES)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(java_metrics.shutil, "which", lambda name: "/usr/bin/java")
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(UserError, match=r"meteor: needs pycocoevalcap.*pip install 'crossmodal\[captions\]'"):
        java_metrics.measured("meteor", CAPTIONS, REFERENCES)


def test_spice_without_its_parser(monkeypatch):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(java_metrics.shutil, "which", lambda name: "/usr/bin/java")
    monkeypatch.setattr(java_metrics, "CORENLP", "no-such.jar")
    with pytest.raises(UserError, match=r"spice: its parser is missing .*no-such\.jar.*; fetch it from Stanford"):
        java_metrics.measured("spice", CAPTIONS, REFERENCES)
