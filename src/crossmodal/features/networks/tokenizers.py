"""Tokenizers in the model folders of other people: nothing of these is run, opened elsewhere, or without end."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossmodal.core.errors import UserError
from crossmodal.core.files import json_of, read_record

SETTINGS = "tokenizer_config.json"
VOCABULARIES = (
    "tokenizer.json",
    *("vocab.json", "merges.txt", "vocab.txt"),
    *("spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
LISTS = ("special_tokens_map.json", "added_tokens.json")
LARGEST = 40 * 2**20  # bytes of a vocabulary; that of SigLIP 2 has 33 MiB
LARGEST_LIST = 2**22  # bytes of a list of special tokens; that of SigLIP 2 has 1 MiB
ADDED = 2**20  # characters of all added tokens, for which the library builds an automaton of a hundred times that size
LISTED = 1000  # steps of a tokenizer, and tokens that it puts around a sentence
GROWTH = 16  # ratio by which replacements may lengthen a sentence
CLASSES = re.compile(
    r"(Bert|CLIP|Gemma|MPNet|Roberta|Siglip2?|T5|XLMRoberta|PreTrained)Tokenizer(Fast)?|TokenizersBackend"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_PARTS = re.compile(r"\\[pP]\{\^?\w+\}|\\[^pP]|\[\^?(?:\\.|[^\]\[\\&])+\]|[^\\\[\]()]", re.DOTALL)
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")


@contextmanager
def checked(folder: Path, model_type: str | None = None, also: tuple[str, ...] = ()) -> Iterator[Path]:
    """A folder with nothing but the tokenizer of another, without the paths, addresses and code that its settings name.

    Parameters
    ----------
    model_type : that of the model, by which the library chooses the kind of tokenizer where its settings do not say.
    also : names of further files, which the caller has checked.

    Raises
    ------
    UserError : a file is too large, the kind of tokenizer is unknown, or its steps may take endless time or memory.
    """
    for name in (*VOCABULARIES, SETTINGS, *LISTS):
        most = LARGEST if name in VOCABULARIES else LARGEST_LIST
        if (path := folder / name).is_file() and (size := path.stat().st_size) > most:
            raise UserError(f"{path}: has {size:,} bytes, expected at most {most:,}; fetch the model again")
    settings = read_record(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    kind = settings.get("tokenizer_class")
    if kind is not None and not CLASSES.fullmatch(str(kind)):
        raise UserError(f"{folder / SETTINGS}: tokenizer_class: {str(kind)[:80]!r} is no tokenizer of a text tower")
    if (whole := folder / "tokenizer.json").is_file():
        _check_steps(whole, json_of(whole.read_text(encoding="utf-8", errors="replace"), str(whole)))
    with tempfile.TemporaryDirectory() as place:
        for name in (*VOCABULARIES, *LISTS, *also):
            if (folder / name).is_file():
                (Path(place) / name).symlink_to((folder / name).absolute())
        kept = {key: value for key, value in settings.items() if key == "tokenizer_class" or not _leads_away(key)}
        (Path(place) / SETTINGS).write_text(json.dumps(kept))
        if model_type is not None:
            (Path(place) / "config.json").write_text(json.dumps({"model_type": model_type}))
        yield Path(place)


def _leads_away(key: str) -> bool:
    """Whether a setting of a tokenizer names files, code, or a place on the network."""
    return key.endswith(("_file", "_files", "_path", "_class", "_kwargs")) or key in ("auto_map", "backend")


def _check_steps(path: Path, content: Any) -> None:
    """Refuse a `tokenizer.json` whose steps may take endless time or memory for a sentence.

    Raises
    ------
    UserError : it does, or is no tokenizer.
    """
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise UserError(f"{path}: is no tokenizer; fetch the model again")
    added = content.get("added_tokens") or []
    characters = sum(len(str(token.get("content"))) for token in added if isinstance(token, dict))
    if characters > ADDED:
        raise UserError(f"{path}: its added tokens have {characters:,} characters, expected at most {ADDED:,}")
    growth = 1.0
    for name in ("normalizer", "pre_tokenizer", "post_processor"):
        for step in _steps(path, content.get(name)):
            pattern = step.get("pattern")
            text = (pattern.get("Regex") or pattern.get("String") or "") if isinstance(pattern, dict) else ""
            if isinstance(pattern, dict) and "Regex" in pattern and not is_linear(str(text)):
                raise UserError(
                    f"{path}: {name}: the pattern {str(text)[:80]!r} may take endless time; expected one without "
                    "groups that repeats one part of each alternative at most"
                )
            if isinstance(content_ := step.get("content"), str) and isinstance(pattern, dict):
                growth *= max(1.0, len(content_) / (1 if "Regex" in pattern else max(1, len(str(text)))))
            if len(str(step.get("prepend", ""))) > LISTED or growth > GROWTH:
                raise UserError(
                    f"{path}: {name}: lengthens a sentence more than {GROWTH} times; expected that of a text tower"
                )


def _steps(path: Path, value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a part of a tokenizer, however deep."""
    if isinstance(value, dict | list) and len(value) > LISTED:
        raise UserError(f"{path}: has {len(value):,} steps in a row, expected at most {LISTED:,}")
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _steps(path, part)


def is_linear(pattern: str) -> bool:
    """Whether a pattern has no groups, and each alternative repeats one part at most without bound.

    Such a pattern takes a time that grows with the square of a sentence at most.
    """
    if pattern == GPT2:
        return True
    parts = _PARTS.findall(pattern)
    if "".join(parts) != pattern:
        return False
    plain = "".join(part if len(part) == 1 else "x" for part in parts)
    return all(len(_UNBOUNDED.findall(alternative)) <= 1 for alternative in plain.split("|"))
