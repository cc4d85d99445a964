"""Counts of the n-grams of captions, which are numbers here and counted by sorting, for all captions at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Caption = Sequence[Hashable]
"""The words of a caption, or their ids."""
LONGEST = 4


@dataclass(frozen=True)
class Counts:
    """How often each n-gram of one order occurs in each of C captions, sorted by n-gram and then by caption.

    `gram`, `caption` and `count` have one entry per distinct n-gram of a caption; `total` (C,) is the number of n-grams
    of each caption.
    """

    gram: np.ndarray
    caption: np.ndarray
    count: np.ndarray
    total: np.ndarray

    def among(self, mask: np.ndarray) -> Counts:
        """The entries that a mask keeps."""
        return Counts(self.gram[mask], self.caption[mask], self.count[mask], self.total)


def counts_of(captions: Sequence[Caption]) -> list[Counts]:
    """The counts of the n-grams of each order from 1 to 4; equal n-grams have equal numbers in all captions."""
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    words = [word for caption in captions for word in caption]
    index = {word: i for i, word in enumerate(dict.fromkeys(words))}
    ids = np.fromiter(map(index.__getitem__, words), np.int64, len(words))
    of = np.repeat(np.arange(len(captions)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(ids))  # words from here to the caption's end
    grams, starts = ids, np.arange(len(ids))
    counts = []
    for order in range(1, LONGEST + 1):
        if order > 1:
            kept = left[starts] >= order
            starts = starts[kept]
            grams = grams[kept] * max(1, len(index)) + ids[starts + order - 1]
        # The words lie by caption, so that a stable sort by n-gram leaves equal n-grams of a caption side by side.
        by_gram = np.argsort(grams, kind="stable")
        gram, caption = grams[by_gram], of[starts][by_gram]
        new = np.ones(len(gram), dtype=bool)
        new[1:] = gram[1:] != gram[:-1]
        number = np.cumsum(new) - 1
        new[1:] |= caption[1:] != caption[:-1]
        first = np.flatnonzero(new)
        count = np.diff(first, append=len(gram))
        counts.append(Counts(number[first], caption[first], count, np.maximum(0, lengths - order + 1)))
        grams = np.empty_like(number)
        grams[by_gram] = number  # small numbers anew, which the next order multiplies without an overflow
    return counts


def unit_weights(captions: Sequence[Caption], images: np.ndarray) -> csr_matrix:
    """The tf-idf vectors of captions, whose products are plain CIDEr (Vedantam et al., 2015) divided by 10.

    The counts of an n-gram weigh log N less log of the number of images whose captions have it.

    Parameters
    ----------
    captions : C captions, such as all captions of the training images.
    images : (C,) int64 number of each caption's image.

    Returns
    -------
    (C, V) float32; the part of each order n of 1 to 4 has the length 1/2, or 0 where no n-gram has a weight.
    """
    from scipy.sparse import coo_matrix, diags_array, hstack

    parts = []
    for counts in counts_of(captions):
        width = int(counts.gram.max(initial=-1)) + 1
        of_image = np.unique(np.stack([counts.gram, images[counts.caption]]), axis=1)
        weight = np.log(len(np.unique(images))) - np.log(np.bincount(of_image[0], minlength=width))
        value = (counts.count * weight[counts.gram]).astype(np.float32)
        table = coo_matrix((value, (counts.caption, counts.gram)), (len(captions), width)).tocsr()
        norm = np.sqrt(np.bincount(counts.caption, value.astype(np.float64) ** 2, len(captions)))
        parts.append(diags_array(np.divide(0.5, norm, out=np.zeros_like(norm), where=norm > 0)) @ table)
    return hstack(parts, format="csr", dtype=np.float32)
