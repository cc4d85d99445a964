"""Vectors of words from files: GloVe (Pennington et al., 2014) and word2vec (Mikolov et al., 2013), text or binary.

Only the words that are asked for are kept, so that memory does not grow with the file. A word is looked up as it is
written; what is not in the file is told, never made up, unless `seeded` vectors are asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from crossmodal import limits
from crossmodal.errors import UserError

CHUNK = 2**20  # bytes of a binary file read at once
LONGEST = 2**12  # bytes of a word in a binary file
LINE = 2**20  # bytes of the first line
PLACES = (
    "GloVe is at https://nlp.stanford.edu/projects/glove (unzip it and name a .txt), word2vec's GoogleNews vectors at "
    "https://code.google.com/archive/p/word2vec"
)


@dataclass(frozen=True)
class WordVectors:
    """Vectors of some words."""

    index: dict[str, int]
    matrix: np.ndarray  # (words, D) float32

    @property
    def dim(self) -> int:
        return self.matrix.shape[1]

    def missing(self, words: Iterable[str]) -> list[str]:
        """The words without a vector."""
        return [word for word in words if word not in self.index]

    def table(self, words: Sequence[str], seed: int = 0) -> np.ndarray:
        """(len(words), D) float32 start of an embedding layer, as A3VSE's (section 4.3).

        Words without a vector get a seeded one, of the s.d. of those that have.
        """
        out = seeded(words, self.dim, seed).matrix
        known = [n for n, word in enumerate(words) if word in self.index]
        rows = self.matrix[[self.index[words[n]] for n in known]]
        out *= float(rows.std()) * np.sqrt(self.dim) if known else 1.0
        out[known] = rows
        return out


def seeded(words: Iterable[str], dim: int, seed: int = 0) -> WordVectors:
    """Normal vectors of an expected length of 1; each is a function of its word, `dim` and `seed` alone."""
    words = list(dict.fromkeys(words))
    matrix = np.empty((len(words), dim), np.float32)
    for row, word in zip(matrix, words, strict=True):
        key = int.from_bytes(hashlib.sha256(f"{seed} {word}".encode()).digest()[:16], "big")
        row[:] = np.random.Generator(np.random.Philox(key)).standard_normal(dim, np.float32) / np.sqrt(dim)
    return WordVectors({word: n for n, word in enumerate(words)}, matrix)


def read(path: str | Path, words: Iterable[str]) -> WordVectors:
    """The vectors of those of `words` that a file has, in its order.

    The format is told from the content: GloVe's text (a word and its numbers a line; a word may hold spaces),
    word2vec's text (a line with the counts first) or word2vec's binary; each may be compressed with gzip. Of a word
    that stands in the file twice the first counts.

    Raises
    ------
    UserError : a file that is missing, in no such format or cut off; a vector that is not finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of word vectors; {PLACES}")
    wanted = {word.encode(): word for word in words}
    try:
        with _opened(path) as stream:
            first = stream.readline(LINE)
            header = re.fullmatch(rb"(\d+) (\d+)\s*", first)
            if header is None:
                found, dim = _read_text(path, chain([first], _lines(path, stream)), wanted, _dim(path, first))
            elif max(map(len, header.groups())) > 18 or int(header[2]) > limits.current().word_dim:
                raise UserError(
                    f"{path}: its first line tells of {header[1][:20].decode()} vectors of {header[2][:20].decode()} "
                    f"numbers, expected at most {limits.current().word_dim:,} numbers (`limits.word_dim` in "
                    "params.yaml); fetch the file again"
                )
            elif _is_binary(stream, int(header[2])):
                found, dim = _read_binary(path, stream, wanted, int(header[1]), int(header[2]))
            else:
                found, dim = _read_text(path, _lines(path, stream), wanted, int(header[2]), int(header[1]))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: is truncated or no gzip file ({error}); fetch it again") from None
    matrix = np.stack(list(found.values())) if found else np.empty((0, dim), np.float32)
    if not np.isfinite(matrix).all():
        bad = list(found)[int(np.argmin(np.isfinite(matrix).all(1)))]
        raise UserError(f"{path}: the vector of {bad!r} holds numbers that are not finite; fetch the file again")
    return WordVectors({word: n for n, word in enumerate(found)}, matrix)


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb", buffering=CHUNK)


def _lines(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, none of them endless."""
    most = limits.current().line
    for line in iter(partial(stream.readline, most + 1), b""):
        if len(line) > most:
            raise UserError(
                f"{path}: holds a line of more than {most:,} bytes (`limits.line` in params.yaml); expected a word "
                "and its numbers: fetch the file again"
            )
        yield line


def _dim(path: Path, first: bytes) -> int:
    """How many numbers follow the word of the first line."""
    numbers = first.split()[1:]
    try:
        [float(number) for number in numbers]
    except ValueError:
        numbers = []
    if not numbers:
        raise UserError(
            f"{path}: holds no word vectors (its first line begins with {first[:20]!r}); expected a word and its "
            f"numbers, or the counts of a word2vec file; {PLACES}"
        )
    return len(numbers)


def _is_binary(stream: BinaryIO, dim: int) -> bool:
    """Whether what follows is no line of a word and `dim` numbers."""
    place = stream.tell()
    numbers = stream.readline(LINE).rstrip().rsplit(b" ", dim)[1:]
    stream.seek(place)
    return len(numbers) < dim or not all(re.fullmatch(rb"[-+0-9.eEinfa]+", number) for number in numbers)


def _read_text(
    path: Path, lines: Iterable[bytes], wanted: dict[bytes, str], dim: int, count: int | None = None
) -> tuple[dict[str, np.ndarray], int]:
    heads = {word.split(b" ", 1)[0] for word in wanted}
    found: dict[str, np.ndarray] = {}
    number, line = 0, b""
    for number, line in enumerate(lines, 1):
        if line[: line.find(b" ")] in heads:
            word, vector = _parse(path, line, number, dim)
            if word in wanted:
                found.setdefault(wanted[word], vector)
    _parse(path, line, number, dim)  # the last one is whole
    if count is not None and number < count:
        raise UserError(f"{path}: is truncated (it holds {number} of {count} words); fetch it again")
    return found, dim


def _parse(path: Path, line: bytes, number: int, dim: int) -> tuple[bytes, np.ndarray]:
    word, *numbers = line.rstrip().rsplit(b" ", dim)
    try:
        if len(numbers) == dim:
            return word, np.array([float(one) for one in numbers], np.float32)
    except ValueError:
        pass
    raise UserError(
        f"{path}: vector {number} is no word and {dim} numbers ({line[:30]!r}...); the file is damaged: fetch it again"
    )


def _read_binary(
    path: Path, stream: BinaryIO, wanted: dict[bytes, str], count: int, dim: int
) -> tuple[dict[str, np.ndarray], int]:
    """Word, space, `dim` little-endian float32, and from some writers a line break."""
    found: dict[str, np.ndarray] = {}
    size, buffer, start = 4 * dim, b"", 0
    for number in range(count):
        space = buffer.find(b" ", start)
        while space < 0 or space + 1 + size > len(buffer):
            more = stream.read(CHUNK)
            if not more or len(buffer) - start > size + LONGEST:
                raise UserError(f"{path}: is truncated (it holds {number} of {count} words); fetch it again")
            buffer, start = buffer[start:] + more, 0
            space = buffer.find(b" ")
        word = wanted.get(buffer[start:space].lstrip(b"\n"))
        if word is not None:
            found.setdefault(word, np.frombuffer(buffer, "<f4", dim, space + 1).astype(np.float32))
        start = space + 1 + size
    return found, dim
