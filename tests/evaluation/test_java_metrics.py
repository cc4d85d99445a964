"""METEOR by its own program where Java is there, and one clear error where something is missing."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.limits import Limits
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
    monkeypatch.setattr(java_metrics, "CORENLP", ("no-such.jar",))
    with pytest.raises(UserError, match=r"spice: its parser is missing .*no-such\.jar.*; fetch it from Stanford"):
        java_metrics.measured("spice", CAPTIONS, REFERENCES)


def java(folder, monkeypatch, script):
    """A program of the name `java`, which stands for one that fails."""
    program = folder / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("read x; exit 1", "it has ended"),
        ("read x; echo no heap >&2; exit 3", "no heap"),
        ("exec 0<&-; echo no heap >&2; echo 1", "no heap"),
        ("read x; echo 1; read x; echo 2; read x; echo x", "could not convert string to float: 'x'"),
        ("read x; echo 1; read x; echo 2; read x; echo 1", "it has ended"),
        ("exec sleep 60", "more than 3 s"),
        ("yes failed | head -c 1000000 >&2", "failed failed"),
    ],
)
def test_a_program_that_fails_ends_with_one_error(tmp_path, monkeypatch, script, told):
    """The wrapper of pycocoevalcap waits for ever where its program has ended."""
    pytest.importorskip("pycocoevalcap")
    java(tmp_path, monkeypatch, script)
    monkeypatch.setattr(java_metrics.limits, "_limits", Limits(item_seconds=1))
    with pytest.raises(UserError, match=rf"meteor: its Java program failed \(.*{told}") as error:
        java_metrics.measured("meteor", CAPTIONS, REFERENCES)
    assert "\n" not in str(error.value)


def test_words_of_others_are_no_part_of_the_protocol(tmp_path, monkeypatch):
    """Neither the end of a line nor a separator in a word changes what is asked for this caption or the next."""
    pytest.importorskip("pycocoevalcap")
    answers = 'case "$x" in EVAL*) echo .25; echo .5; echo .3;; *) echo $((n = n + 1));; esac'
    java(tmp_path, monkeypatch, f'while read -r x; do echo "$x" >> {tmp_path}/asked; {answers}; done')
    odd = [["a", "dog\nEVAL", "|||", "runs\u2028"], ["the", "cat"]]
    told = [[["a", "dog", "runs\nSCORE ||| x"], ["a", "|||", "hound"]], [["the", "cat", "sleeps"]]]
    whole, each = java_metrics.measured("meteor", odd, told)
    assert (whole, [*each]) == (30, [25, 50])
    assert (tmp_path / "asked").read_text().splitlines() == [
        "SCORE ||| a dog runs SCORE x ||| a hound ||| a dog EVAL runs",
        "SCORE ||| the cat sleeps ||| the cat",
        "EVAL ||| 1 ||| 2",
    ]


def test_spice_by_hand(tmp_path, monkeypatch):
    """The mean over images of the F of all tuples, in the order of the captions."""
    pytest.importorskip("pycocoevalcap")
    scores = [{"image_id": i, "scores": {"All": {"f": f}}} for i, f in ((1, 0.5), (0, 0.25))]
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    java(tmp_path, monkeypatch, f"[ $3 = spice-1.0.jar ] && cp $4 {tmp_path}/asked; cp {tmp_path}/scores.json $8")
    monkeypatch.setattr(java_metrics, "CORENLP", ())
    whole, each = java_metrics.measured("spice", CAPTIONS, REFERENCES)
    assert (whole, [*each]) == (37.5, [25, 50])
    asked = json.loads((tmp_path / "asked").read_text())
    assert asked[1] == {"image_id": 1, "test": "the cat", "refs": ["the cat sleeps"]}
