"""Metrics of captions: values by hand, and the answers of coco-caption's own program and of sacrebleu."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from crossmodal.evaluation import captions

FLICKR8K = Path(__file__).parents[3] / "shared" / "data" / "flickr8k" / "dataset_flickr8k.json"


def words(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def made(images: int, seed: int = 0) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Captions of few words in random order, so that n-grams repeat, with one to five references each."""
    rng = random.Random(seed)
    vocabulary = ["a", "the", "man", "dog", "runs", "jumps", "on", "grass", "water", "red", "and", "with", "two"]

    def one() -> list[str]:
        return [rng.choice(vocabulary) for _ in range(rng.randint(1, 14))]

    references = [[one() for _ in range(rng.randint(1, 5))] for _ in range(images)]
    generated = [one() if rng.random() < 0.5 else [*rng.choice(others)] for others in references]
    return generated, references


def real(images: int = 1000) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Flickr8K's first caption of each photograph against the others."""
    if not FLICKR8K.is_file():
        pytest.skip("Flickr8K's annotations are not here")
    entries = json.loads(FLICKR8K.read_text())["images"][:images]
    five = [captions.coco_words(sentence["raw"] for sentence in entry["sentences"]) for entry in entries]
    return [first for first, *_ in five], [others for _, *others in five]


def test_words_are_those_of_coco_caption():
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    assert {mark.lower() for mark in PUNCTUATIONS} <= captions.MARKS
    assert captions.coco_words(["A man's dog, in (red) snow... runs!"]) == words("a man 's dog in red snow runs")


def test_bleu_by_hand():
    generated, references = words("the the the the the the the"), [words("the cat is on the mat", "a cat on a mat")]
    sums = captions.bleu_sums(generated, references)
    assert sums.tolist() == [[2, 0, 0, 0, 7, 6, 5, 4, 7, 6]]
    assert captions.bleu(sums.sum(0))[0] == pytest.approx(100 * 2 / 7)
    # Of two references that are as near in length, the shorter one counts: no brevity penalty for two words of 1 and 3.
    assert captions.bleu_sums(words("a b"), [words("a b c", "a")])[0, -1] == 1
    short = captions.bleu_sums(words("a cat"), [words("a cat on a mat")])
    assert captions.bleu(short[0])[:2] == pytest.approx([100 * math.exp(1 - 5 / 2)] * 2)


def test_bleu_is_of_the_whole_set_not_a_mean_over_images():
    generated, references = made(40)
    sums = captions.bleu_sums(generated, references)
    whole = captions.bleu(sums.sum(0))
    assert abs(whole - captions.bleu(sums).mean(0)).max() > 1
    assert captions.bleu(np.stack([sums.sum(0), sums[:9].sum(0)]))[0] == pytest.approx(whole)


def test_rouge_takes_the_best_precision_and_recall_apart():
    score = captions.rouge_l(words("a b c d"), [words("a b c d e f g h", "a x")])
    precision, recall = 4 / 4, 1 / 2  # the first reference has both here
    expected = 100 * (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert score == pytest.approx([expected])
    apart = captions.rouge_l(words("a b c d"), [words("a b c d e f g h", "a b")])  # recall 1 of the second
    assert apart == pytest.approx([100.0])
    assert captions.rouge_l([[]], [words("a b")]).tolist() == [0.0]


def test_the_longest_common_subsequence():
    rng = random.Random(1)
    for _ in range(200):
        one, other = ([rng.choice("abc") for _ in range(rng.randint(0, 9))] for _ in range(2))
        table = np.zeros((len(one) + 1, len(other) + 1), int)
        for i, x in enumerate(one):
            for j, y in enumerate(other):
                table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
        assert captions._longest_common(one, other) == table[-1, -1]


def test_cider_by_hand():
    # Three images without a common word: each n-gram weighs log 3, and equal captions have cosine 1.
    references = [words("a b c d"), words("e f g h"), words("i j k l")]
    same = captions.cider(words("a b c d", "e f g h", "i j k l"), references)
    assert same.d == pytest.approx([1000.0] * 3)
    assert same.plain == pytest.approx([1000.0] * 3)
    # Twice the reference: counts are clipped at the reference's, and there are 7 bigrams for 3.
    doubled = captions.cider(words("a b c d a b c d", "e f g h", "i j k l"), references)
    gaussian = math.exp(-((7 - 3) ** 2) / (2 * 36))
    # Each order has these n-grams twice, and those that the seam makes once.
    cosine = [8 / (4 * 2), 6 / math.sqrt(13 * 3), 4 / math.sqrt(10 * 2), 2 / math.sqrt(7)]
    clipped = [4 / math.sqrt(16 * 4), 3 / math.sqrt(13 * 3), 2 / math.sqrt(10 * 2), 1 / math.sqrt(7)]
    assert doubled.plain[0] == pytest.approx(1000 * np.mean(cosine))
    assert doubled.d[0] == pytest.approx(1000 * gaussian * np.mean(clipped))


def test_what_every_image_has_weighs_nothing():
    references = [words("a man x"), words("a man y"), words("a man z")]
    scores = captions.cider(words("a man", "a man y", "q"), references)
    assert scores.plain[0] == scores.plain[2] == 0
    assert scores.plain[1] > 0


def test_weights_of_other_references():
    """`b` is common among the training images, so that it weighs less than there."""
    references = [words("a b"), words("c d")]
    training = [words("b"), words("b"), words("a b", "b"), words("c")]
    score = captions.cider(words("a", "c"), references, frequencies=training)
    a, b, c, d = math.log(4 / 1), math.log(4 / 3), math.log(4 / 1), math.log(4)
    assert score.plain == pytest.approx([250 * a / math.hypot(a, b), 250 * c / math.hypot(c, d)])


def oracle(generated: list[list[str]], references: list[list[list[str]]]) -> dict[str, tuple]:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    theirs = {i: [" ".join(caption) for caption in others] for i, others in enumerate(references)}
    ours = {i: [" ".join(caption)] for i, caption in enumerate(generated)}
    return {
        "bleu": Bleu(4).compute_score(theirs, ours, verbose=0),
        "rouge": Rouge().compute_score(theirs, ours),
        "cider": Cider().compute_score(theirs, ours),
    }


@pytest.mark.parametrize("data", [made, real])
def test_coco_captions_own_program_says_the_same(data):
    generated, references = data(300) if data is made else data()
    theirs = oracle(generated, references)
    sums = captions.bleu_sums(generated, references)
    assert captions.bleu(sums.sum(0)) / 100 == pytest.approx(theirs["bleu"][0], abs=1e-9)
    assert abs(captions.bleu(sums).T / 100 - theirs["bleu"][1]).max() < 1e-9
    assert abs(captions.rouge_l(generated, references) / 100 - theirs["rouge"][1]).max() < 1e-9
    assert abs(captions.cider(generated, references).d / 100 - theirs["cider"][1]).max() < 1e-9


def test_sacrebleu_says_the_same():
    sacrebleu = pytest.importorskip("sacrebleu")
    generated, references = made(200, seed=3)
    references = [(others * 5)[:5] for others in references]  # it wants as many of each
    theirs = sacrebleu.corpus_bleu(
        [" ".join(caption) for caption in generated],
        [[" ".join(others[k]) for others in references] for k in range(5)],
        tokenize="none",
        smooth_method="none",
    )
    assert captions.bleu(captions.bleu_sums(generated, references).sum(0))[3] == pytest.approx(theirs.score, abs=1e-6)


def test_the_order_of_images_and_references_does_not_matter():
    generated, references = made(30)
    order = np.random.default_rng(0).permutation(30)
    turned = captions.cider([generated[i] for i in order], [references[i][::-1] for i in order])
    assert turned.d == pytest.approx(captions.cider(generated, references).d[order])


def test_distinct_and_novel():
    texts = words("a b a", "a b c")
    assert captions.distinct(texts, 1) == pytest.approx(100 * 3 / 6)
    assert captions.distinct(texts, 2) == pytest.approx(100 * 3 / 4)  # ab, ba, ab, bc
    assert captions.novel(texts, words("a b c", "a")).tolist() == [True, False]
    with pytest.raises(ValueError, match="none of 2 captions has 4 words"):
        captions.distinct(texts, 4)
    with pytest.raises(ValueError, match="order 5: expected 1 to 4"):
        captions.distinct(texts, 5)


@pytest.mark.parametrize("metric", [captions.bleu_sums, captions.rouge_l, captions.cider])
def test_mistakes(metric):
    with pytest.raises(ValueError, match="found 1 lists for 2 captions"):
        metric(words("a", "b"), [words("a")])
    with pytest.raises(ValueError, match=r"1 image\(s\) have no reference, the first at position 1"):
        metric(words("a", "b"), [words("a"), []])
    with pytest.raises(ValueError, match="found 0 lists"):
        metric([], [])
