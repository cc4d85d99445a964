from crossmodal.text import END, PAD, START, UNKNOWN, Vocabulary, tokenize


def test_tokens_are_lower_case_words_and_marks():
    assert tokenize(["A dog's ball, isn't it?"]) == [["a", "dog", "'s", "ball", ",", "is", "n't", "it", "?"]]


def test_vocabulary_keeps_what_is_seen_often():
    vocabulary = Vocabulary.build([["b", "a"]] * 4 + [["c"]] * 3, min_count=4)
    assert vocabulary.words[4:] == ("a", "b")


def test_encoding_by_hand(tmp_path):
    vocabulary = Vocabulary.build([["a", "b"], ["a"]], min_count=1)
    ids, lengths = vocabulary.encode([["b", "x"], ["a"], ["a", "b", "a"]], max_length=2)
    assert ids.tolist() == [[START, 5, UNKNOWN, END], [START, 4, END, PAD], [START, 4, 5, END]]
    assert lengths.tolist() == [4, 3, 4]
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary
