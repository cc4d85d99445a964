"""The mini-batches of a training epoch, which depend on the data, the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from crossmodal.corpus.corpus import Corpus, ahead
from crossmodal.models.base import Batch
from crossmodal.models.parts.labelled import Sampling


def batches(
    corpus: Corpus,
    size: int,
    seed: int,
    epoch: int,
    unannotated: tuple[str, ...] = (),
    device: torch.device | None = None,
    modalities: tuple[str, ...] | None = None,
    steps: int = 0,
    sampling: Sampling = "shuffled",
    captions_per_image: int = 1,
) -> Iterator[Batch]:
    """Yield one epoch of shuffled mini-batches, a function of (seed, epoch) alone; the last batch may be smaller.

    A last batch of one pair is left out, since it has no negatives. For data with relevance by class, the number of
    rows of an epoch is the sum over classes of the number of training items in the class's largest modality.

    Parameters
    ----------
    size : pairs per batch.
    unannotated : inputs of un-annotated images that each batch contains as well (`Model.unannotated`).
    device : where the batches are moved; None leaves them on the CPU.
    modalities : the modalities that are trained; None for all. It applies to data with relevance by class.
    steps : number of batches, for which the pairs are shuffled and traversed as often as necessary; 0 for one pass.
        It applies to data with pairs.
    sampling : how the rows of data with relevance by class are drawn, also those of the source data set of a transfer.
    captions_per_image : each drawn pair is followed, at the end of the batch, by so many pairs less one of the same
        group, or by all others of a smaller group. It applies to data with pairs.
    """
    if corpus.classes is not None:
        stream = _rows(corpus, size, seed, epoch, modalities, sampling)
    else:
        stream = _batches(corpus, size, seed, epoch, unannotated, steps, captions_per_image)
    for batch in ahead(stream) if corpus.waits else stream:
        yield batch if device is None else batch.to(device)


def steps_of(corpus: Corpus, size: int, modalities: tuple[str, ...] | None = None, steps: int = 0) -> int:
    """The number of batches in an epoch; for data with pairs it is `steps` if that is not 0."""
    rows = corpus.n_rows(modalities)
    return steps if steps and corpus.classes is None else _once(rows, size)


def steps_over_all(corpus: Corpus, size: int) -> int:
    """The number of batches that cover all pairs and all un-annotated images; a batch has as many of both."""
    return _once(max(corpus.n_pairs, len(corpus.unannotated)), size)


def _once(rows: int, size: int) -> int:
    """The number of batches of `size` in one pass over `rows` rows; a last batch of one row is left out."""
    return rows // size + (rows % size > 1)


def _picks(n: int, size: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield shuffled batches of the numbers below `n`, in one pass, or as many batches as `steps` if that is not 0."""
    count = 0
    while count < max(steps, 1) and n > 1:
        parts = [part for part in torch.randperm(n, generator=generator).split(size) if len(part) > 1]
        yield from parts[: steps - count] if steps else parts
        count += len(parts)


def _shuffled(n: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield batches of `size` numbers below `n` without end; the numbers are shuffled anew for each pass."""
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(n, generator=generator)])
        yield left[:size]
        left = left[size:]


def _batches(
    corpus: Corpus, size: int, seed: int, epoch: int, unannotated: tuple[str, ...], steps: int, captions: int
) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    mates = _Mates(corpus, captions - 1) if captions > 1 else None
    if unannotated:  # the subset `full` has no un-annotated images, so those of the pairs are used instead
        pool = torch.from_numpy(corpus.unannotated if len(corpus.unannotated) else corpus.pairs["image"])
        # A second generator keeps the order of the pairs the same with and without un-annotated images.
        further = torch.Generator().manual_seed(seed * 1_000_003 + epoch + 2**40)
        places = _shuffled(len(pool), size, further)
    for drawn in _picks(corpus.n_pairs, size, steps, generator):
        picks = drawn if mates is None else torch.cat([drawn, mates.of(drawn, generator)])
        bare = pool[next(places)[: len(picks)]] if unannotated else None
        yield corpus.batch(picks, bare, unannotated)


class _Mates:
    """The other training pairs of each pair's group: the further captions of its image."""

    def __init__(self, corpus: Corpus, count: int):
        modality, index = next(iter(corpus.pairs.items()))
        groups = torch.from_numpy(corpus.inputs[modality].groups[index])
        self.count = count
        self.order = torch.argsort(groups, stable=True)  # pairs of a group stand beside each other
        _, codes, sizes = groups.unique(return_inverse=True, return_counts=True)
        self.starts, self.sizes = (sizes.cumsum(0) - sizes)[codes], sizes[codes]
        self.places = torch.empty_like(self.order).scatter(0, self.order, torch.arange(len(groups))) - self.starts

    def of(self, picks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(M,) further pairs, of each of the (B,) drawn ones at most `count` different ones."""
        sizes, others = self.sizes[picks], self.sizes[picks] - 1
        first = (torch.rand(len(picks), generator=generator) * others).long()
        steps = torch.arange(self.count)
        ahead = 1 + (first[:, None] + steps) % others.clamp(min=1)[:, None]  # 1 to size - 1, without repetition
        within = (self.places[picks][:, None] + ahead) % sizes[:, None]
        return self.order[self.starts[picks][:, None] + within][steps < others[:, None]]


def _rows(
    corpus: Corpus, size: int, seed: int, epoch: int, modalities: tuple[str, ...] | None, sampling: Sampling
) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    chosen = corpus.classes.draw(modalities or tuple(corpus.inputs), generator, sampling)
    parts = {m: index.split(size) for m, index in chosen.items()}
    further = None if corpus.source is None else _endless(corpus.source, size, generator, sampling)
    for place, first in enumerate(next(iter(parts.values()))):
        if len(first) >= 2:
            batch = corpus.gathered({m: pieces[place] for m, pieces in parts.items()})
            yield batch if further is None else replace(batch, source=next(further))


def _endless(corpus: Corpus, size: int, generator: torch.Generator, sampling: Sampling) -> Iterator[Batch]:
    """Yield full batches of rows without end, one epoch after another."""
    while True:
        chosen = corpus.classes.draw(tuple(corpus.inputs), generator, sampling)
        for start in range(0, max(1, corpus.n_rows() - size + 1), size):
            yield corpus.gathered({m: index[start : start + size] for m, index in chosen.items()})
