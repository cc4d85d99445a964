"""Stacked cross attention: scores of sets of regions with sentences, without a loop over either (SCAN, section 3.1).

The attended vector of a word is a weighted sum of an image's regions, and only its inner product with the word and its
norm are needed. Both follow from the cosines s of regions and words and from the regions' own inner products G:
w·Σ aᵢvᵢ = Σ aᵢsᵢ and ‖Σ aᵢvᵢ‖² = aᵀGa. So no d-dimensional vector is made for each (image, sentence, word).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Normalisation = Literal["clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "softmax", "none"]
Pooling = Literal["logsumexp", "mean", "max", "sum"]

EPSILON = 1e-8
DEFAULT_BUDGET = 32 * 2**20  # what is still in a processor's cache pays
BLOCK = 64  # images that sentences are counted out for


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

    Text-to-image attention has words as queries and regions as context (eq. 6 to 8); image-to-text attention the other
    way round (eq. 1 to 5).

    Parameters
    ----------
    context : (A, M, d) vectors of unit length. queries : (B, N, d) vectors of unit length.
    context_mask : (A, M) bool, vectors that are there. query_mask : (B, N) bool.
    smooth : inverse temperature of the attention's softmax (λ1).
    normalisation : of the cosines before the softmax. The norms are taken over the queries, as the paper prints them
        (eq. 1); `clipped` ones have their negative cosines multiplied by `slope` before; `softmax` is one over the
        queries.
    pooling : over the queries' relevances: log-sum-exp with `sharpness` (λ2; eq. 3), mean (eq. 4), max or sum.

    Returns
    -------
    (A, B) scores.
    """
    n_context, m, dim = context.shape
    n_queries, n, _ = queries.shape
    # (B, N, A, M): the context last, which the softmax runs over
    cosines = (queries.reshape(-1, dim) @ context.reshape(-1, dim).T).view(n_queries, n, n_context, m)
    weights = _normalised(cosines, query_mask[:, :, None, None], normalisation, slope)
    weights = (smooth * weights).masked_fill(~context_mask, -torch.inf).softmax(-1)
    gram = context @ context.transpose(1, 2)  # (A, M, M)
    by_image = weights.view(-1, n_context, m).transpose(0, 1)  # (A, BN, M)
    squared = (by_image * torch.bmm(by_image, gram)).sum(-1).T.reshape(n_queries, n, n_context)
    # Rounding may leave a tiny negative square.
    relevance = (weights * cosines).sum(-1) / squared.clamp(min=EPSILON).sqrt()  # (B, N, A)
    return pool(relevance, query_mask[:, :, None], pooling, sharpness).T


def _normalised(cosines: Tensor, there: Tensor, kind: Normalisation, slope: float) -> Tensor:
    """(B, N, A, M) cosines, normalised over the queries (N) that are there."""
    if kind == "none":
        return cosines
    if kind == "softmax":
        return cosines.masked_fill(~there, -torch.inf).softmax(1)
    if kind.startswith("clipped"):
        cosines = F.leaky_relu(cosines, slope)
    if kind == "clipped":
        return cosines
    own = cosines * there
    if kind.endswith("l1norm"):
        return cosines / own.abs().sum(1, keepdim=True).clamp(min=EPSILON)
    return cosines / own.square().sum(1, keepdim=True).clamp(min=EPSILON**2).sqrt()  # clamped: the root has a gradient


def pool(relevance: Tensor, there: Tensor, kind: Pooling, sharpness: float) -> Tensor:
    """(B, N, A) relevances of the queries that are `there` -> (B, A) scores."""
    if kind == "logsumexp":
        return (sharpness * relevance).masked_fill(~there, -torch.inf).logsumexp(1) / sharpness
    if kind == "max":
        return relevance.masked_fill(~there, -torch.inf).amax(1)
    total = (relevance * there).sum(1)
    return total if kind == "sum" else total / there.sum(1)


def in_blocks(
    score: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    images: Tensor,
    sentences: Tensor,
    image_mask: Tensor,
    sentence_mask: Tensor,
    budget: int = DEFAULT_BUDGET,
) -> Tensor:
    """(A, B) scores of all images with all sentences, as many at a time as keep their cosines within `budget` bytes.

    Sentences go through in the order of their lengths, so that little is spent on padding.

    Parameters
    ----------
    score : takes (a, M, d) images, (b, N, d) sentences and their masks, gives (a, b) scores.
    images : (A, M, d). sentences : (B, N, d). image_mask : (A, M) bool. sentence_mask : (B, N) bool.
    """
    lengths = sentence_mask.sum(1)
    order = torch.argsort(lengths, stable=True)
    found = images.new_empty(len(images), len(sentences))
    regions = images.shape[1]
    start = 0
    while start < len(order):
        # One sentence more may make all of them longer.
        cells = torch.arange(1, len(order) - start + 1, device=order.device) * lengths[order[start:]]
        most = budget // (4 * regions * min(len(images), BLOCK))
        count = max(1, int((cells <= most).sum()))
        chosen = order[start : start + count]
        words = int(lengths[chosen[-1]])
        block, mask = sentences[chosen, :words], sentence_mask[chosen, :words]
        step = max(1, budget // (4 * regions * count * words))
        for first in range(0, len(images), step):
            part = slice(first, first + step)
            found[part, chosen] = score(images[part], block, image_mask[part], mask)
        start += count
    return found
