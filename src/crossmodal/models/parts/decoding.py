"""Generating captions word by word: the likeliest word each time, a beam, or at random; batched over images.

A captioner gives the logits of the next word and its state; padding, the unknown word and the start are never said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from crossmodal.language.tokens import END, PAD, START, UNKNOWN

LARGEST_BEAM = 100  # ten times what is usual; its memory and time grow with it

State = Mapping[str, "Tensor | Mapping[str, Tensor]"]
"""Tensors by name with one row per caption, among which beams are chosen. A mapping in their place holds tensors with
one row per image, which all captions of the image share: the N captions are in the order of their B images, N / B for
each.
"""
Step = Callable[[Tensor, State], tuple[Tensor, State]]
"""Takes the (N,) last words and the state, and returns the (N, V) logits of the next words and the next state."""


def _allowed(logits: Tensor, unknown: bool = False) -> Tensor:
    """The logits, -inf for words that may not be said, to which the unknown word belongs unless `unknown`."""
    logits = logits.clone()
    logits[:, [PAD, START] if unknown else [PAD, UNKNOWN, START]] = -torch.inf
    return logits


def log_probabilities(logits: Tensor, unknown: bool = False) -> Tensor:
    """Log-probabilities of the words that may be said; those of the others are -inf."""
    return torch.log_softmax(_allowed(logits, unknown), 1)


def chosen(state: State, rows: Tensor) -> dict[str, Tensor | Mapping[str, Tensor]]:
    """The state of the captions at `rows`, which may repeat; an image's captions must stay with it."""
    return {name: value if isinstance(value, Mapping) else value[rows] for name, value in state.items()}


def repeated(state: State, count: int, times: int) -> dict[str, Tensor | Mapping[str, Tensor]]:
    """The state of `times` captions for each of the `count` captions of a state."""
    first = next(value for value in state.values() if isinstance(value, Tensor))
    return chosen(state, torch.arange(count, device=first.device).repeat_interleave(times))


def with_end(ids: Tensor, most: int) -> Tensor:
    """(N, L + 1) word ids with an end mark behind each caption (N, L) that has fewer than `most` words."""
    ids = torch.cat([ids, ids.new_full((len(ids), 1), PAD)], 1)
    counts = (ids != PAD).sum(1)
    ended = counts < most
    ids[ended, counts[ended]] = END
    return ids


@torch.no_grad()
def greedy(step: Step, state: State, count: int, most: int, device: torch.device) -> Tensor:
    """The likeliest word each time.

    Parameters
    ----------
    count : the number B of captions.
    most : the largest number of words.

    Returns
    -------
    (B, L) int64 word ids without the end mark, padded with 0; L is at most `most`.
    """
    last = torch.full((count,), START, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    said = []
    for _ in range(most):
        logits, state = step(last, state)
        last = _allowed(logits).argmax(1)
        ended |= last == END
        said.append(last.masked_fill(ended, PAD))
        if ended.all():
            break
    return torch.stack(said, 1)


class Sample(NamedTuple):
    """Captions whose words were drawn at random.

    `ids` (N, L): their words with the end mark, padded with 0. `logs` (N, L): the log-probabilities of these words,
    which gradients flow through; 0 for padding.
    """

    ids: Tensor
    logs: Tensor

    @property
    def counts(self) -> Tensor:
        """(N,) numbers of words, end marks included."""
        return (self.ids != PAD).sum(1)


def sample(
    step: Step,
    state: State,
    count: int,
    most: int,
    device: torch.device,
    generator: torch.Generator | None = None,
    first: Tensor | None = None,
    unknown: bool = False,
) -> Sample:
    """Draw each word by its probability.

    Parameters
    ----------
    count : the number N of captions.
    most : the largest number of words, the end mark included.
    generator : the source of the random numbers; None for torch's own, which training seeds for each epoch.
    first : the (N,) words behind which the captions are drawn; None for the start mark.
    unknown : whether the unknown word may be drawn, as it is read in captions of people.
    """
    last = torch.full((count,), START, device=device) if first is None else first
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    ids, logs = [], []
    for _ in range(most):
        logits, state = step(last, state)
        log = log_probabilities(logits, unknown)
        last = torch.multinomial(log.detach().exp(), 1, generator=generator)
        logs.append(log.gather(1, last)[:, 0].masked_fill(ended, 0.0))
        last = last[:, 0].masked_fill(ended, PAD)
        ids.append(last)
        ended = ended | (last == END)
        if ended.all():
            break
    return Sample(torch.stack(ids, 1), torch.stack(logs, 1))


@torch.no_grad()
def beam(
    step: Step, state: State, count: int, most: int, width: int, device: torch.device, power: float = 0.0
) -> Tensor:
    """The caption with the highest log-probability among those that a beam finds.

    Of each image, the `width` likeliest captions of one more word are kept, as in the programs of captioners. One that
    ends leaves the beam with its log-probability, its end mark included, and the next step fills its place. The image
    is done once no unfinished caption can become better or `most` words are said; what is unfinished counts as it is.

    An end mark thus has to be among the likeliest words. If each caption could end at each step, the likeliest one as a
    whole would often be the empty one (Stahlberg and Byrne, 2019).

    Parameters
    ----------
    state : the state of B captions, one per image.
    width : unfinished captions per image, at least 1.
    power : of the number of words by which a log-probability is divided, from 0 to 1: 0 for the log-probability of the
        whole caption, 1 for the mean per word, which prefers longer captions.

    Returns
    -------
    (B, L) int64 word ids without the end mark, padded with 0.

    Raises
    ------
    ValueError : a width below 1.
    """
    if width < 1:
        raise ValueError(f"a beam of {width}: expected at least 1")
    first = torch.arange(count, device=device)
    state = repeated(state, count, width)
    words = torch.zeros(count, width, 0, dtype=torch.int64, device=device)
    last = torch.full((count * width,), START, device=device)
    total = torch.full((count, width), -torch.inf, dtype=torch.float64, device=device)
    total[:, 0] = 0.0  # all beams are the same caption at first
    best = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)
    best_words = torch.zeros(count, most, dtype=torch.int64, device=device)
    for length in range(1, most + 1):
        logits, state = step(last, state)
        logits = _allowed(logits)
        base = total - torch.logsumexp(logits, 1).view(count, width)  # a word's log-probability is its logit less that
        # The best words of all beams are among the best ones of each.
        highest, likely = logits.topk(min(width, logits.shape[1]), 1)
        total, place = (base[:, :, None] + highest.view(count, width, -1)).flatten(1).topk(width, 1)
        origin, word = place // highest.shape[1], likely.view(count, -1).gather(1, place)
        words = words.gather(1, origin[:, :, None].expand(-1, -1, length - 1))
        ended = word == END
        _keep(best, best_words, words, (total / length**power).masked_fill(~ended, -torch.inf))
        total = total.masked_fill(ended, -torch.inf)
        words = torch.cat([words, word[:, :, None]], 2)
        # Log-probabilities only fall, and at most `most` words divide them, so that nothing better can follow then.
        if bool((total.amax(1) / most**power <= best).all()):
            break
        last = word.flatten()
        state = chosen(state, (first[:, None] * width + origin).flatten())
    else:
        _keep(best, best_words, words, total / most**power)
    return best_words[:, : max(1, int((best_words != PAD).sum(1).max()))]


def _keep(best: Tensor, best_words: Tensor, words: Tensor, scores: Tensor) -> None:
    """Remember, in place, the captions of the beams (B, W, L) where they score (B, W) higher than the best so far."""
    score, place = scores.max(1)
    better = score > best
    best[better] = score[better]
    rows = better.nonzero()[:, 0]
    best_words[rows] = PAD
    best_words[rows, : words.shape[2]] = words[rows, place[rows]]
