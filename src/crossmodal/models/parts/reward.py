"""CIDEr-D of captions as word ids against the training captions of their images, fast enough for every step.

The n-grams of all training captions are numbered once, with their weights; for a batch only its own n-grams are counted
and looked up. The values are those of `crossmodal.evaluation.captions.cider`, whose document frequencies are those of
the training images, divided by 100. The end mark counts as a word, as in public programs of self-critical training, so
that captions end properly; punctuation marks are words here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from crossmodal.core.errors import UserError
from crossmodal.language.tokens import PAD, START
from crossmodal.models.base import Context

LONGEST, SIGMA = 4, 6.0


@dataclass(frozen=True)
class _Order:
    """The n-grams of one order: `keys` (G,), sorted, whose places are their numbers; `weight` (G,).

    `entry` (E,), sorted, is number + G * reference for each n-gram of each of the R references; `value` (E,) its count
    times its weight; `norm` (R,).
    """

    keys: np.ndarray
    weight: np.ndarray
    entry: np.ndarray
    value: np.ndarray
    norm: np.ndarray


def _words(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words of (C, L) padded captions one after another, the caption of each, and how many follow it there."""
    valid = (ids != PAD) & (ids != START)
    caption = np.nonzero(valid)[0]
    counts = valid.sum(1)
    ends = np.repeat(np.cumsum(counts), counts)
    return ids[valid].astype(np.int64), caption, ends - np.arange(len(ends)) - 1


def _grams(
    words: np.ndarray, left: np.ndarray, size: int, known: list[np.ndarray] | None
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers of the n-grams of each order from 1 to 4, with the places of their first words.

    Parameters
    ----------
    size : the size of the vocabulary.
    known : sorted keys of each order whose n-grams keep their numbers, others have higher ones; None for none.

    Returns
    -------
    Per order the sorted keys, the numbers and the places.
    """
    numbers, places = np.zeros(len(words), np.int64), np.arange(len(words))
    orders = []
    for order in range(LONGEST):
        kept = left[places] >= order
        places, numbers = places[kept], numbers[kept]
        keys = numbers * size + words[places + order]
        if known is None:
            table, numbers = np.unique(keys, return_inverse=True)
        else:
            table = known[order]
            numbers = np.searchsorted(table, keys)
            new = numbers >= len(table)
            new[~new] = table[numbers[~new]] != keys[~new]
            numbers[new] = len(table) + np.unique(keys[new], return_inverse=True)[1]
        orders.append((table, numbers, places))
    return orders


class Reward:
    """CIDEr-D against the references of G images, which also give the document frequencies.

    Parameters
    ----------
    ids : (R, L) references as word ids, padded with 0; start marks are not counted.
    images : (R,) the image of each reference.
    size : the size of the vocabulary.
    """

    def __init__(self, ids: np.ndarray, images: np.ndarray, size: int):
        by_image = np.argsort(images, kind="stable")
        ids, images = ids[by_image], images[by_image]
        self.images, self.first, number = np.unique(images, return_index=True, return_inverse=True)
        self.last = np.append(self.first[1:], len(images))
        self.size = size
        words, caption, left = _words(ids)
        self.lengths = np.bincount(caption, minlength=len(ids))
        self.orders: list[_Order] = []
        for keys, numbers, places in _grams(words, left, size, None):
            of = caption[places]
            seen = np.unique(number[of] * len(keys) + numbers) % max(1, len(keys))
            frequency = np.bincount(seen, minlength=len(keys))
            weight = np.log(len(self.images)) - np.log(np.maximum(1, frequency))
            entry, count = np.unique(of * len(keys) + numbers, return_counts=True)
            value = count * weight[entry % max(1, len(keys))]
            norm = np.sqrt(np.bincount(entry // max(1, len(keys)), value**2, minlength=len(ids)))
            self.orders.append(_Order(keys, weight, entry, value, norm))

    @classmethod
    def of(cls, context: Context) -> Reward:
        """The reward by the training captions of a context.

        Raises
        ------
        UserError : a context without captions.
        """
        if context.captions is None:
            raise UserError("objective: self-critical training needs a data set with captions of its images")
        tokens, groups = context.captions()
        return cls(tokens.ids.numpy(), groups.numpy(), context.vocabulary_size)

    def __call__(self, ids: Tensor, images: np.ndarray) -> np.ndarray:
        """(N,) CIDEr-D of captions: 1.0 is what is printed as 100.

        Parameters
        ----------
        ids : (N, L) word ids, their end marks included, padded with 0.
        images : (N,) the image of each caption, one of those with references.
        """
        words, caption, left = _words(ids.numpy(force=True))
        row = np.searchsorted(self.images, images)
        first, count = self.first[row], self.last[row] - self.first[row]
        # One pair for each caption and reference of its image.
        of = np.repeat(np.arange(len(row)), count)
        reference = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count) + first[of]
        lengths = np.bincount(caption, minlength=len(row))
        bigrams, others = np.maximum(0, lengths - 1)[of], np.maximum(0, self.lengths - 1)[reference]
        total = np.zeros(len(of))
        grams = _grams(words, left, self.size, [order.keys for order in self.orders])
        for order, (_, numbers, places) in zip(self.orders, grams, strict=True):
            known = len(order.keys)
            if not known:
                continue
            width = known + len(words)  # numbers of n-grams, those without a reference included
            entry, counts = np.unique(caption[places] * width + numbers, return_counts=True)
            gram, own = entry % width, entry // width
            weight = np.full(len(gram), np.log(len(self.images)))
            weight[gram < known] = order.weight[gram[gram < known]]
            value = counts * weight
            norm = np.sqrt(np.bincount(own, value**2, minlength=len(row)))
            kept = gram < known
            gram, own, value = gram[kept], own[kept], value[kept]
            # Each of them beside each reference of its caption's image.
            each = np.repeat(np.arange(len(own)), count[own])
            pair = np.arange(len(each)) - np.repeat(np.cumsum(count[own]) - count[own], count[own])
            pair += np.repeat((np.cumsum(count) - count)[own], count[own])
            wanted = reference[pair] * known + gram[each]
            place = np.minimum(np.searchsorted(order.entry, wanted), len(order.entry) - 1)
            held = order.entry[place] == wanted
            theirs = order.value[place[held]]
            product = np.minimum(value[each[held]], theirs) * theirs
            norms = norm[of] * order.norm[reference]
            scale = np.divide(1.0, norms, out=np.zeros(len(of)), where=norms > 0)
            total += np.bincount(pair[held], product, minlength=len(of)) * scale
        total *= np.exp(-((bigrams - others) ** 2.0) / (2 * SIGMA**2))
        return np.bincount(of, total, minlength=len(row)) / count * (10.0 / LONGEST)
