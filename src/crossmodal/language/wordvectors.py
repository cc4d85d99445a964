"""Word vectors from files: GloVe (Pennington et al., 2014) and word2vec (Mikolov et al., 2013), text or binary.

Only the requested words are kept, so that memory does not grow with the file. A word is looked up as it is written;
words that are not in the file are reported, and get no vector unless `seeded` ones are chosen.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from crossmodal.core import limits, packed
from crossmodal.core.console import progress
from crossmodal.core.errors import UserError

CHUNK = 2**20  # bytes of a binary file read at once
SMALL = 2**17  # packed bytes up to which a file may unpack to `limits.ratio` times as many
LONGEST = 2**12  # bytes of a word in a binary file
LINE = 2**20  # maximum bytes of the first line
PEEKED = 10  # lines that the format of a file is detected from
LISTED = 20  # words without a vector that a manifest names
SHOWN = 5  # of these in an error
MARK = b"\xef\xbb\xbf"
FEW = 0.5  # share of words with a vector below which seeded vectors of the others count as a fallback
PLACES = (
    "GloVe is at https://nlp.stanford.edu/projects/glove (unzip it and name a .txt), word2vec's GoogleNews vectors at "
    "https://code.google.com/archive/p/word2vec"
)


@dataclass(frozen=True)
class WordVectors:
    """The vectors of some words."""

    index: dict[str, int]
    matrix: np.ndarray  # (words, D) float32

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self.matrix.shape[1]

    def missing(self, words: Iterable[str]) -> list[str]:
        """The words without a vector."""
        return [word for word in words if word not in self.index]

    def table(self, words: Sequence[str], seed: int = 0) -> np.ndarray:
        """(len(words), D) float32 initial weights of an embedding layer, as in A3VSE (section 4.3).

        Words without a vector get a seeded one, with the standard deviation of the existing vectors.
        """
        out = seeded(words, self.dim, seed).matrix
        with_vector = [n for n, word in enumerate(words) if word in self.index]
        rows = self.matrix[[self.index[words[n]] for n in with_vector]]
        out *= float(rows.std()) * np.sqrt(self.dim) if with_vector else 1.0
        out[with_vector] = rows
        return out


@dataclass(frozen=True)
class Coverage:
    """The coverage of a text's words by a file of vectors."""

    file: str
    words: int
    with_vector: int
    share: float
    """The share of words with a vector, each weighted by its count."""
    missing: tuple[str, ...]
    """The most frequent words without a vector."""

    def __str__(self) -> str:
        return f"{self.with_vector} of {self.words} words have a vector in {self.file} ({self.share:.0%} of all)"

    @property
    def fallback(self) -> str | None:
        """The note on vectors that cover few of the words; None where they cover enough."""
        return f"word vectors: {self}; the others are seeded" if self.share < FEW else None


def coverage(vectors: WordVectors, counts: Mapping[str, int], path: str | Path, least: float, key: str) -> Coverage:
    """The coverage of a text's words by a file of vectors.

    Parameters
    ----------
    counts : word to its count in the text.
    least : the minimum share of the text; `key` is the name of this setting.

    Raises
    ------
    UserError : the vectors cover less than `least`.
    """
    counts = Counter(counts)
    missing = sorted(vectors.missing(counts), key=lambda word: (-counts[word], word))
    share = 1 - sum(counts[word] for word in missing) / max(1, counts.total())
    covered = Coverage(Path(path).name, len(counts), len(counts) - len(missing), share, tuple(missing[:LISTED]))
    if counts and share < least:
        without = ", ".join(covered.missing[:SHOWN])
        raise UserError(
            f"{path}: {covered}, less than {key}: {least:g}; words without vectors: {without}; name vectors of the "
            f"texts' language (lower-cased words), or lower {key}"
        )
    return covered


def seeded(words: Iterable[str], dim: int, seed: int = 0) -> WordVectors:
    """Normally distributed vectors of expected length 1; each depends on its word, `dim` and `seed` only."""
    words = list(dict.fromkeys(words))
    matrix = np.empty((len(words), dim), np.float32)
    for row, word in zip(matrix, words, strict=True):
        key = int.from_bytes(hashlib.sha256(f"{seed} {word}".encode()).digest()[:16], "big")
        row[:] = np.random.Generator(np.random.Philox(key)).standard_normal(dim, np.float32) / np.sqrt(dim)
    return WordVectors({word: n for n, word in enumerate(words)}, matrix)


def read(path: str | Path, words: Iterable[str]) -> WordVectors:
    """The vectors of those of `words` that a file has, in the file's order.

    The format is detected from the content: GloVe's text (one word and its numbers per line; a word may contain
    spaces), word2vec's text (with the counts in the first line) or word2vec's binary; each may be compressed with gzip.
    Tabs may replace spaces; a byte order mark and blank lines are skipped. If a word occurs twice, the first counts.

    Raises
    ------
    UserError : the file is missing, in no such format, truncated or inconsistent with its first line, or a vector has
        values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of word vectors; {PLACES}")
    wanted = {word.encode(): word for word in words}
    try:
        with _opened(path) as stream:
            first = stream.readline(LINE).removeprefix(MARK)
            header = re.fullmatch(rb"(\d+)[ \t]+(\d+)\s*", first)
            if header is None:
                lines = _lines(path, stream)
                head = [first, *islice(lines, PEEKED)]
                vectors, dim = _read_text(path, chain(head, lines), wanted, _dim(path, head))
            elif max(map(len, header.groups())) > 18 or int(header[2]) > limits.current().word_dim:
                raise UserError(
                    f"{path}: its first line announces {header[1][:20].decode()} vectors of {header[2][:20].decode()} "
                    f"numbers, expected at most {limits.current().word_dim:,} numbers (`limits.word_dim` in "
                    "params.yaml); fetch the file again"
                )
            elif _is_binary(stream):
                dim = int(header[2])
                vectors = _read_binary(path, stream, wanted, int(header[1]), dim)
            else:
                lines = _lines(path, stream)
                head = [*islice(lines, PEEKED)]
                dim = int(header[2])
                if any(map(bytes.strip, head)) and (real := _dim(path, head)) != dim:
                    raise UserError(
                        f"{path}: line 1 states {dim} numbers per word, but the lines have {real}; correct it"
                    )
                vectors, dim = _read_text(path, chain(head, lines), wanted, dim, int(header[1]))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: is truncated or no gzip file ({error}); fetch it again") from None
    matrix = np.stack(list(vectors.values())) if vectors else np.empty((0, dim), np.float32)
    if not np.isfinite(matrix).all():
        bad = list(vectors)[int(np.argmin(np.isfinite(matrix).all(1)))]
        raise UserError(f"{path}: the vector of {bad!r} holds numbers that are not finite; fetch the file again")
    return WordVectors({word: n for n, word in enumerate(vectors)}, matrix)


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        is_packed = stream.read(2) == b"\x1f\x8b"
    return io.BufferedReader(_Unpacked(path), CHUNK) if is_packed else path.open("rb", buffering=CHUNK)


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, as long as it is not so much more than the file that it must be a bomb."""

    def __init__(self, path: Path):
        self.path, self.stream, self.size = path, gzip.open(path), path.stat().st_size  # noqa: SIM115, closed with this

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def readinto(self, buffer: Any) -> int:
        count = self.stream.readinto(buffer)
        unpacked = self.stream.tell()
        if unpacked > limits.current().ratio * max(self.size, SMALL):  # of vectors it is about 3
            packed.check_size(str(self.path), self.size, max(unpacked, limits.current().unpacked + 1))
        return count

    def close(self) -> None:
        self.stream.close()
        super().close()


def _lines(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, with a limit on their length."""
    most, new = limits.current().line, 0
    with _progress(path, stream) as advance:
        for line in iter(partial(stream.readline, most + 1), b""):
            if len(line) > most:
                raise UserError(
                    f"{path}: holds a line of more than {most:,} bytes (`limits.line` in params.yaml); expected a word "
                    "and its numbers: fetch the file again"
                )
            new += len(line)
            if new >= CHUNK:  # not for each of two million lines
                advance(new)
                new = 0
            yield line


def _progress(path: Path, stream: BinaryIO) -> AbstractContextManager[Callable[..., None]]:
    """The progress of reading a file, whose length is not known if it is compressed."""
    total = None if isinstance(getattr(stream, "raw", None), _Unpacked) else path.stat().st_size
    return progress(f"reading {path}", total, unit="bytes")


def _dim(path: Path, head: list[bytes]) -> int:
    """The dimension, from the first lines: words may contain spaces and may be numbers themselves."""
    counts = [_numbers_after(line) for line in head if line.strip()]
    if not counts or counts[0] == 0:
        raise UserError(
            f"{path}: holds no word vectors (its first line begins with {head[0][:20]!r}); expected a word and its "
            f"numbers, or the counts of a word2vec file; {PLACES}"
        )
    dim = Counter(counts).most_common(1)[0][0]
    if dim > (most := limits.current().word_dim):
        raise UserError(
            f"{path}: holds vectors of more than {most:,} numbers (`limits.word_dim` in params.yaml); fetch the file "
            "again"
        )
    return dim


def _numbers_after(line: bytes) -> int:
    """The count of numbers at the end of a line, after a word of at least one part."""
    count = 0
    for part in reversed(line.rsplit(None, limits.current().word_dim + 1)[1:]):
        try:
            float(part)
        except ValueError:
            break
        count += 1
    return count


def _is_binary(stream: BinaryIO) -> bool:
    """Whether the stream does not continue with a text line of a word and numbers."""
    place = stream.tell()
    line = stream.readline(LINE)
    stream.seek(place)
    return bool(line.strip()) and (_numbers_after(line) == 0 or b"\0" in line)


def _read_text(
    path: Path, lines: Iterable[bytes], wanted: dict[bytes, str], dim: int, count: int | None = None
) -> tuple[dict[str, np.ndarray], int]:
    heads = {word.split(b" ", 1)[0] for word in wanted}
    vectors: dict[str, np.ndarray] = {}
    n_lines, last = 0, (0, b"")
    for number, line in enumerate(lines, 1 if count is None else 2):
        line = line.replace(b"\t", b" ")
        space = line.find(b" ")
        if space <= 0 and not line.strip():
            continue
        n_lines, last = n_lines + 1, (number, line)
        if line[:space] in heads:
            word, vector = _parse(path, line, number, dim)
            if word in wanted:
                vectors.setdefault(wanted[word], vector)
    if n_lines:
        _parse(path, last[1], last[0], dim)  # the last line must be complete
    if count is not None and n_lines < count:
        raise UserError(f"{path}: is truncated (it holds {n_lines} of {count} words); fetch it again")
    return vectors, dim


def _parse(path: Path, line: bytes, number: int, dim: int) -> tuple[bytes, np.ndarray]:
    word, *numbers = line.rstrip().rsplit(b" ", dim)
    try:
        if len(numbers) == dim:
            return word, np.array([float(cell) for cell in numbers], np.float32)
    except ValueError:
        pass
    raise UserError(
        f"{path}: line {number} is no word and {dim} numbers ({line[:30]!r}...); the file is damaged: fetch it again"
    )


def _read_binary(path: Path, stream: BinaryIO, wanted: dict[bytes, str], count: int, dim: int) -> dict[str, np.ndarray]:
    """Read entries of a word, a space and `dim` little-endian float32; some writers add a line break."""
    vectors: dict[str, np.ndarray] = {}
    size, buffer, start = 4 * dim, b"", 0
    with _progress(path, stream) as advance:
        for number in range(count):
            space = buffer.find(b" ", start)
            while space < 0 or space + 1 + size > len(buffer):
                more = stream.read(CHUNK)
                if not more or len(buffer) - start > size + LONGEST:
                    raise UserError(f"{path}: is truncated (it holds {number} of {count} words); fetch it again")
                buffer, start = buffer[start:] + more, 0
                space = buffer.find(b" ")
                advance(len(more))
            word = wanted.get(buffer[start:space].lstrip(b"\n"))
            if word is not None:
                vectors.setdefault(word, np.frombuffer(buffer, "<f4", dim, space + 1).astype(np.float32))
            start = space + 1 + size
    if (rest := buffer[start:].strip()) or (rest := stream.read(CHUNK).strip()):
        raise UserError(
            f"{path}: continues after the {count} words of {dim} numbers that line 1 states ({rest[:20]!r}...); its "
            "first line is wrong: fetch it again"
        )
    return vectors
