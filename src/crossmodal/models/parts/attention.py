"""Stacked cross attention: scores of sets of regions with sentences, without a loop over either.

In SCAN (Lee et al., 2018, section 3.1), the attended vector of a word is a weighted sum of an image's regions, of which
only its norm and its inner product with the word are needed. Both follow from the cosines s of regions and words and
from the regions' own inner products G: w·Σ aᵢvᵢ = Σ aᵢsᵢ and ‖Σ aᵢvᵢ‖² = aᵀGa. So no d-dimensional vector is computed
for each (image, sentence, word).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Normalisation = Literal["clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "softmax", "none"]
Pooling = Literal["logsumexp", "mean", "max", "sum"]

Score = Callable[[Tensor, Any, Tensor, Tensor], Tensor]
"""Scores (a, b) of (a, M, d) images with (b, N, d) sentences, or with what was prepared of them, and their masks."""

EPSILON = 1e-8
BUDGET = 8 * 2**20  # bytes; larger blocks do not fit a processor's cache and are slower
DEVICE_BUDGET = 256 * 2**20  # of a device that is kept waiting by small blocks
BLOCK = 64  # images at once
LEARNED = BUDGET // 2  # of blocks that are differentiated (measured): smaller ones add gradients more often
FEW = 1 / 8  # share of the pairs below which pairs alone take less time than blocks


def cross_attention_scores(
    context: Tensor,
    queries: Tensor,
    context_mask: Tensor,
    query_mask: Tensor,
    *,
    smooth: float,
    normalisation: Normalisation = "clipped_l2norm",
    slope: float = 0.0,
    pooling: Pooling = "logsumexp",
    sharpness: float = 6.0,
) -> Tensor:
    """Scores of every set of queries with every set of contexts, each query attending to the context.

    Text-to-image attention has words as queries and regions as context (SCAN, eq. 6 to 8); image-to-text attention has
    regions as queries and words as context (eq. 1 to 5).

    Parameters
    ----------
    context, queries : (A, M, d) and (B, N, d) vectors of unit length, zeros for padding.
    context_mask, query_mask : (A, M) and (B, N) bool, false for padding.
    smooth : inverse temperature of the attention's softmax (λ1).
    normalisation : of the cosines before that softmax. Norms are taken over the queries, as in eq. 1; the `clipped`
        kinds first multiply negative cosines by `slope`; `softmax` is a softmax over the queries.
    pooling : over the queries' relevances: log-sum-exp with `sharpness` (λ2; eq. 3), mean (eq. 4), max or sum.

    Returns
    -------
    (A, B) scores.
    """
    n_context, m, dim = context.shape
    n_queries, n, _ = queries.shape
    # (A, M, N, B): softmax, norms and sums run over M or N, and vector instructions over B. With N last, a softmax
    # over a dimension as short as a sentence would take longer than the products.
    flat = queries.transpose(0, 1).reshape(-1, dim)
    cosines = (context.reshape(-1, dim) @ flat.T).view(n_context, m, n, n_queries)
    absent = torch.zeros_like(context_mask, dtype=cosines.dtype).masked_fill(~context_mask, -torch.inf)
    weights = _normalised(cosines, query_mask.T, normalisation, slope)
    weights = torch.add(absent[:, :, None, None], weights, alpha=smooth).softmax(1)
    gram = context @ context.transpose(1, 2)  # (A, M, M)
    of_gram = torch.bmm(gram, weights.flatten(2)).view_as(weights)
    squared = (weights * of_gram).sum(1)
    # Rounding may leave a tiny negative square.
    relevance = (weights * cosines).sum(1) / squared.clamp(min=EPSILON).sqrt()  # (A, N, B)
    return pool(relevance, query_mask.T, pooling, sharpness)


def _normalised(cosines: Tensor, valid: Tensor, kind: Normalisation, slope: float) -> Tensor:
    """(A, M, N, B) cosines, zeros where (N, B) `valid` is false, normalised over the queries (N)."""
    if kind == "none":
        return cosines
    if kind == "softmax":
        return cosines.masked_fill(~valid, -torch.inf).softmax(2)
    if kind.startswith("clipped"):
        cosines = F.leaky_relu(cosines, slope)
    if kind == "clipped":
        return cosines
    if kind.endswith("l1norm"):
        return cosines / cosines.abs().sum(2, keepdim=True).clamp(min=EPSILON)
    # Clamped before the root, whose gradient is infinite at 0.
    return cosines / cosines.square().sum(2, keepdim=True).clamp(min=EPSILON**2).sqrt()


def pool(relevance: Tensor, valid: Tensor, kind: Pooling, sharpness: float) -> Tensor:
    """(A, N, B) relevances -> (A, B) scores, pooled over the queries for which (N, B) `valid` is true."""
    if kind == "logsumexp":
        return (sharpness * relevance).masked_fill(~valid, -torch.inf).logsumexp(1) / sharpness
    if kind == "max":
        return relevance.masked_fill(~valid, -torch.inf).amax(1)
    total = (relevance * valid).sum(1)
    return total if kind == "sum" else total / valid.sum(0)


def in_blocks(
    score: Score,
    images: Tensor,
    sentences: Tensor,
    image_mask: Tensor,
    sentence_mask: Tensor,
    budget: int | None = None,
    images_at_once: int = BLOCK,
    prepare: Callable[[Tensor, Tensor], Any] | None = None,
) -> Tensor:
    """(A, B) scores of all images with all sentences, in blocks whose cosines take at most `budget` bytes.

    Sentences are processed in the order of their lengths, so that blocks have little padding.

    Parameters
    ----------
    score : function of (a, M, d) images, (b, N, d) sentences and their masks that returns (a, b) scores.
    images, sentences : (A, M, d) and (B, N, d) vectors.
    image_mask, sentence_mask : (A, M) and (B, N) bool, false for padding.
    budget : bytes; unless given, `BUDGET` on a CPU and `DEVICE_BUDGET` elsewhere.
    images_at_once : images for which the number of sentences of a block is computed; with fewer of them there are more
        sentences in a block.
    prepare : function of (b, N, d) sentences and their masks whose value `score` takes in their place, so that what
        depends on sentences alone is computed once for all images.
    """
    scores = images.new_empty(len(images), len(sentences))
    for block in _blocks(images, sentence_mask, budget, images_at_once):
        words, mask = sentences[block.sentences, : block.words], sentence_mask[block.sentences, : block.words]
        given = prepare(words, mask) if prepare else words
        for part in block.images:
            scores[part, block.sentences] = score(images[part], given, image_mask[part], mask)
    return scores


class Block(NamedTuple):
    """Sentences that are scored together, sorted by length, and the images that they are scored with, in turn."""

    sentences: Tensor  # (b,) their rows
    words: int  # number of words of the longest
    images: list[slice]


def _blocks(images: Tensor, sentence_mask: Tensor, budget: int | None, images_at_once: int = BLOCK) -> Iterator[Block]:
    """Blocks of all pairs whose cosines take at most `budget` bytes; arguments as of `in_blocks`."""
    if budget is None:
        budget = BUDGET if images.device.type == "cpu" else DEVICE_BUDGET
    lengths = sentence_mask.sum(1)
    order = torch.argsort(lengths, stable=True)
    regions = images.shape[1]
    start = 0
    while start < len(order):
        # One more sentence may be longer, and all sentences of the block are padded to it.
        cells = torch.arange(1, len(order) - start + 1, device=order.device) * lengths[order[start:]]
        most = budget // (4 * regions * min(len(images), images_at_once))
        count = max(1, int((cells <= most).sum()))
        chosen = order[start : start + count]
        words = int(lengths[chosen[-1]])
        step = max(1, budget // (4 * regions * count * words))
        yield Block(chosen, words, [slice(first, first + step) for first in range(0, len(images), step)])
        start += count


def checkpointed_scores(
    score: Score,
    images: Tensor,
    sentences: Tensor,
    image_mask: Tensor,
    sentence_mask: Tensor,
    parameters: Iterable[Tensor] = (),
) -> Tensor:
    """`in_blocks` for training: the backward pass computes the scores again, of those pairs alone that it needs.

    Most of the pairs of a batch have no part in a hinge loss with hardest negatives: of (A, B) scores, at most 2·A + B
    have a gradient. The gradients are those of all pairs at once, but for rounding; nothing is kept of each pair until
    then.

    Parameters
    ----------
    score : differentiable function of (a, M, d) images, (b, N, d) sentences and their masks that returns (a, b) scores,
        which `torch.vmap` can map.
    images, sentences, image_mask, sentence_mask : as of `in_blocks`.
    parameters : what else `score` reads that has a gradient.

    Returns
    -------
    (A, B) scores.
    """
    return _Checkpointed.apply(score, image_mask, sentence_mask, images, sentences, *parameters)


class _Checkpointed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, score: Score, image_mask: Tensor, sentence_mask: Tensor, *inputs: Tensor) -> Tensor:
        ctx.score = score
        ctx.save_for_backward(image_mask, sentence_mask, *inputs)
        return in_blocks(score, *inputs[:2], image_mask, sentence_mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image_mask, sentence_mask, images, sentences, *parameters = ctx.saved_tensors
        of_images, of_sentences, *others = (torch.zeros_like(x) for x in (images, sentences, *parameters))
        rows, columns = gradient.nonzero(as_tuple=True)
        if not len(rows):
            return None, None, None, of_images, of_sentences, *others
        if len(rows) <= gradient.numel() * FEW:

            def of_pair(*pair: Tensor) -> Tensor:
                return ctx.score(*(side[None] for side in pair))

            pairs = images[rows], sentences[columns], image_mask[rows], sentence_mask[columns]
            given = gradient[rows, columns]
            of_images, of_sentences, *others = _gradients(torch.vmap(of_pair), *pairs, parameters, given)
            return None, None, None, _added(of_images, rows, images), _added(of_sentences, columns, sentences), *others
        for block in _blocks(images, sentence_mask, LEARNED if images.device.type == "cpu" else None):
            words, mask = sentences[block.sentences, : block.words], sentence_mask[block.sentences, : block.words]
            total = torch.zeros_like(words)
            for part in block.images:
                given = gradient[part, block.sentences]
                found = _gradients(ctx.score, images[part], words, image_mask[part], mask, parameters, given)
                for whole, one in zip((of_images[part], total, *others), found, strict=True):
                    whole += one
            of_sentences[block.sentences, : block.words] = total
        return None, None, None, of_images, of_sentences, *others


def _gradients(
    score: Score,
    images: Tensor,
    sentences: Tensor,
    image_mask: Tensor,
    sentence_mask: Tensor,
    parameters: list[Tensor],
    gradient: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients to images, sentences and parameters that follow from that to the scores."""
    with torch.enable_grad():
        sides = images.detach().requires_grad_(), sentences.detach().requires_grad_()
        scores = score(*sides, image_mask, sentence_mask)
    return torch.autograd.grad(scores, (*sides, *parameters), gradient.view_as(scores))


def _added(parts: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """(A, ...) sums of the (P, ...) parts that belong to each of A rows, in one order on any device."""
    member = rows == torch.arange(len(like), device=rows.device)[:, None]
    return (member.to(parts.dtype) @ parts.flatten(1)).view_as(like)
