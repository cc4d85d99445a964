"""Concepts of images and captions: scores, phrases, and both ways of expanding words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.language import concepts

INDEX = pd.DataFrame(
    {
        "class": [["Box", "car", "box", ""], []],
        "attribute": [["red", "", "red", ""], []],
        "confidence": [[0.4, 0.2, 0.9, 0.0], []],
    }
)


def dense(scored, n):
    out = np.zeros((len(scored.ids), n))
    for row, ids, scores in zip(out, scored.ids, scored.scores, strict=True):
        for i, value in zip(ids, scores, strict=True):
            row[i] = max(row[i], value)
    return out


def test_an_image_has_the_best_score_of_each_of_its_names():
    names = concepts.names_of(INDEX)
    assert names == ("box", "car", "red")
    found = concepts.of_regions(INDEX, names)
    np.testing.assert_allclose(dense(found, 3), [[0.9, 0.2, 0.9], [0, 0, 0]], rtol=1e-6)
    assert concepts.tags(found, names) == [["box", "red"], []]
    assert concepts.tags(found, names, 0.1) == [["box", "red", "car"], []]


def test_captions_are_searched_for_phrases_and_their_synonyms():
    names = ("box", "car", "love symbol")
    expand = concepts.own({"box": ["crate"], "heart": ["love symbol"]})
    captions = [
        ["two", "crates", "and", "a", "car"],
        ["a", "heart"],
        ["a", "love", "symbol"],
        ["love", "and", "symbol"],
        [],
    ]
    found = dense(concepts.of_captions(captions, names, expand), 3)
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(("word", "base"), [("boxes", "box"), ("cars", "car"), ("ladies", "lady"), ("leaves", "leaf")])
def test_plurals(word, base):
    assert base in concepts.own({})(word)


def test_wordnet_that_is_not_there_is_told(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    _fresh(monkeypatch)
    with pytest.raises(UserError, match=r"python -m nltk\.downloader wordnet"):
        concepts.wordnet()


def _fresh(monkeypatch):
    """NLTK's corpus as it is before anything has read it."""
    from nltk import corpus
    from nltk.corpus.reader import CorpusReader, WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    assert issubclass(WordNetCorpusReader, CorpusReader)
    loader = LazyCorpusLoader("wordnet", WordNetCorpusReader, LazyCorpusLoader("omw-1.4", CorpusReader, r".*"))
    monkeypatch.setattr(corpus, "wordnet", loader)


def _data(entries):
    """`data.noun` and `index.noun` of WordNet's format, of synsets given by their lemmas."""
    data, lines, offsets = b"  1 a small database for tests\n", [], {}
    for lemmas in entries:
        offset = len(data)
        words = " ".join(f"{lemma} 0" for lemma in lemmas)
        data += f"{offset:08d} 06 n {len(lemmas):02x} {words} 000 | a thing  \n".encode()
        for lemma in lemmas:
            offsets.setdefault(lemma, []).append(offset)
    for lemma, found in sorted(offsets.items()):
        numbers = " ".join(f"{offset:08d}" for offset in found)
        lines.append(f"{lemma} n {len(found)} 0 {len(found)} 0 {numbers}  \n")
    return data, "  1 a small database for tests\n" + "".join(lines)


def test_wordnet_expands_by_synsets_and_knows_inflected_forms(tmp_path, monkeypatch):
    """A database of two synsets in WordNet's own files, read by NLTK."""
    import nltk

    folder = tmp_path / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    data, index = _data([["car", "automobile", "motor_car"], ["box"]])
    (folder / "data.noun").write_bytes(data)
    (folder / "index.noun").write_text(index)
    (folder / "lexnames").write_text("".join(f"{n:02d}\tnoun.artifact\t1\n" for n in range(45)))
    for name in ("verb", "adj", "adv"):
        (folder / f"data.{name}").write_text("")
        (folder / f"index.{name}").write_text("")
        (folder / f"{name}.exc").write_text("")
    for name in ("noun.exc", "index.sense", "cntlist.rev"):
        (folder / name).write_text("")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    _fresh(monkeypatch)
    expand = concepts.wordnet()
    assert expand("automobiles") == {"automobiles", "automobile", "car", "motor car"}
    assert expand("box") == {"box"}
    assert expand("zzz") == {"zzz"}
    found = concepts.of_captions([["an", "automobile"], ["a", "motor", "car"], ["boxes"]], ("box", "car"), expand)
    np.testing.assert_array_equal(dense(found, 2), [[0, 1], [0, 1], [1, 0]])
