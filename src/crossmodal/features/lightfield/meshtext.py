"""Words and numbers of meshes in text form, a block of lines at a time.

Arrow splits and parses them in compiled code, so that the largest file permitted takes seconds and little more memory
than its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crossmodal.core import limits

STEP = 2**22  # bytes of a block
LINES = 8  # lines per face of `limits.faces`: its vertices, their normals and textures, and comments
_END = re.compile(rb"[\r\n]")
_CONTINUED = re.compile(rb"\\[ \t]*\Z")


@dataclass(frozen=True)
class Lines:
    """The words of some lines that are not blank."""

    words: pa.Array  # (W,) words of all lines, concatenated
    first: np.ndarray  # (L + 1,) index of each line's first word, and the number of words

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def counts(self) -> np.ndarray:
        """(L,) number of words of each line."""
        return np.diff(self.first)

    def text(self, line: int) -> str:
        """A line as it may be shown in an error."""
        return shown(self.words[self.first[line] : min(self.first[line + 1], self.first[line] + 8)])

    def heads(self) -> pa.Array:
        """(L,) the first word of each line."""
        return self.words.take(pa.array(self.first[:-1]))


def check_lines(data: bytes) -> None:
    """Refuse a text of far more lines than a mesh of `limits.faces` has, before it is split.

    Raises
    ------
    ValueError : it has more than `LINES` per face.
    """
    count = data.count(b"\n") + (data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0)
    if count > (most := LINES * limits.current().faces):
        raise ValueError(f"it has {count:,} lines, expected at most {most:,}, by `limits.faces` in params.yaml")


def blocks(data: bytes, start: int = 0, *, continued: bool = False) -> Iterator[bytes]:
    r"""Parts of a text that end with a line; lines may end as on any operating system.

    Parameters
    ----------
    continued : whether a `\` at the end of a line joins it to the next one, which is then in the same part.

    Raises
    ------
    ValueError : a line has more bytes than `limits.line`.
    """
    most = limits.current().line
    while start < len(data):
        stop = start + STEP - 1
        while stop < len(data):
            match = _END.search(data, stop, start + STEP + most)
            if match is None and len(data) > start + STEP + most:
                raise ValueError(f"it holds a line of more than {most:,} bytes (`limits.line` in params.yaml)")
            stop = len(data) if match is None else match.end()
            if not continued or not _CONTINUED.search(data[max(start, stop - 80) : stop].rstrip(b"\r\n")):
                break
        part = data[start:stop]
        yield part.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in part else part
        start = stop


def lines(part: bytes) -> Lines:
    """The words of the lines of a part of a text."""
    rows = pc.split_pattern(_strings(part), "\n").flatten()
    rows = pc.ascii_trim_whitespace(rows)
    split = pc.ascii_split_whitespace(rows.filter(pc.not_equal(rows, "")))
    return Lines(split.flatten(), split.offsets.to_numpy().astype(np.int64))


def words(part: bytes) -> pa.Array:
    """The words of a part of a text, whatever lines they stand in."""
    part = part.strip()
    return pc.ascii_split_whitespace(_strings(part)).flatten() if part else pa.array([], pa.large_string())


def without_comments(part: bytes) -> bytes:
    """A part of a text without what follows a `#` in each line."""
    return re.sub(rb"#[^\n]*", b"", part) if b"#" in part else part


def _strings(part: bytes) -> pa.Array:
    """One string of any bytes, which Arrow splits without decoding them."""
    ends = pa.py_buffer(np.array([0, len(part)], np.int64))
    return pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(part)])


def shown(texts: pa.Array) -> str:
    """Words as they may be shown in an error."""
    return " ".join(word.decode(errors="replace") for word in texts.cast(pa.large_binary()).to_pylist())[:40]


def numbers(texts: pa.Array) -> np.ndarray:
    """(W,) float64 numbers that words are.

    Raises
    ------
    ValueError : a word is no number.
    """
    try:
        return pc.cast(texts, "float64").to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        raise ValueError(f"{_first_bad(texts)!r} is no number") from None


def whole_numbers(texts: pa.Array) -> np.ndarray:
    """(W,) int64 whole numbers that words are, which may be written as 3.0.

    Raises
    ------
    ValueError : a word is no whole number.
    """
    values = numbers(texts)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if (bad := np.flatnonzero(whole != values)).size:
        raise ValueError(f"{shown(texts[bad[0] : bad[0] + 1])!r} is no whole number")
    return whole


def _first_bad(texts: pa.Array) -> str:
    """The first word that is no number, sought by halves."""
    while len(texts) > 1:
        half = texts[: len(texts) // 2]
        try:
            pc.cast(half, "float64")
        except pa.ArrowInvalid:
            texts = half
        else:
            texts = texts[len(texts) // 2 :]
    return shown(texts)
