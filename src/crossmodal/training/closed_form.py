"""Fits closed-form systems, which make no gradient steps and see all training pairs once."""

from __future__ import annotations

import torch

from crossmodal.core.console import tracked
from crossmodal.corpus.corpus import Corpus
from crossmodal.models import base

ROWS = 1024  # number of pairs per batch


def fit(model: base.Model, corpus: Corpus) -> None:
    """Fit a closed-form model to all training pairs, which it receives batch by batch."""
    parts = [picks for picks in torch.arange(corpus.n_pairs).split(ROWS) if len(picks)]
    model.fit(corpus.batch(picks) for picks in tracked(parts, "training pairs read", unit="batches"))
