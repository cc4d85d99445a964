import pandas as pd
import pytest

from crossmodal.core.errors import UserError
from crossmodal.core.files import write_json
from crossmodal.language.tokens import END, PAD, SPECIAL, START, UNKNOWN, Vocabulary, token_table, tokenize


def test_tokens_are_lower_case_words_and_marks():
    assert tokenize(["A dog's ball, isn't it?"]) == [["a", "dog", "'s", "ball", ",", "is", "n't", "it", "?"]]


def test_a_full_stop_within_a_text_is_a_token_of_its_own():
    assert tokenize(["A dog. It runs! Mr. J. Doe, e.g., pays 3.5 etc. now."])[0] == [
        *["a", "dog", ".", "it", "runs", "!", "mr.", "j.", "doe", ",", "e.g.", ",", "pays", "3.5", "etc.", "now", "."]
    ]
    assert tokenize(["", " "]) == [[], []]


def test_vocabulary_keeps_what_is_seen_often():
    vocabulary = Vocabulary.build([["b", "a"]] * 4 + [["c"]] * 3, min_count=4)
    assert vocabulary.words[4:] == ("a", "b")


def test_encoding_by_hand(tmp_path):
    vocabulary = Vocabulary.build([["a", "b"], ["a"]], min_count=1)
    ids, lengths = vocabulary.encode([["b", "x"], ["a"], ["a", "b", "a"]], max_length=2)
    assert ids.tolist() == [[START, 5, UNKNOWN, END], [START, 4, END, PAD], [START, 4, 5, END]]
    assert lengths.tolist() == [4, 3, 4]
    ids, lengths = vocabulary.encode(
        [["b", "x", "a"], ["x"]], max_length=2, rare_words="drop"
    )  # cut first, then dropped
    assert ids.tolist() == [[START, 5, END], [START, END, PAD]]
    assert lengths.tolist() == [3, 2]
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary


def frame_of(*texts):
    rows = [(f"t{n}", "text", text) for n, text in enumerate(texts)]
    return pd.DataFrame(rows, columns=["item_id", "modality", "source"])


def test_words_that_are_cut_already_are_left_so():
    table = token_table(frame_of("It's a dog isn't it", "\u4e00 \u53ea \u72d7"), "blanks")
    assert table.tokens.tolist() == [["it's", "a", "dog", "isn't", "it"], ["\u4e00", "\u53ea", "\u72d7"]]


def test_captions_without_blanks_are_warned_of(caplog):
    token_table(frame_of("\u4e00\u53ea\u72d7\u5728\u8349\u5730\u4e0a\u8dd1"))
    assert "captions are cut into 1 words, but hold 8 letters of scripts that are written without blanks" in caplog.text
    caplog.clear()
    token_table(frame_of("a dog called \u72d7", "\u4e00 \u53ea \u72d7"))
    assert not caplog.text


def test_a_query_is_cut_as_the_runs_captions_were():
    words = Vocabulary((*SPECIAL, "it's", "isn't", "a", "dog"))
    ids, _ = words.encode_known(["It's a dog"], 9)
    assert ids.tolist() == [[2, 4, 6, 7, 3]]
    split = Vocabulary((*SPECIAL, "it", "'s", "a", "dog"))
    assert split.encode_known(["It's a dog"], 9)[0].tolist() == [[2, 4, 5, 6, 7, 3]]


def test_words_that_are_none_are_one_line(tmp_path):
    for words in (["<pad>"], [*SPECIAL, ["a"]], {"a": 1}):
        write_json(tmp_path / "vocabulary.json", {"words": words})
        with pytest.raises(UserError, match="is no vocabulary"):
            Vocabulary.load(tmp_path / "vocabulary.json")
