"""Systems without gradient steps: all training pairs are handed over once."""

from __future__ import annotations

import torch

from crossmodal.corpus.corpus import Corpus
from crossmodal.models import base

ROWS = 1024  # of a batch


def fit(model: base.Model, corpus: Corpus) -> None:
    """Give a model that does not train all training pairs, a batch at a time."""
    every = torch.arange(corpus.n_pairs)
    model.fit(corpus.batch(picks) for picks in every.split(ROWS) if len(picks))
