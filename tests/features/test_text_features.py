"""Text features against hand-computed values and scikit-learn's own; what is fitted sees training captions alone."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from crossmodal import experiments
from crossmodal.core.errors import UserError
from crossmodal.features import text
from crossmodal.features.engine import extraction, store
from crossmodal.language import wordvectors
from tests.features.networks.test_skipthoughts import by_hand, write

CAPTIONS = ["A dog runs.", "A dog, a red dog!", "The cat sits; the dog runs.", "A red cat jumps", "The zebra and a dog"]
PARTS = ["train", "train", "train", "val", "test"]


def frame(captions=CAPTIONS, parts=PARTS) -> pd.DataFrame:
    ids = [f"t{n}" for n in range(len(captions))]
    rows = pd.DataFrame({"item_id": ids, "modality": "text", "partition": parts, "source": captions})
    image = pd.DataFrame({"item_id": ["i"], "modality": ["image"], "partition": ["train"], "source": ["i.jpg"]})
    return pd.concat([image, rows], ignore_index=True)


def run(tmp_path, items=None, name="a", **settings) -> store.Features:
    chosen = experiments.validated(text.Settings, settings, "params.yaml: extractors.a")
    target = tmp_path / "f" / f"text.{name}"
    extraction.run("text", frame() if items is None else items, tmp_path, chosen, target, threads=2, modality="text")
    return store.open_features(target)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_kind():
    made = text.Settings.model_validate({"kind": "tfidf", "max_features": 5, "on_error": "skip"})
    assert isinstance(made, text.TfIdf)
    assert (made.max_features, made.l2, made.on_error) == (5, True, "skip")
    for wrong, told in [
        ({"kind": "tfdif"}, "'tfdif' is no known kind of text feature; did you mean 'tfidf'"),
        ({}, "None is no known kind of text feature"),
        ({"kind": "tfidf", "vectors": "x"}, "vectors: unknown key of `kind: tfidf`"),
        ({"kind": "bag_of_words", "max_featurs": 3}, "did you mean 'max_features'"),
        ({"kind": "bag_of_words", "max_features": 0}, "extractors.a: max_features: .*greater than or equal to 1"),
        ({"kind": "word_vectors"}, "extractors.a: vectors: is missing"),
    ]:
        with pytest.raises(UserError, match=told):
            experiments.validated(text.Settings, wrong, "params.yaml: extractors.a")


def test_other_items_are_refused(tmp_path):
    with pytest.raises(UserError, match="set `modality: text`"):
        extraction.run("text", frame(), tmp_path, text.BagOfWords(), tmp_path / "image.a", threads=1, modality="image")


# -- fitted on the training captions ----------------------------------------------------------------------------------


def test_a_bag_of_words_by_hand(tmp_path):
    found = run(tmp_path, kind="bag_of_words")
    assert found.manifest["vocabulary"] == ["a", "cat", "dog", "red", "runs", "sits", "the"]
    assert np.array(found.array).tolist() == [
        [1, 0, 1, 0, 1, 0, 0],
        [2, 0, 2, 1, 0, 0, 0],
        [0, 1, 1, 0, 1, 1, 2],
        [1, 1, 0, 1, 0, 0, 0],
        [1, 0, 1, 0, 0, 0, 1],
    ]
    assert found.index.unknown.tolist() == [0, 0, 0, 1, 2]
    few = run(tmp_path, name="b", kind="bag_of_words", max_features=3, binary=True)
    assert few.manifest["vocabulary"] == ["a", "dog", "runs"]  # of the two seen twice the first in the alphabet
    assert np.array(few.array).tolist() == [[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 0], [1, 1, 0]]
    rare = run(tmp_path, name="c", kind="bag_of_words", min_df=2, stop_words="english", on_error="skip")
    assert rare.manifest["vocabulary"] == ["dog", "runs"]
    assert np.array(rare.array).tolist() == [[1, 1], [2, 0], [1, 1], [1, 0]]  # `a red cat jumps` has neither


def test_tfidf_is_scikit_learns(tmp_path):
    found = run(tmp_path, kind="tfidf")
    reference = TfidfVectorizer(token_pattern=r"[a-z]+").fit(CAPTIONS[:3])
    np.testing.assert_allclose(found.array, reference.transform(CAPTIONS).toarray(), atol=1e-6)
    assert found.manifest["vocabulary"] == reference.get_feature_names_out().tolist()
    np.testing.assert_allclose(found.manifest["idf"], reference.idf_)
    assert found.manifest["idf"][2] == pytest.approx(np.log(4 / 4) + 1)  # `dog` stands in all three


def test_what_is_not_training_changes_no_column(tmp_path):
    one = run(tmp_path, kind="tfidf")
    other = [*CAPTIONS[:3], "Zebra zebra zebra runs", "Zebra jumps on a dog"]
    two = run(tmp_path, frame(other), name="b", kind="tfidf")
    assert two.manifest["vocabulary"] == one.manifest["vocabulary"]
    assert np.array_equal(two.array[:3], one.array[:3])
    three = run(tmp_path, frame(parts=["train"] * 5), name="c", kind="tfidf")
    assert "zebra" in three.manifest["vocabulary"]


def test_shards_of_other_training_captions_are_not_taken(tmp_path, monkeypatch):
    """The first shard of a killed run holds the same captions, but was made with another vocabulary."""
    made = text.bad
    monkeypatch.setattr(text, "bad", lambda *_: KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, frame([*CAPTIONS[:4], "?!"]), kind="bag_of_words", shard=2, batch_size=2)
    assert list((tmp_path / "f").glob(".text.a.shards/*/0.*.npy"))
    monkeypatch.setattr(text, "bad", made)
    changed = frame([*CAPTIONS[:2], "Cows sit.", *CAPTIONS[3:]])
    found = run(tmp_path, changed, kind="bag_of_words", shard=2, batch_size=2)
    assert found.manifest["vocabulary"] == ["a", "cows", "dog", "red", "runs", "sit"]
    assert np.array(found.array)[:2].tolist() == [[1, 0, 1, 0, 1, 0], [2, 0, 2, 1, 0, 0]]


@pytest.mark.parametrize("kind", ["bag_of_words", "tfidf", "word_vectors"])
def test_a_caption_of_unknown_words_is_a_bad_item(tmp_path, kind):
    path = tmp_path / "v.txt"
    path.write_text("dog 1 2\na 3 4\n")
    more = {"vectors": str(path)} if kind == "word_vectors" else {}
    items = frame([*CAPTIONS[:4], "Zebras gallop?"])
    with pytest.raises(UserError, match=r"text item 't4' \('Zebras gallop\?'\) has n.*on_error: skip"):
        run(tmp_path, items, kind=kind, **more)
    found = run(tmp_path, items, kind=kind, on_error="skip", **more)
    assert found.index.item_id.tolist() == ["t0", "t1", "t2", "t3"]
    assert [one["item_id"] for one in found.manifest["skipped"]] == ["t4"]
    assert np.abs(found.array).sum(1).min() > 0


def test_nothing_to_fit_on(tmp_path):
    with pytest.raises(UserError, match="no training captions"):
        run(tmp_path, frame(parts=["test"] * 5), kind="tfidf")
    with pytest.raises(UserError, match="no word occurs in 9 training captions"):
        run(tmp_path, kind="tfidf", min_df=9)
    with pytest.raises(UserError, match="no word occurs in 1 training"):
        run(tmp_path, frame(["?", "!", "...", "a", "b"]), kind="tfidf")


# -- word vectors -----------------------------------------------------------------------------------------------------


def test_means_of_word_vectors_by_hand(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("dog 1 2\na 3 -4\nred 0 6\ncat 1 1\nthe 0 1\nruns 2 2\n")
    found = run(tmp_path, kind="word_vectors", vectors=str(path), l2=False)
    expected = [[6 / 3, 0], [8 / 5, 2 / 5], [4 / 5, 7 / 5], [4 / 3, 3 / 3], [4 / 3, -1 / 3]]
    np.testing.assert_allclose(found.array, expected, rtol=1e-6, atol=1e-7)
    assert found.index.unknown.tolist() == [0, 0, 1, 1, 2]
    told = found.manifest
    assert (told["words"], told["words_unknown"]) == (10, 4)
    assert told["unknown_words"] == ["and", "jumps", "sits", "zebra"]
    assert told["tokens_unknown"] == pytest.approx(4 / 23)
    assert len(told["vectors_sha256"]) == 64
    assert "fallback" not in told
    unit = run(tmp_path, name="b", kind="word_vectors", vectors=str(path))
    np.testing.assert_allclose(np.linalg.norm(unit.array, axis=1), 1, rtol=1e-6)


def test_rare_words_count_more(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("dog 1 0\na 0 1\nzebra 1 1\n")
    found = run(tmp_path, kind="word_vectors", vectors=str(path), weighting="tfidf", l2=False)
    dog, a, zebra = np.log(4 / 4) + 1, np.log(4 / 3) + 1, np.log(4 / 1) + 1
    expected = [dog + zebra, a + zebra]
    np.testing.assert_allclose(found.array[4], np.array(expected) / (dog + a + zebra), rtol=1e-6)
    np.testing.assert_allclose(found.array[0], np.array([dog, a]) / (dog + a), rtol=1e-6)


def test_without_a_file_vectors_are_seeded_only_if_asked_for(tmp_path, caplog):
    with pytest.raises(UserError, match=r"vectors: 'glove\.txt' is no file; GloVe is at .*set `vectors: seeded`"):
        run(tmp_path, kind="word_vectors", vectors="glove.txt")
    found = run(tmp_path, kind="word_vectors", vectors="seeded", dim=40, seed=3)
    assert found.manifest["fallback"] == "seeded random word vectors"
    assert "seeded random word vectors" in caplog.text
    vectors = wordvectors.seeded(["a", "dog", "runs"], 40, 3).matrix.mean(0)
    np.testing.assert_allclose(found.array[0], vectors / np.linalg.norm(vectors), atol=1e-6)


# -- Skip-Thoughts ----------------------------------------------------------------------------------------------------


def test_the_published_encoder(tmp_path):
    folder = write(tmp_path / "skip")
    found = run(tmp_path, kind="skip_thoughts", vectors=str(folder))
    for row, words in ((0, ["a", "dog", "runs", "."]), (4, ["the", "zebra", "and", "a", "dog"])):
        np.testing.assert_allclose(found.array[row], by_hand(folder, words), atol=1e-6)
    assert len(found.manifest["vectors_sha256"]) == 64
    seeded = run(tmp_path, name="b", kind="skip_thoughts", vectors="seeded", dim=16)
    assert seeded.array.shape == (5, 16)
    assert seeded.manifest["fallback"] == "a seeded random Skip-Thoughts encoder"


def test_vectors_that_were_made_elsewhere(tmp_path):
    array = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    np.save(tmp_path / "v.npy", array)
    given = {"kind": "skip_thoughts", "vectors": str(tmp_path / "v.npy")}
    assert np.array_equal(run(tmp_path, **given).array, array)
    order = ["t4", "t2", "t0", "t1", "t3"]
    (tmp_path / "ids.json").write_text(json.dumps(order))
    (tmp_path / "ids.txt").write_text("\n".join(order))
    for name in ("ids.json", "ids.txt"):
        found = run(tmp_path, name="b", ids=str(tmp_path / name), **given)
        assert np.array_equal(found.array, array[[2, 3, 1, 4, 0]])
    (tmp_path / "short.txt").write_text("t1\nt2")
    with pytest.raises(UserError, match=r"v\.npy: has 5 rows, but there are 2 ids in .*short\.txt"):
        run(tmp_path, name="c", ids=str(tmp_path / "short.txt"), **given)
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        run(tmp_path, name="c", ids=str(tmp_path / "none.txt"), **given)
    array[3] = 0
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(UserError, match=r"'t3' .* zero or not finite \(row 3\)"):
        run(tmp_path, name="d", **given)
    np.save(tmp_path / "v.npy", array[:4])
    with pytest.raises(UserError, match=r"has 4 rows, but there are 5 ids in items\.parquet"):
        run(tmp_path, name="d", **given)
    (tmp_path / "v.npy").write_bytes(b"x")
    with pytest.raises(UserError, match=r"v\.npy: is truncated"):
        run(tmp_path, name="d", **given)
    with pytest.raises(UserError, match=r"neither an \.npy of Skip-Thoughts vectors nor a folder with dictionary\.txt"):
        run(tmp_path, kind="skip_thoughts", vectors=str(tmp_path / "none.npy"))


# -- sentence transformers --------------------------------------------------------------------------------------------


def test_without_the_extra_package_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"pip install 'crossmodal\[sentence-transformers\]'"):
        run(tmp_path, kind="sentence_transformer", model="some")


def tiny(folder: Path) -> Path:
    """A model of one layer with random weights."""
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="the extra is not installed")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "runs", "red", "cat", "the", "."]
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **shape))
    bert.save_pretrained(folder / "bert")
    transformers.BertTokenizerFast(vocab={w: n for n, w in enumerate(words)}).save_pretrained(folder / "bert")
    parts = importlib.import_module("sentence_transformers.models")
    part = parts.Transformer(str(folder / "bert"))
    sentence_transformers.SentenceTransformer(modules=[part, parts.Pooling(16)]).save(str(folder / "whole"))
    return folder / "whole"


def test_a_sentence_transformer_gives_its_own_vectors(tmp_path):
    folder = tiny(tmp_path)
    import sentence_transformers

    found = run(tmp_path, kind="sentence_transformer", model=str(folder), batch_size=2)
    expected = sentence_transformers.SentenceTransformer(str(folder)).encode(CAPTIONS, normalize_embeddings=True)
    np.testing.assert_allclose(found.array, expected, atol=1e-5)
    assert len(found.manifest["weights_sha256"]) == 64
    with pytest.raises(UserError, match="some' cannot be loaded"):
        run(tmp_path, name="b", kind="sentence_transformer", model=str(tmp_path / "some"))
