"""Passes of all training pairs over a model before its training."""

from __future__ import annotations

import torch

from crossmodal.corpus.opening import load
from crossmodal.models import vsepp
from crossmodal.training.closed_form import prepare


def test_only_models_that_want_it_see_all_pairs_before_their_training(prepared):
    corpus = load(prepared / "toy", "full", vsepp.Model.reads, {"image": "raw"}, min_count=1)
    seen = []

    class Curious(vsepp.Model):
        def prepare(self, batches):
            seen.extend(batch.groups for batch in batches)

    settings = vsepp.Settings(dim=4, word_dim=3)
    prepare(vsepp.Model(settings, corpus.context), corpus)
    assert seen == []
    prepare(Curious(settings, corpus.context), corpus)
    assert len(torch.cat(seen)) == corpus.n_pairs == 108
