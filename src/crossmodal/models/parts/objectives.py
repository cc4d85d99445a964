"""Objectives of captioners beside the likelihood: self-critical and contrastive training."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from crossmodal.core.errors import UserError
from crossmodal.models.parts.decoding import Sample


def self_critical(sample: Sample, advantage: Tensor) -> Tensor:
    """Self-critical sequence training (Rennie et al., 2017, eq. 8): -(r(w^s) - r(ŵ)) log p(w^s), the mean over words.

    The sum over a caption's words is divided by the number of all words, as public programs do, which changes the
    gradient's length only.

    Parameters
    ----------
    sample : N captions that were drawn.
    advantage : (N,) rewards r(w^s) less a baseline r(ŵ); see `advantage`.
    """
    return -(advantage[:, None] * sample.logs).sum() / sample.counts.sum()


def advantage(rewards: Tensor, greedy: Tensor | None) -> Tensor:
    """(B, S) rewards of the captions drawn for each image less a baseline.

    Parameters
    ----------
    rewards : (B, S) rewards of S captions for each of B images.
    greedy : (B,) rewards of the captions that greedy decoding generates (Rennie et al., 2017, eq. 8), or None for the
        mean reward of the other S - 1 captions of the image ("A Better Variant of Self-Critical Sequence Training",
        Luo, 2020).

    Raises
    ------
    UserError : a single caption per image, to which there is no other.
    """
    if greedy is not None:
        return rewards - greedy[:, None]
    count = rewards.shape[1]
    if count < 2:
        raise UserError("baseline: 'samples' compares the captions drawn for an image; set `samples` to 2 or more")
    return rewards - (rewards.sum(1, keepdim=True) - rewards) / (count - 1)


def mismatched(looks: Tensor, groups: Tensor, count: int, kind: Literal["similar", "random"]) -> Tensor:
    """(B, count) rows of a batch whose captions are of other images than each row's.

    Rows of its own image come last, where a batch has fewer than `count` other rows.

    Parameters
    ----------
    looks : (B, D) vectors of the images, which are compared by their cosine if `kind` is `similar`.
    groups : (B,) the image of each row.
    """
    if kind == "similar":
        unit = F.normalize(looks, dim=1)
        closeness = unit @ unit.T
    else:
        closeness = torch.rand(len(groups), len(groups), device=groups.device)
    closeness = closeness.masked_fill(groups[:, None] == groups, -torch.inf)
    return closeness.topk(min(count, len(groups)), 1).indices


def contrastive(own: Tensor, reference: Tensor, valid: Tensor, odds: float) -> dict[str, Tensor]:
    """Contrastive learning of captions (Dai and Lin, 2017), minimised.

    h = σ(log p_m - log p_n - log ν) is the probability that a caption belongs to its image, by the model's p_m and the
    reference's p_n, where ν mismatched captions stand against a true one. The loss is the mean over images of -log h of
    the true caption and of ν times the mean of -log(1 - h) over its K mismatched ones: with ν = K their sum, with
    ν = 1 the loss of the authors' program.

    Parameters
    ----------
    own, reference : (B, 1 + K) log-probabilities of captions under both models; the first of each row is the true one.
    valid : (B, 1 + K) whether a caption is of another image than the row's; others count as 0 in the mean.
    odds : ν.
    """
    margin = own - reference - math.log(odds)  # (B, 1 + K)
    true, false = -F.logsigmoid(margin[:, 0]), -F.logsigmoid(-margin[:, 1:])
    loss = true.mean() + odds * (false * valid[:, 1:]).mean(1).mean()
    return {"loss": loss, "true": true.detach().mean(), "likelihood": -own[:, 0].detach().mean()}
