"""Metrics of generated captions, as coco-caption defines them: BLEU-1 to 4, ROUGE-L, CIDEr-D and CIDEr.

A caption is a list of words and each image has one generated caption and one or more references. `coco_words` makes
coco-caption's words of a text. All metrics are per image, or are formulas of sums over images, so that intervals and
paired tests can be computed from them. n-grams are numbers here and counted by sorting, for all images at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crossmodal.language.ngrams import LONGEST, Caption, counts_of
from crossmodal.language.tokens import tokenize

References = Sequence[Sequence[Caption]]

BETA = 1.2
SIGMA = 6.0
_BRACKETS = ("(", ")", "{", "}", "[", "]", "-lrb-", "-rrb-", "-lcb-", "-rcb-")
MARKS = frozenset((*_BRACKETS, "'", "''", "`", "``", ".", "?", "!", ",", ":", "-", "--", "...", ";"))


def coco_words(texts: Iterable[str]) -> list[list[str]]:
    """The words of each text as coco-caption has them: lower-cased, without punctuation marks and brackets."""
    return [[word for word in words if word not in MARKS] for words in tokenize(texts)]


def _check(generated: Sequence[Caption], references: References) -> None:
    if len(generated) != len(references) or not len(generated):
        raise ValueError(
            f"expected one list of references for each generated caption, found {len(references)} lists for "
            f"{len(generated)} captions"
        )
    without = [i for i, captions in enumerate(references) if not captions]
    if without:
        raise ValueError(f"{len(without)} image(s) have no reference, the first at position {without[0]}")


def _place(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the `wanted` keys are among the sorted `keys`, as a mask, and the places of these."""
    place = np.searchsorted(keys, wanted)
    held = place < len(keys)
    held[held] = keys[place[held]] == wanted[held]
    return held, place[held]


def _flat(generated: Sequence[Caption], references: References) -> tuple[list[Caption], np.ndarray]:
    """The generated captions followed by all references, and the image of each of these captions."""
    sizes = np.fromiter(map(len, references), np.int64, len(references))
    images = np.arange(len(generated))
    captions = [*generated, *(caption for captions in references for caption in captions)]
    return captions, np.concatenate([images, np.repeat(images, sizes)])


def bleu_sums(generated: Sequence[Caption], references: References) -> np.ndarray:
    """The numbers per image that BLEU is a formula of: add them up over images and give them to `bleu`.

    Returns
    -------
    (N, 10) float64: the n-grams of the generated caption that a reference has, each at most as often as in the one that
    has it most often, for n of 1 to 4; its numbers of n-grams, for n of 1 to 4; its length in words; the length of the
    reference that is nearest in length, the shorter one of two.

    Raises
    ------
    ValueError : there are no captions, an image has no reference, or the numbers of images differ.
    """
    _check(generated, references)
    captions, image = _flat(generated, references)
    n = len(generated)
    sums = np.zeros((n, 2 * LONGEST + 2))
    for order, counts in enumerate(counts_of(captions)):
        ours, others = counts.among(counts.caption < n), counts.among(counts.caption >= n)
        keys, first = np.unique(others.gram * n + image[others.caption], return_index=True)  # sorted as they are
        most = np.maximum.reduceat(others.count, first) if len(keys) else np.zeros(0, np.int64)
        held, place = _place(keys, ours.gram * n + ours.caption)
        sums[:, order] = np.bincount(ours.caption[held], np.minimum(ours.count[held], most[place]), minlength=n)
        sums[:, LONGEST + order] = counts.total[:n]
    for i, (caption, others) in enumerate(zip(generated, references, strict=True)):
        sums[i, -2] = len(caption)
        sums[i, -1] = min((abs(len(other) - len(caption)), len(other)) for other in others)[1]
    return sums


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4 (Papineni et al., 2002) of a set of images, in per cent.

    Parameters
    ----------
    sums : (..., 10) sums of the rows of `bleu_sums`.

    Returns
    -------
    (..., 4) in [0, 100], with coco-caption's guards of 1e-15 and 1e-9 against empty sets.

    Examples
    --------
    >>> sums = bleu_sums(["the cat on a mat".split()], [["the cat on the mat".split(), "a cat".split()]])
    >>> bleu(sums.sum(0)).round(1).tolist()
    [100.0, 70.7, 55.0, 0.0]
    """
    sums = np.asarray(sums, np.float64)
    matched, guessed, length, reference = np.split(sums, [LONGEST, 2 * LONGEST, 2 * LONGEST + 1], axis=-1)
    precision = (matched + 1e-15) / (guessed + 1e-9)
    score = np.exp(np.cumsum(np.log(precision), axis=-1) / np.arange(1, LONGEST + 1))
    ratio = (length + 1e-15) / (reference + 1e-9)
    return 100.0 * score * np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)


def rouge_l(generated: Sequence[Caption], references: References) -> np.ndarray:
    """ROUGE-L (Lin, 2004) of each image, in per cent: (N,) in [0, 100].

    As in coco-caption, precision and recall are the best over the references each for itself, and β is 1.2.

    Raises
    ------
    ValueError : there are no captions, an image has no reference, or the numbers of images differ.

    Examples
    --------
    >>> rouge_l(["police kill the gunman".split()], [["police killed the gunman".split()]]).tolist()
    [75.0]
    """
    _check(generated, references)
    scores = np.zeros(len(generated))
    for i, (caption, others) in enumerate(zip(generated, references, strict=True)):
        common = [_longest_common(caption, other) for other in others]
        precision = max(common) / max(1, len(caption))
        recall = max(n / max(1, len(other)) for n, other in zip(common, others, strict=True))
        if precision and recall:
            scores[i] = (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    return 100.0 * scores


def _longest_common(one: Caption, other: Caption) -> int:
    """The length of the longest common subsequence, by the bits of an integer (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << i
    whole = (1 << len(one)) - 1
    state = whole
    for word in other:
        match = state & places.get(word, 0)
        state = (state + match | state - match) & whole
    return len(one) - state.bit_count()


@dataclass(frozen=True)
class Cider:
    """CIDEr-D, which coco-caption calls CIDEr, and plain CIDEr (Vedantam et al., 2015), both times 100.

    `d` (N,): CIDEr-D, whose counts are clipped at the reference's and which punishes another length; `plain` (N,):
    CIDEr, the mean cosine. A caption that equals its only reference has 1000 / 4 for each order in which it has
    n-grams of weight.
    """

    d: np.ndarray
    plain: np.ndarray


def cider(generated: Sequence[Caption], references: References, frequencies: References | None = None) -> Cider:
    """CIDEr-D and CIDEr of each image.

    An n-gram weighs log N less log of the number of images whose references have it, which is at least 1. CIDEr-D is
    the mean, over n of 1 to 4 and over the references, of the product with the weighted counts clipped at the
    reference's, over both norms, times exp(-Δ² / 2σ²), where Δ is the difference in bigrams and σ is 6.

    Parameters
    ----------
    frequencies : the references of N images that the weights are counted in, such as those of the training images;
        by default `references`.

    Raises
    ------
    ValueError : there are no captions, an image has no reference, or the numbers of images differ.
    """
    _check(generated, references)
    captions, image = _flat(generated, references)
    n, scored = len(generated), len(captions)
    counted = image
    if frequencies is not None:
        captions = [*captions, *(caption for others in frequencies for caption in others)]
        sizes = np.fromiter(map(len, frequencies), np.int64, len(frequencies))
        counted = np.concatenate([image, np.repeat(np.arange(len(frequencies)), sizes)])
    images = n if frequencies is None else len(frequencies)
    first = n if frequencies is None else scored  # the captions from here on are those that weights are counted in
    d, plain = np.zeros(scored - n), np.zeros(scored - n)
    all_counts = counts_of(captions)
    bigrams = all_counts[1].total[:scored].astype(np.float64)
    gaussian = np.exp(-((bigrams[image[n:]] - bigrams[n:]) ** 2) / (2 * SIGMA**2))
    for counts in all_counts:
        base = counts.caption >= first
        of_image = counts.gram[base] * images + counted[counts.caption[base]]  # sorted: captions lie by image
        held = np.diff(of_image, prepend=-1) > 0
        frequency = np.bincount(counts.gram[base][held], minlength=int(counts.gram.max(initial=0)) + 1)
        weight = np.log(images) - np.log(np.maximum(1, frequency))
        value = counts.count * weight[counts.gram]
        norm = np.sqrt(np.bincount(counts.caption, value**2, minlength=len(captions)))
        # Each reference's n-grams are looked up in the caption that was generated for its image.
        ours, others = counts.caption < n, (counts.caption >= n) & (counts.caption < scored)
        keys = counts.gram[ours] * n + counts.caption[ours]
        both, place = _place(keys, counts.gram[others] * n + image[counts.caption[others]])
        own, reference = value[ours][place], value[others][both]
        of = counts.caption[others][both] - n
        norms = norm[image[n:]] * norm[n:scored]
        scale = np.divide(1.0, norms, out=np.zeros(scored - n), where=norms > 0)
        d += np.bincount(of, np.minimum(own, reference) * reference, minlength=scored - n) * scale * gaussian
        plain += np.bincount(of, own * reference, minlength=scored - n) * scale
    sizes = np.fromiter(map(len, references), np.int64, n)
    means = [np.bincount(image[n:], score, minlength=n) / sizes * (1000.0 / LONGEST) for score in (d, plain)]
    return Cider(*means)


def distinct(captions: Sequence[Caption], order: int) -> float:
    """distinct-n (Li et al., 2016): the share of n-grams that are different, over all captions, in per cent.

    Raises
    ------
    ValueError : the order is not between 1 and 4, or no caption has an n-gram of this order.
    """
    if not 1 <= order <= LONGEST:
        raise ValueError(f"order {order}: expected 1 to {LONGEST}")
    counts = counts_of(captions)[order - 1]
    if not counts.total.sum():
        raise ValueError(f"none of {len(captions)} captions has {order} words")
    return 100.0 * len(np.unique(counts.gram)) / float(counts.total.sum())


def novel(captions: Sequence[Caption], training: Iterable[Caption]) -> np.ndarray:
    """(N,) whether each caption is none of the training captions, word by word."""
    known = {tuple(caption) for caption in training}
    return np.array([tuple(caption) not in known for caption in captions], dtype=bool)
