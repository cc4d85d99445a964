"""Word vectors from files that the tests write as the published tools do."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from crossmodal.core import console, limits
from crossmodal.core.errors import UserError
from crossmodal.language import wordvectors

WORDS = {"the": [0.5, -1.25, 3], "dog": [1e-3, 2, -0.125], "café": [7, 8, 9], "New_York": [1, 1, 1], "at": [4, 5, 6]}


def glove(path: Path, header: bool = False, end: str = "\n", words: dict = WORDS) -> Path:
    lines = [f"{word} {' '.join(map(str, vector))}{end}" for word, vector in words.items()]
    path.write_text((f"{len(lines)} 3\n" if header else "") + "".join(lines), encoding="utf-8")
    return path


def binary(path: Path, breaks: bool = True, words: dict = WORDS) -> Path:
    """As word2vec's C tool writes it (with line breaks), or as gensim does (without)."""
    data = f"{len(words)} 3\n".encode()
    for word, vector in words.items():
        data += word.encode() + b" " + np.array(vector, "<f4").tobytes() + (b"\n" if breaks else b"")
    path.write_bytes(data)
    return path


FORMS = {
    "glove": glove,
    "word2vec text": lambda path: glove(path, header=True, end=" \n"),
    "word2vec binary": binary,
    "gensim binary": lambda path: binary(path, breaks=False),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_each_format(tmp_path, form, packed):
    path = FORMS[form](tmp_path / "v")
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    found = wordvectors.read(path, ["café", "dog", "cat", "at", "York"])
    assert list(found.index) == ["dog", "café", "at"]
    np.testing.assert_array_equal(found.matrix, np.array([WORDS[w] for w in found.index], np.float32))
    assert found.missing(["cat", "dog"]) == ["cat"]
    nothing = wordvectors.read(path, ["cat"])
    assert nothing.matrix.shape == (0, 3)


def test_words_that_hold_spaces(tmp_path):
    """As in GloVe's 840B: `. . .` is a word, and `at name@domain.com` is not the word `at`."""
    words = {
        "x": [0, 0, 1],
        "at name@domain.com": [9, 9, 9],
        ". . .": [1, 2, 3],
        "at": [4, 5, 6],
        "at again": [8, 8, 8],
    }
    found = wordvectors.read(glove(tmp_path / "v.txt", words=words), ["at", ". . .", "."])
    assert found.matrix.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_of_a_word_written_twice_the_first_counts(tmp_path):
    for path in (glove(tmp_path / "a"), binary(tmp_path / "b")):
        twice = path.read_bytes()
        if path.name == "a":
            path.write_bytes(twice + b"dog 9 9 9\n")
        else:
            path.write_bytes(twice.replace(b"5 3", b"6 3", 1) + b"dog " + np.full(3, 9, "<f4").tobytes())
        np.testing.assert_array_equal(wordvectors.read(path, ["dog"]).matrix, np.float32([WORDS["dog"]]))


def test_a_chunk_may_end_anywhere(tmp_path, monkeypatch):
    many = {f"w{n}": [n, n / 2, -n] for n in range(200)}
    path = binary(tmp_path / "v.bin", words=many)
    expected = np.array(list(many.values()), np.float32)
    for size in (2, 7, 64, 100_000):
        monkeypatch.setattr(wordvectors, "CHUNK", size)
        np.testing.assert_array_equal(wordvectors.read(path, many).matrix, expected)


@pytest.mark.parametrize("form", ["text", "binary"])
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, form):
    monkeypatch.setattr(wordvectors, "CHUNK", 2**14)
    peaks = []
    for count in (2_000, 20_000):
        words = {f"w{n}": [n, 1, 2] for n in range(count)}
        path = (glove if form == "text" else binary)(tmp_path / str(count), words=words)
        tracemalloc.start()
        wordvectors.read(path, ["w3", "w1999"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < path.stat().st_size / 2


def bad(path: Path, harm: str) -> Path:
    if harm in ("cut binary", "header of a text", "cut text", "cut gzip"):
        path = (binary if harm == "cut binary" else glove)(path)
        data = path.read_bytes()
        if harm == "cut gzip":
            numbers = np.random.default_rng(0).normal(size=(2000, 3)).tolist()
            data = gzip.compress(glove(path, words={f"w{n}": v for n, v in enumerate(numbers)}).read_bytes())
        if harm == "header of a text":
            data = b"9 3\n" + data
        path.write_bytes(data if "header" in harm else data[:-8] if "text" in harm else data[:-5])
        return path
    if harm in ("dim of a text", "dim of a binary", "count of a binary"):
        data = (binary(path) if "binary" in harm else glove(path, header=True)).read_bytes()
        path.write_bytes(data.replace(b"5 3", b"4 3" if "count" in harm else b"5 2", 1))
        return path
    data = {
        "blank": "the 1 2 3\n\n\ndog 1 2\ncat 1 2 3\n",
        "empty": "",
        "prose": "It was the best of times,\n",
        "ragged": "the 1 2 3\ndog 1 2\ncat 1 2 3\n",
        "words": "the 1 2 3\ndog 1 two 3\n",
        "nan": "the 1 2 3\ndog 1 nan 3\n",
    }[harm]
    path.write_text(data)
    return path


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("empty", "holds no word vectors"),
        ("prose", "holds no word vectors.*b'It was"),
        ("ragged", "line 2 is no word and 3 numbers"),
        ("words", "line 2 is no word and 3 numbers"),
        ("nan", "the vector of 'dog' holds numbers that are not finite"),
        ("cut text", "line 5 is no word and 3 numbers"),
        ("header of a text", "it holds 5 of 9 words"),
        ("cut binary", "it holds 4 of 5 words"),
        ("cut gzip", "is truncated or no gzip file"),
        ("dim of a text", "line 1 states 2 numbers per word, but the lines have 3"),
        ("dim of a binary", "continues after the 5 words of 2 numbers that line 1 states"),
        ("count of a binary", "continues after the 4 words of 3 numbers that line 1 states"),
        ("blank", "line 4 is no word and 3 numbers"),
    ],
)
def test_bad_files(tmp_path, harm, told):
    path = bad(tmp_path / "v", harm)
    with pytest.raises(UserError, match=rf"{path.name}: .*{told}"):
        wordvectors.read(path, ["dog", "at"])


def test_a_missing_file_says_what_to_put_there(tmp_path):
    with pytest.raises(UserError, match=r"glove\.txt: no such file.*nlp\.stanford\.edu"):
        wordvectors.read(tmp_path / "glove.txt", ["a"])


def test_seeded_vectors_are_a_words_own():
    one = wordvectors.seeded(["a", "b", "a"], 400, seed=1)
    two = wordvectors.seeded(["c", "b"], 400, seed=1)
    assert list(one.index) == ["a", "b"]
    np.testing.assert_array_equal(one.matrix[1], two.matrix[1])
    assert not np.array_equal(one.matrix[1], wordvectors.seeded(["b"], 400, seed=2).matrix[0])
    np.testing.assert_allclose(np.linalg.norm(one.matrix, axis=1), 1, atol=0.15)
    assert abs(one.matrix[0] @ one.matrix[1]) < 0.2


def test_the_start_of_an_embedding(tmp_path):
    many = {f"w{n}": np.random.default_rng(n).normal(0, 3, 3).round(3) for n in range(300)}
    found = wordvectors.read(glove(tmp_path / "v", words=many), many)
    table = found.table(["<pad>", "w7", "odd", "w0", *(f"x{n}" for n in range(300))], seed=2)
    np.testing.assert_array_equal(table[[1, 3]], np.float32([many["w7"], many["w0"]]))
    assert table[4:].std() == pytest.approx(np.float32([many["w7"], many["w0"]]).std(), rel=0.1)
    np.testing.assert_array_equal(table[0], found.table(["w7", "w0", "<pad>"], seed=2)[2])


@pytest.mark.parametrize("header", [False, True])
def test_what_editors_and_tools_add_is_passed_over(tmp_path, header):
    """A byte order mark before the first word, tabs for spaces, blank lines within and at the end, spaces at an end."""
    path = glove(tmp_path / "v", header=header)
    text = path.read_bytes()
    changed = {
        "mark": b"\xef\xbb\xbf" + text,
        "tabs": text.replace(b" ", b"\t"),
        "a tab after the word": b"".join(line.replace(b" ", b"\t", 1) for line in text.splitlines(keepends=True)),
        "windows": text.replace(b"\n", b"\r\n"),
        "blank lines": text.replace(b"dog", b"\n\r\ndog") + b"\n \n",
        "spaces": text.replace(b"\n", b"  \n"),
    }
    for kind, data in changed.items():
        path.write_bytes(data)
        found = wordvectors.read(path, WORDS)
        assert list(found.index) == list(WORDS), kind
        np.testing.assert_array_equal(found.matrix, np.float32([*WORDS.values()]))


def test_the_first_words_may_hold_spaces_and_be_numbers(tmp_path):
    words = {". .": [1, 2, 3], "5": [7, 7, 7], "at 6": [8, 8, 8], "dog": [4, 5, 6], "a b": [0, 0, 1]}
    found = wordvectors.read(glove(tmp_path / "v", words=words), [". .", "5", "dog"])
    assert found.matrix.tolist() == [[1, 2, 3], [7, 7, 7], [4, 5, 6]]


def test_vectors_that_fit_hardly_a_word_are_said_to(tmp_path):
    path = glove(tmp_path / "v.txt")
    found = wordvectors.read(path, ["dog", "Hund", "Katze"])
    counts = {"dog": 1, "Hund": 2, "Katze": 5}
    with pytest.raises(
        UserError, match=r"1 of 3 words .* \(12% of all\), less than known: 0\.5; words without vectors: Katze, Hund"
    ):
        wordvectors.coverage(found, counts, path, 0.5, "known")
    told = wordvectors.coverage(found, counts, path, 0.1, "known")
    assert (told.words, told.with_vector, told.share, told.missing) == (3, 1, 0.125, ("Katze", "Hund"))
    assert told.fallback == "word vectors: 1 of 3 words have a vector in v.txt (12% of all); the others are seeded"
    assert wordvectors.coverage(found, {"dog": 9, "Hund": 1}, path, 0.9, "known").fallback is None
    with pytest.raises(UserError, match="0 of 1 words"):
        wordvectors.coverage(found, {"Hund": 1}, path, 0.01, "known")


@pytest.mark.parametrize("write", [glove, binary])
def test_reading_a_long_file_is_shown(tmp_path, monkeypatch, caplog, write):
    monkeypatch.setattr(console, "FIRST", 0.0)
    monkeypatch.setattr(console, "GAP", 0.0)
    monkeypatch.setattr(wordvectors, "CHUNK", 16)
    path = write(tmp_path / "v")
    with caplog.at_level("INFO"):
        wordvectors.read(path, WORDS)
    assert caplog.messages
    assert all(line.startswith(f"reading {path}: 0.0 of 0.0 MB") for line in caplog.messages)


@pytest.mark.parametrize("content", [b"a 1 1 1\n" * 200_000, b"3 3\na 1 1 1\n" + b"\n" * 1_500_000])
def test_a_bomb_of_short_lines_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.setattr(wordvectors, "SMALL", 1000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=r"x\.gz: [\d,]+ bytes of the file would become [\d,]+ in memory"):
        wordvectors.read(tmp_path / "x.gz", ["b"])


def test_a_line_of_too_many_numbers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_limits", limits.Limits(word_dim=3))
    (tmp_path / "x.txt").write_text("a 1 2 3\nb 1 2 3\n")
    assert wordvectors.read(tmp_path / "x.txt", ["b"]).dim == 3
    (tmp_path / "x.txt").write_text("a 1 2 3 4\nb 1 2 3 4\n")
    with pytest.raises(UserError, match="holds vectors of more than 3 numbers"):
        wordvectors.read(tmp_path / "x.txt", ["b"])
