"""Passes of all training pairs over a model: the fit of closed-form systems, and the preparation of others."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from crossmodal.core.console import tracked
from crossmodal.corpus.corpus import Corpus
from crossmodal.models import base

ROWS = 1024  # number of pairs per batch


def fit(model: base.Model, corpus: Corpus) -> None:
    """Fit a closed-form model to all training pairs, which it receives batch by batch."""
    model.fit(_pairs(corpus))


def prepare(model: base.Model, corpus: Corpus) -> None:
    """Show all training pairs to a model before its training, if it overrides `Model.prepare`."""
    if type(model).prepare is not base.Model.prepare:
        model.prepare(_pairs(corpus))


def _pairs(corpus: Corpus) -> Iterator[base.Batch]:
    parts = [picks for picks in torch.arange(corpus.n_pairs).split(ROWS) if len(picks)]
    return (corpus.batch(picks) for picks in tracked(parts, "training pairs read", unit="batches"))
