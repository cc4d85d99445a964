"""What a model is trained on: the batches of an epoch, a function of the seed and the epoch alone."""

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
) -> Iterator[Batch]:
    """One epoch of shuffled batches, a function of (seed, epoch) alone; the last may be smaller.

    A lone pair has no negative, so it is left out. Of data with classes an epoch has as many rows as the largest of its
    `modalities` has training items, class by class.

    Parameters
    ----------
    sampling : how the rows of data with classes are drawn, its own and those of the data that is transferred from.
    steps : batches, for which the pairs are shuffled and gone through as often as it takes; 0: once.
    """
    if corpus.classes is not None:
        made = _rows(corpus, size, seed, epoch, modalities, sampling)
    else:
        made = _batches(corpus, size, seed, epoch, unannotated, steps)
    for batch in ahead(made) if corpus.waits else made:
        yield batch if device is None else batch.to(device)


def steps_of(corpus: Corpus, size: int, modalities: tuple[str, ...] | None = None, steps: int = 0) -> int:
    """Batches of an epoch, of which `steps` may be asked for where there are pairs."""
    rows = corpus.n_rows(modalities)
    return steps if steps and corpus.classes is None else _once(rows, size)


def steps_over_all(corpus: Corpus, size: int) -> int:
    """Batches in which all pairs and all un-annotated images come, whichever are more; a batch has as many of each."""
    return _once(max(corpus.n_pairs, len(corpus.unannotated)), size)


def _once(rows: int, size: int) -> int:
    """Batches of `size` that go through so many rows once; a lone last one is left out."""
    return rows // size + (rows % size > 1)


def _picks(n: int, size: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Numbers below `n` in shuffled batches: once all of them, or so many batches."""
    made = 0
    while made < max(steps, 1) and n > 1:
        parts = [part for part in torch.randperm(n, generator=generator).split(size) if len(part) > 1]
        yield from parts[: steps - made] if steps else parts
        made += len(parts)


def _shuffled(n: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches of `size` numbers below `n`: shuffled, and gone through as often as it takes."""
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(n, generator=generator)])
        yield left[:size]
        left = left[size:]


def _batches(
    corpus: Corpus, size: int, seed: int, epoch: int, unannotated: tuple[str, ...], steps: int
) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    if unannotated:  # in `full` nothing is, and the pairs' own images play the part
        pool = torch.from_numpy(corpus.unannotated if len(corpus.unannotated) else corpus.pairs["image"])
        # With draws of their own: the order of the pairs is the same whether these are brought or not.
        further = torch.Generator().manual_seed(seed * 1_000_003 + epoch + 2**40)
        places = _shuffled(len(pool), size, further)
    for picks in _picks(corpus.n_pairs, size, steps, generator):
        bare = pool[next(places)[: len(picks)]] if unannotated else None
        yield corpus.batch(picks, bare, unannotated)


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
    """Whole batches of rows, one epoch after another."""
    while True:
        chosen = corpus.classes.draw(tuple(corpus.inputs), generator, sampling)
        for start in range(0, max(1, corpus.n_rows() - size + 1), size):
            yield corpus.gathered({m: index[start : start + size] for m, index in chosen.items()})
