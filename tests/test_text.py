from crossmodal.text import END, PAD, START, UNKNOWN, Vocabulary, tokenize


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
