"""Tokenizers of others' model folders: nothing is opened elsewhere, and no sentence takes endless time or memory."""

from __future__ import annotations

import json

import pytest

from crossmodal.core.errors import UserError
from crossmodal.features.networks import tokenizers
from crossmodal.features.networks.tokenizers import GPT2, checked, is_linear

CLIP = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WHOLE = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [], "normalizer": None}


@pytest.mark.parametrize(
    "pattern",
    [CLIP, GPT2, r"\s+", " {2,}", r"[\n\r\t]", "", " ", r"\(a+", "[(+*]+|x{3}", r"a\p{^L}+b|c*", "|", "a{2}b+"],
)
def test_patterns_of_text_towers(pattern):
    assert is_linear(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*",
        "(?=a)",
        r"(a)\1",
        "a+b+",
        "a*a*a*b",
        "x{2,}y{3,}",
        "[a[b]]+",
        "[]a]+(",
        "[a&&b]",
        "a)",
        "[a",
        "a\\",
    ],
)
def test_patterns_that_may_never_end(pattern):
    assert not is_linear(pattern)


def folder(tmp_path, settings=None, **changed):
    (tmp_path / "tokenizer.json").write_text(json.dumps({**WHOLE, **changed}))
    (tmp_path / tokenizers.SETTINGS).write_text(json.dumps(settings or {}))
    (tmp_path / "secret.py").touch()
    return tmp_path


def test_only_the_tokenizer_is_there(tmp_path):
    """What names files, code or addresses is not handed on, and old paths of honest folders do no harm."""
    harmless = {"tokenizer_class": "CLIPTokenizerFast", "model_max_length": 77, "pad_token": "!"}
    away = {
        "vocab_file": "/away/v.json", "tokenizer_file": "/away/t.json", "auto_map": {"AutoTokenizer": ["a.B"]},
        "fast_tokenizer_files": ["tokenizer.4.0/../../../x.json"], "sp_model_kwargs": {}, "sudachi_config_path": "/x",
        "processor_class": "Mine",
    }  # fmt: skip
    (tmp_path / "merges.txt").write_text("a b")
    with checked(folder(tmp_path, {**harmless, **away}), "clip", ("secret.py",)) as place:
        names = sorted(path.name for path in place.iterdir())
        assert names == ["config.json", "merges.txt", "secret.py", "tokenizer.json", "tokenizer_config.json"]
        assert json.loads((place / tokenizers.SETTINGS).read_text()) == harmless
        assert json.loads((place / "config.json").read_text()) == {"model_type": "clip"}
        assert (place / "merges.txt").read_text() == "a b"
    with checked(tmp_path) as place:
        assert not (place / "config.json").exists()
        assert not (place / "secret.py").exists()
    assert not place.exists()


DOUBLED = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"pattern": {"Regex": "(a+)+$"}}]}},
            r"pre_tokenizer: the pattern '\(a\+\)\+\$' may take endless time",
        ),
        ({"normalizer": {"normalizers": [DOUBLED] * 5}}, "normalizer: lengthens a sentence more than 16 times"),
        ({"normalizer": {"pattern": {"Regex": "a"}, "content": "b" * 17}}, "lengthens a sentence more than 16 times"),
        ({"normalizer": {"type": "Prepend", "prepend": "b" * 2000}}, "lengthens a sentence more than 16 times"),
        ({"post_processor": {"single": [{"Sequence": {"id": "A"}}] * 1001}}, "1,001 steps in a row, expected at most"),
        ({"added_tokens": [{"content": "x" * 2**20}, {"content": "y"}]}, "have 1,048,577 characters, expected at most"),
        ({"model": None}, "is no tokenizer; fetch the model again"),
    ],
)
def test_steps_that_are_meant_to_harm(tmp_path, changed, words):
    with pytest.raises(UserError, match=rf"tokenizer\.json: .*{words}"), checked(folder(tmp_path, **changed)):
        pass


def test_four_doublings_are_permitted(tmp_path):
    with checked(folder(tmp_path, normalizer={"normalizers": [DOUBLED] * 4})):
        pass


def test_kinds_and_sizes(tmp_path, monkeypatch):
    place = folder(tmp_path, {"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(UserError, match="tokenizer_class: 'BertJapaneseTokenizer' is no tokenizer of a text tower"):
        checked(place).__enter__()
    monkeypatch.setattr(tokenizers, "LARGEST", 10)
    with pytest.raises(UserError, match=r"tokenizer\.json: has \d+ bytes, expected at most 10; fetch the model again"):
        checked(place).__enter__()
